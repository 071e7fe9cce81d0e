//! Packets over byte vectors and tables over hash maps: the host's side of the differential test, and what this
//! crate's own tests use.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, VecDeque},
};

use xebec_abi::{
    Addr4, Addr6, Affinity, AffinityKey, Backend, BackendKey, Counter, DropReason, Endpoint, Flow, FlowKey,
    FragmentKey, FrontendKey, FrontendValue, L2Key, L2Mac, LocalPod, MaglevBlock, MaglevKey, MemberKey, PodRate, Ports,
    PrefixKey, ServiceId, Tuple,
    limits::{TRANSIENT_FLOWS_MAX, TRANSIENT_NAT_MAX},
};

use crate::{
    Csum, Family, FlowMap, Host, Packet, Room, Settings, Tables, Unwanted, conntrack, csum,
    limit::{Admission, Charge},
    xdp::Grow,
};

/// A packet whose checksums are complete, as from a wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bytes(pub Vec<u8>);

impl Packet for Bytes {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    /// On a wire everything is cut already.
    fn segment_bytes(&self) -> u32 {
        0
    }

    fn pull(&mut self, bytes: u32) -> bool {
        bytes as usize <= self.0.len()
    }

    fn resize(&mut self, bytes: u32) -> Option<()> {
        self.0.resize(bytes as usize, 0);
        Some(())
    }

    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset + N)?.try_into().ok()
    }

    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        self.0.get_mut(offset..offset + N)?.copy_from_slice(&bytes);
        Some(())
    }

    /// As `bpf_skb_ecn_set_ce`.
    fn mark_congestion(&mut self) -> bool {
        let ethertype = self.load::<2>(12);
        let Some([first, second]) = self.load::<2>(14) else { return false };
        let (traffic_class, at) = match ethertype {
            Some([0x08, 0x00]) => (second, 15),
            Some([0x86, 0xdd]) => (first << 4 | second >> 4, 15),
            _ => return false,
        };
        let ecn = traffic_class & 3;
        if ecn == 0 || ecn == 3 {
            return ecn == 3;
        }
        if ethertype == Some([0x86, 0xdd]) {
            return self.store(at, [second | 3 << 4]).is_some();
        }
        // The sum of the header's words grows by what the byte does, so its complement shrinks (RFC 1624).
        let Some([high, low]) = self.load::<2>(24) else { return false };
        let sum = u32::from(u16::from_be_bytes([high, low])) + u32::from(!u16::from(3 - ecn));
        let check = (sum & 0xffff) + (sum >> 16);
        self.store(at, [second | 3]).and_then(|()| self.store(24, (check as u16).to_be_bytes())).is_some()
    }

    /// A packet from a wire has no device's sum.
    fn add_frame_csum(&mut self, _diff: u32) {}

    /// As `bpf_l4_csum_replace` with a difference does for a packet with a complete checksum (net/core/filter.c).
    fn add_csum(&mut self, offset: usize, diff: u32, _csum: Csum, optional: bool) -> Option<()> {
        csum::apply(self, offset, diff, optional)
    }
}

impl Grow for Bytes {
    fn grow(&mut self, bytes: usize) -> Option<()> {
        self.0.splice(..0, std::iter::repeat_n(0, bytes));
        Some(())
    }
}

/// Of the overlay 7.
pub const DSR_VNI: u32 = 0x80_0007;

/// A node's settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node<A> {
    pub node_ip: A,
    pub gateway_ip: A,
    pub hairpin_ip: A,
    pub cluster: (A, u8),
    pub services: (A, u8),
    pub node_prefix_len: u8,
    pub overlay: bool,
    pub overlay_vni: u32,
    pub tunnel_ip: Addr4,
    pub pod_mtu: u32,
    pub dsr_vni: u32,
    pub snat_ports: (u16, u16),
    pub node_netns: u64,
    pub hash_seed: u32,
}

impl Default for Node<Addr4> {
    fn default() -> Self {
        Self {
            node_ip: [172, 30, 0, 11],
            gateway_ip: [10, 244, 1, 1],
            hairpin_ip: xebec_abi::config::HAIRPIN_IP,
            cluster: ([10, 244, 0, 0], 16),
            services: ([10, 96, 0, 0], 12),
            node_prefix_len: 24,
            overlay: true,
            overlay_vni: 7,
            tunnel_ip: [172, 30, 0, 11],
            pod_mtu: 1_450,
            dsr_vni: DSR_VNI,
            snat_ports: (61_000, 65_535),
            node_netns: 1,
            hash_seed: 1,
        }
    }
}

impl Default for Node<Addr6> {
    fn default() -> Self {
        let addr = |text: &str| text.parse::<std::net::Ipv6Addr>().map(Addr6::from).unwrap_or_default();
        Self {
            node_ip: addr("2001:db8::11"),
            gateway_ip: addr("fd10:db8:0:1::1"),
            hairpin_ip: xebec_abi::config::HAIRPIN_IP6,
            cluster: (addr("fd10:db8::"), 48),
            services: (addr("fd96:db8::"), 112),
            node_prefix_len: 64,
            overlay: true,
            overlay_vni: 7,
            tunnel_ip: [172, 30, 0, 11],
            pod_mtu: 1_450,
            dsr_vni: DSR_VNI,
            snat_ports: (61_000, 65_535),
            node_netns: 1,
            hash_seed: 1,
        }
    }
}

/// The maps of a family.
#[derive(Clone, Debug)]
pub struct Model<A: Family = Addr4> {
    pub node: Node<A>,
    pub frontends: HashMap<FrontendKey<A>, FrontendValue>,
    pub backends: HashMap<BackendKey, Backend<A>>,
    pub maglev: HashMap<MaglevKey, MaglevBlock>,
    pub members: HashMap<MemberKey<A>, u32>,
    /// Networks, with their prefix lengths, by service.
    pub ranges: HashMap<ServiceId, Vec<(A, u8)>>,
    pub affinity: RefCell<HashMap<AffinityKey<A>, Affinity<A>>>,
    pub conntrack: RefCell<HashMap<FlowKey<A>, Flow<A>>>,
    pub nat: RefCell<HashMap<FlowKey<A>, Flow<A>>>,
    /// By map, the longest waiting first.
    pub transient: RefCell<[VecDeque<FlowKey<A>>; 2]>,
    pub fragments: RefCell<HashMap<FragmentKey<A>, Ports>>,
    pub announced: HashMap<L2Key<A>, L2Mac>,
    pub pods: HashMap<A, LocalPod>,
    pub remotes: HashMap<PrefixKey<A>, Endpoint<A>>,
    /// By the device of the pod.
    pub rates: RefCell<HashMap<u32, PodRate>>,
    pub counters: RefCell<BTreeMap<Counter, u64>>,
    /// Of packets that became their own answers: how many, and their bytes.
    pub drops: RefCell<BTreeMap<DropReason, (u64, u64)>>,
    pub now_ns: Cell<u64>,
    pub random: Cell<u32>,
    /// Flows that fit; more are refused.
    pub flows_max: Option<usize>,
    /// Transient flows that fit, by map.
    pub transient_max: [u32; 2],
}

impl<A: Family> Default for Model<A>
where
    Node<A>: Default,
{
    fn default() -> Self {
        Self {
            node: Default::default(),
            frontends: Default::default(),
            backends: Default::default(),
            maglev: Default::default(),
            members: Default::default(),
            ranges: Default::default(),
            affinity: Default::default(),
            conntrack: Default::default(),
            nat: Default::default(),
            transient: Default::default(),
            fragments: Default::default(),
            announced: Default::default(),
            pods: Default::default(),
            remotes: Default::default(),
            rates: Default::default(),
            counters: Default::default(),
            drops: Default::default(),
            now_ns: Default::default(),
            random: Default::default(),
            flows_max: Default::default(),
            transient_max: [TRANSIENT_FLOWS_MAX, TRANSIENT_NAT_MAX],
        }
    }
}

impl<A: Family> Model<A> {
    pub fn counted(&self, counter: Counter) -> u64 {
        self.counters.borrow().get(&counter).copied().unwrap_or(0)
    }

    pub fn dropped(&self, reason: DropReason) -> (u64, u64) {
        self.drops.borrow().get(&reason).copied().unwrap_or_default()
    }

    fn flows(&self, map: FlowMap) -> &RefCell<HashMap<FlowKey<A>, Flow<A>>> {
        match map {
            FlowMap::Conntrack => &self.conntrack,
            FlowMap::Nat => &self.nat,
        }
    }
}

impl<A: Family> Settings<A> for Model<A> {
    fn node_ip(&self) -> A {
        self.node.node_ip
    }

    fn gateway_ip(&self) -> A {
        self.node.gateway_ip
    }

    fn hairpin_ip(&self) -> A {
        self.node.hairpin_ip
    }

    fn in_cluster(&self, addr: A) -> bool {
        contains(self.node.cluster, addr)
    }

    fn in_services(&self, addr: A) -> bool {
        contains(self.node.services, addr)
    }

    fn node_prefix(&self, addr: A) -> (A, u8) {
        let len = self.node.node_prefix_len;
        (addr.truncated(len), len)
    }
}

impl<A: Family> Host for Model<A> {
    fn overlay(&self) -> bool {
        self.node.overlay
    }

    fn overlay_vni(&self) -> u32 {
        self.node.overlay_vni
    }

    fn tunnel_ip(&self) -> Addr4 {
        self.node.tunnel_ip
    }

    fn pod_mtu(&self) -> u32 {
        self.node.pod_mtu
    }

    fn dsr_vni(&self) -> u32 {
        self.node.dsr_vni
    }

    fn snat_port_min(&self) -> u16 {
        self.node.snat_ports.0
    }

    fn snat_port_max(&self) -> u16 {
        self.node.snat_ports.1
    }

    fn node_netns(&self) -> u64 {
        self.node.node_netns
    }

    fn hash_seed(&self) -> u32 {
        self.node.hash_seed
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn random(&self) -> u32 {
        self.random.get()
    }

    fn count(&self, counter: Counter, _bytes: u64) {
        *self.counters.borrow_mut().entry(counter).or_default() += 1;
    }

    fn count_drop(&self, reason: DropReason, bytes: u64) {
        let mut drops = self.drops.borrow_mut();
        let (packets, all) = drops.entry(reason).or_default();
        (*packets, *all) = (*packets + 1, *all + bytes);
    }

    fn charge(&self, ifindex: u32, decide: impl FnOnce(&PodRate) -> Charge) -> Admission {
        let mut rates = self.rates.borrow_mut();
        let Some(rate) = rates.get_mut(&ifindex) else { return Admission::Pass };
        let charge = decide(rate);
        if charge.start_ns != 0 {
            rate.full_ns = charge.start_ns;
        }
        rate.full_ns += charge.add_ns;
        charge.admission
    }
}

impl<A: Family> Tables<A> for Model<A> {
    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue> {
        self.frontends.get(key).copied()
    }

    fn backend(&self, key: &BackendKey) -> Option<Backend<A>> {
        self.backends.get(key).copied()
    }

    fn first_backend(&self, _: &FrontendKey<A>, frontend: &FrontendValue, slot: u16, backend: &mut Backend<A>) -> bool {
        let FrontendValue { service, generation, .. } = *frontend;
        self.backend(&BackendKey { service, generation, slot }).map(|found| *backend = found).is_some()
    }

    fn maglev(&self, key: &MaglevKey, entry: u8) -> Option<u16> {
        self.maglev.get(key).map(|block| block.slots[usize::from(entry)])
    }

    fn is_member(&self, key: &MemberKey<A>) -> bool {
        self.members.contains_key(key)
    }

    fn in_source_ranges(&self, service: ServiceId, addr: A) -> bool {
        self.ranges.get(&service).is_some_and(|ranges| ranges.iter().any(|range| contains(*range, addr)))
    }

    fn affinity(&self, key: &AffinityKey<A>) -> Option<Affinity<A>> {
        self.affinity.borrow().get(key).copied()
    }

    fn put_affinity(&self, key: &AffinityKey<A>, value: &Affinity<A>) {
        self.affinity.borrow_mut().insert(*key, *value);
    }

    fn with_room<R>(&self, decide: impl FnOnce(&mut Room<A>) -> Result<R, DropReason>) -> Result<R, DropReason> {
        decide(&mut Room::default())
    }

    fn touch<R>(
        &self,
        map: FlowMap,
        key: &FlowKey<A>,
        touch: &conntrack::Touch,
        look: impl FnOnce(&Flow<A>) -> R,
    ) -> Option<R> {
        let mut flows = self.flows(map).borrow_mut();
        let flow = flows.get_mut(key)?;
        conntrack::touch(flow, touch, self.now_ns());
        Some(look(flow))
    }

    fn touch_if<R>(
        &self,
        map: FlowMap,
        key: &FlowKey<A>,
        touch: &conntrack::Touch,
        wanted: impl FnOnce(&Tuple<A>) -> bool,
        look: impl FnOnce(&Flow<A>) -> R,
    ) -> Result<Option<R>, Unwanted> {
        let mut flows = self.flows(map).borrow_mut();
        match flows.get_mut(key) {
            Some(flow) if wanted(&flow.to) => {
                conntrack::touch(flow, touch, self.now_ns());
                Ok(Some(look(flow)))
            }
            Some(_) => Err(Unwanted),
            None => Ok(None),
        }
    }

    fn alter<R>(&self, map: FlowMap, key: &FlowKey<A>, change: impl FnOnce(&mut Flow<A>) -> R) -> Option<R> {
        self.flows(map).borrow_mut().get_mut(key).map(change)
    }

    fn look<R>(&self, map: FlowMap, key: &FlowKey<A>, look: impl FnOnce(&Flow<A>) -> R) -> Option<R> {
        self.flows(map).borrow().get(key).map(look)
    }

    fn remove_flow(&self, map: FlowMap, key: &FlowKey<A>) {
        self.flows(map).borrow_mut().remove(key);
    }

    fn add_flow(&self, map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) -> Result<bool, DropReason> {
        let mut flows = self.flows(map).borrow_mut();
        if flows.contains_key(key) {
            return Ok(false);
        }
        if self.flows_max.is_some_and(|max| flows.len() >= max) {
            return Err(DropReason::FlowInsert);
        }
        flows.insert(*key, *flow);
        Ok(true)
    }

    fn put_flow(&self, map: FlowMap, key: &FlowKey<A>, flow: &Flow<A>) -> Result<bool, DropReason> {
        if let Some(known) = self.flows(map).borrow_mut().get_mut(key) {
            *known = *flow;
            return Ok(false);
        }
        self.add_flow(map, key, flow)
    }

    fn enlist(&self, map: FlowMap, key: &FlowKey<A>, leave: impl FnOnce(&FlowKey<A>, &mut FlowKey<A>)) {
        let leaving = {
            let flows = &mut self.transient.borrow_mut()[map as usize];
            flows.push_back(*key);
            if flows.len() > self.transient_max[map as usize] as usize { flows.pop_front() } else { None }
        };
        leave(&leaving.unwrap_or_default(), &mut FlowKey::default());
    }

    fn fragment(&self, key: &FragmentKey<A>) -> Option<Ports> {
        self.fragments.borrow().get(key).copied()
    }

    fn put_fragment(&self, key: &FragmentKey<A>, ports: &Ports) {
        self.fragments.borrow_mut().insert(*key, *ports);
    }

    fn announced(&self, key: &L2Key<A>) -> Option<L2Mac> {
        self.announced.get(key).copied()
    }

    fn pod(&self, addr: &A) -> Option<LocalPod> {
        self.pods.get(addr).copied()
    }

    fn remote(&self, addr: &A) -> Option<Endpoint<A>> {
        let addr = *addr;
        // Longest prefix first: what hash and trie together answer.
        let (node, node_len) = self.node_prefix(addr);
        let key = |addr, prefix_len| PrefixKey { addr, prefix_len, pad: [0; 3] };
        let exact = self.remotes.get(&key(addr, A::BITS)).or_else(|| self.remotes.get(&key(node, node_len)));
        exact.or_else(|| (0..=A::BITS).rev().find_map(|len| self.remotes.get(&key(addr.truncated(len), len)))).copied()
    }
}

fn contains<A: Family>((network, len): (A, u8), addr: A) -> bool {
    addr.truncated(len) == network
}

/// The checksum of `bytes` (RFC 1071), with `initial` words added, computed from nothing.
pub fn checksum(bytes: &[u8], initial: u32) -> u16 {
    let words = bytes.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)])));
    let mut sum = words.sum::<u32>() + initial;
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
