//! Packets over byte vectors and tables over hash maps: the host's side of the differential test, and what this
//! crate's own tests use.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
};

use xebec_abi::{
    Addr4, Affinity4, AffinityKey, Backend4, BackendKey, Counter, DropReason, Endpoint4, Flow4, FlowKey4, FragmentKey4,
    Frontend4, FrontendKey4, L2Key4, L2Mac, MemberKey4, Pod4, Ports, PrefixKey4, ServiceId, Tuple4,
};

use crate::{Csum, FlowMap, Packet, Settings, Tables, conntrack, csum};

/// A packet whose checksums are complete, as from a wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bytes(pub Vec<u8>);

impl Packet for Bytes {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
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

    /// As `bpf_l4_csum_replace` with a difference does for a packet with a complete checksum (net/core/filter.c).
    fn add_csum(&mut self, offset: usize, diff: u32, _csum: Csum, optional: bool) -> Option<()> {
        let field = self.load::<2>(offset)?;
        if optional && field == [0, 0] {
            return Some(());
        }
        let updated = csum::update(field, diff);
        self.store(offset, if optional && updated == [0, 0] { [0xff, 0xff] } else { updated })
    }
}

/// A node's settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    pub node_ip: Addr4,
    pub gateway_ip: Addr4,
    pub hairpin_ip: Addr4,
    pub cluster: (Addr4, u8),
    pub services: (Addr4, u8),
    pub node_prefix_len: u8,
    pub overlay: bool,
    pub overlay_vni: u32,
    pub snat_ports: (u16, u16),
    pub node_netns: u64,
    pub hash_seed: u32,
}

impl Default for Node {
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
            snat_ports: (61_000, 65_535),
            node_netns: 1,
            hash_seed: 1,
        }
    }
}

/// The maps.
#[derive(Clone, Default, Debug)]
pub struct Model {
    pub node: Node,
    pub frontends: HashMap<FrontendKey4, Frontend4>,
    pub backends: HashMap<BackendKey, Backend4>,
    pub members: HashMap<MemberKey4, u32>,
    /// Networks, with their prefix lengths, by service.
    pub ranges: HashMap<ServiceId, Vec<(Addr4, u8)>>,
    pub affinity: RefCell<HashMap<AffinityKey, Affinity4>>,
    pub conntrack: RefCell<HashMap<FlowKey4, Flow4>>,
    pub nat: RefCell<HashMap<FlowKey4, Flow4>>,
    pub fragments: RefCell<HashMap<FragmentKey4, Ports>>,
    pub announced: HashMap<L2Key4, L2Mac>,
    pub pods: HashMap<Addr4, Pod4>,
    pub remotes: HashMap<PrefixKey4, Endpoint4>,
    pub counters: RefCell<BTreeMap<Counter, u64>>,
    pub now_ns: Cell<u64>,
    pub random: Cell<u32>,
    /// Flows that fit; more are refused.
    pub flows_max: Option<usize>,
}

impl Model {
    pub fn counted(&self, counter: Counter) -> u64 {
        self.counters.borrow().get(&counter).copied().unwrap_or(0)
    }

    fn flows(&self, map: FlowMap) -> &RefCell<HashMap<FlowKey4, Flow4>> {
        match map {
            FlowMap::Conntrack => &self.conntrack,
            FlowMap::Nat => &self.nat,
        }
    }
}

impl Settings for Model {
    fn node_ip(&self) -> Addr4 {
        self.node.node_ip
    }

    fn gateway_ip(&self) -> Addr4 {
        self.node.gateway_ip
    }

    fn hairpin_ip(&self) -> Addr4 {
        self.node.hairpin_ip
    }

    fn in_cluster(&self, addr: Addr4) -> bool {
        contains(self.node.cluster, addr)
    }

    fn in_services(&self, addr: Addr4) -> bool {
        contains(self.node.services, addr)
    }

    fn node_prefix(&self, addr: Addr4) -> (Addr4, u8) {
        let len = self.node.node_prefix_len;
        (truncate(addr, len), len)
    }

    fn overlay(&self) -> bool {
        self.node.overlay
    }

    fn overlay_vni(&self) -> u32 {
        self.node.overlay_vni
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
}

impl Tables for Model {
    fn frontend(&self, key: &FrontendKey4) -> Option<Frontend4> {
        self.frontends.get(key).copied()
    }

    fn backend(&self, key: &BackendKey) -> Option<Backend4> {
        self.backends.get(key).copied()
    }

    fn is_member(&self, key: &MemberKey4) -> bool {
        self.members.contains_key(key)
    }

    fn in_source_ranges(&self, service: ServiceId, addr: Addr4) -> bool {
        self.ranges.get(&service).is_some_and(|ranges| ranges.iter().any(|range| contains(*range, addr)))
    }

    fn affinity(&self, key: &AffinityKey) -> Option<Affinity4> {
        self.affinity.borrow().get(key).copied()
    }

    fn put_affinity(&self, key: &AffinityKey, value: &Affinity4) {
        self.affinity.borrow_mut().insert(*key, *value);
    }

    fn touch(&self, map: FlowMap, key: &FlowKey4, touch: &conntrack::Touch) -> Option<conntrack::Touched> {
        let mut flows = self.flows(map).borrow_mut();
        flows.get_mut(key).map(|flow| conntrack::touch(flow, touch))
    }

    fn peek(&self, map: FlowMap, key: &FlowKey4) -> Option<Tuple4> {
        self.flows(map).borrow().get(key).map(|flow| flow.to)
    }

    fn add_flow(&self, map: FlowMap, key: &FlowKey4, flow: &Flow4) -> Result<bool, DropReason> {
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

    fn put_flow(&self, map: FlowMap, key: &FlowKey4, flow: &Flow4) -> Result<(), DropReason> {
        if let Some(known) = self.flows(map).borrow_mut().get_mut(key) {
            *known = *flow;
            return Ok(());
        }
        self.add_flow(map, key, flow).map(drop)
    }

    fn fragment(&self, key: &FragmentKey4) -> Option<Ports> {
        self.fragments.borrow().get(key).copied()
    }

    fn put_fragment(&self, key: &FragmentKey4, ports: &Ports) {
        self.fragments.borrow_mut().insert(*key, *ports);
    }

    fn announced(&self, key: &L2Key4) -> Option<L2Mac> {
        self.announced.get(key).copied()
    }

    fn pod(&self, addr: Addr4) -> Option<Pod4> {
        self.pods.get(&addr).copied()
    }

    fn remote(&self, addr: Addr4) -> Option<Endpoint4> {
        // Longest prefix first: what hash and trie together answer.
        let (node, node_len) = self.node_prefix(addr);
        let key = |addr, prefix_len| PrefixKey4 { addr, prefix_len, pad: [0; 3] };
        let exact = self.remotes.get(&key(addr, 32)).or_else(|| self.remotes.get(&key(node, node_len)));
        exact.or_else(|| (0..=32).rev().find_map(|len| self.remotes.get(&key(truncate(addr, len), len)))).copied()
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
}

fn truncate(addr: Addr4, len: u8) -> Addr4 {
    let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
    (u32::from_be_bytes(addr) & mask).to_be_bytes()
}

fn contains((network, len): (Addr4, u8), addr: Addr4) -> bool {
    truncate(addr, len) == network
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
