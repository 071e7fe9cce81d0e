//! The kernel and the model, with the same tables.

use std::{collections::HashMap, hash::Hash};

use aya::{
    Ebpf, Pod as Plain,
    maps::{HashMap as BpfMap, Map, PerCpuArray, lpm_trie},
    programs::{TestRun, TestRunOptions},
};
use rand::{Rng, rngs::StdRng};
use xebec_abi::{
    Affinity, AffinityKey, Backend, BackendId, BackendKey, Be16, Counter, DropReason, Endpoint, Flow, FlowKey,
    FrontendEntry, FrontendKey, FrontendValue, L2Key, L2Mac, LocalPod, MaglevBlock, MaglevKey, MemberKey, PodRate,
    PrefixKey, RangeKey, ServiceId, Traffic,
    lb::{frontend_flag, scope},
    maglev, names, pod_flag, proto,
};
use xebec_datapath::{Config, Routing, testing};
use xebec_logic::{
    Action, Verdict,
    model::Bytes,
    model::Model,
    model::Node,
    netdev,
    overlay::{self, Tunnel},
    pod,
};

use crate::{
    IFINDEX, NEXT,
    family::{Subnet, Tested},
};

/// Where the tunnel of another node ends.
pub fn other_node<A: Tested>(last: u8, is_ipv6: bool) -> A
where
    Node<A>: Default,
{
    if is_ipv6 { A::at(Subnet::Nodes, last) } else { A::of_node([172, 30, 0, last]) }
}

pub struct Worlds<A: Tested>
where
    Node<A>: Default,
{
    pub ebpf: Ebpf,
    pub model: Model<A>,
    pub drops: HashMap<DropReason, u64>,
    /// What packets at the overlay came through.
    tunnel: Option<Tunnel<A>>,
}

impl<A: Tested> Worlds<A>
where
    Node<A>: Default,
{
    pub fn new(config: &Config, random: &mut StdRng) -> Self {
        Self::behind(config, None, random)
    }

    pub fn behind(config: &Config, tunnel: Option<Tunnel<A>>, random: &mut StdRng) -> Self {
        let ebpf = testing::load_behind(config, tunnel.map(|tunnel| (tunnel.vni, tunnel.node.ip()))).unwrap();
        let mut worlds = Self { ebpf, model: Model::default(), drops: HashMap::new(), tunnel };
        worlds.model.node.overlay = config.routing != Routing::Native;
        worlds.model.node.pod_mtu = config.pod_mtu;
        worlds.model.node.tunnel_ip = config.ipv4.map_or([0; 4], |network| network.node_ip.octets());
        worlds.model.node.hash_seed = testing::hash_seed(config);
        worlds.model.node.snat_ports = (*config.snat_ports.start(), *config.snat_ports.end());
        for last in 2..8 {
            let pod = LocalPod {
                // Some pods are behind the device that packets come from, so that they may send.
                ifindex: if last < 6 { IFINDEX } else { 40 + u32::from(last) },
                identity: 0,
                pod_mac: [2, 0, 0, 0, 0, last],
                host_mac: [2, 0, 0, 0, 1, last],
                // Buckets that are full, half empty and empty, whatever the clock says: see `add_rates`.
                flags: if last > 4 { pod_flag::LIMITED } else { 0 },
                netns_cookie: 1_000 + u64::from(last),
            };
            worlds.model.pods.insert(A::at(Subnet::Pods(1), last), pod);
        }
        worlds.add_rates();
        worlds.add_remotes();
        worlds.add_services(random);
        for last in 1..4 {
            let addr = A::at(Subnet::Ingress, last);
            let key = FrontendKey { addr, port: Be16::ZERO, proto: 0, scope: scope::EXTERNAL };
            worlds.model.frontends.insert(key, FrontendValue::default());
            let mac = L2Mac { mac: [2, 0, 0, 0, 2, last], pad: [0; 2] };
            worlds.model.announced.insert(L2Key { addr, ifindex: IFINDEX + u32::from(last == 1) }, mac);
        }
        let Self { ebpf, model, .. } = &mut worlds;
        fill(ebpf, A::MAPS.announced, &model.announced);
        fill(ebpf, A::MAPS.pods, &model.pods);
        fill(ebpf, A::MAPS.frontends, &entries(model));
        fill(ebpf, A::MAPS.backends, &model.backends);
        fill(ebpf, A::MAPS.maglev, &model.maglev);
        fill(ebpf, A::MAPS.members, &model.members);
        worlds
    }

    /// Of the devices of pods, two of which are the one that packets come from.
    fn add_rates(&mut self) {
        let day = 86_400_000_000_000;
        let (full, half_empty, empty) = ((0, day), (u64::MAX / 4, u64::MAX / 3), (u64::MAX / 4, day));
        for (ifindex, (full_ns, burst_ns)) in [(IFINDEX, full), (46, empty), (47, half_empty)] {
            let rate = PodRate { bytes_per_s: u64::MAX, burst_ns, full_ns };
            self.model.rates.borrow_mut().insert(ifindex, rate);
        }
        fill(&mut self.ebpf, names::POD_RATES, &self.model.rates.borrow());
    }

    fn add_remotes(&mut self) {
        let is_ipv6 = self.model.node.tunnel_ip == [0; 4];
        let endpoint = |last| Endpoint { node: other_node(last, is_ipv6), identity: 0 };
        for (node, last, prefix_len, to) in
            [(2, 0, A::LENGTHS.node, 12), (3, 0, A::LENGTHS.node, 13), (2, 9, A::BITS, 13)]
        {
            let key = PrefixKey { addr: A::at(Subnet::Pods(node), last), prefix_len, pad: [0; 3] };
            self.model.remotes.insert(key, endpoint(to));
            fill(&mut self.ebpf, A::MAPS.ipcache, &HashMap::from([(key, endpoint(to))]));
        }
        // Another node itself, and the end of its tunnel.
        for addr in [A::at(Subnet::Nodes, 12), other_node(12, is_ipv6)] {
            let key = PrefixKey { addr, prefix_len: A::BITS, pad: [0; 3] };
            self.model.remotes.insert(key, endpoint(12));
            fill(&mut self.ebpf, A::MAPS.ipcache, &HashMap::from([(key, endpoint(12))]));
        }
        let wide = PrefixKey { addr: A::at(Subnet::Pods(8), 0), prefix_len: A::LENGTHS.nodes, pad: [0; 3] };
        self.model.remotes.insert(wide, endpoint(14));
        let map = self.ebpf.map_mut(A::MAPS.prefixes).unwrap();
        let mut trie: lpm_trie::LpmTrie<_, A, Endpoint<A>> = map.try_into().unwrap();
        trie.insert(&lpm_trie::Key::new(A::LENGTHS.nodes.into(), wide.addr), endpoint(14), 0).unwrap();
    }

    fn add_services(&mut self, random: &mut StdRng) {
        for id in 1..=8u32 {
            let service = ServiceId(id);
            // The first four make sure of both refusals and of backends here and elsewhere, whatever the seed.
            let backends = match id {
                1 | 2 => 0,
                3 | 4 => 3,
                _ => [0, 1, 3, 5][random.random_range(0..4)],
            };
            let frontend = FrontendValue {
                service,
                generation: random.random(),
                backends,
                local: backends.min(random.random_range(0..3)),
                flags: match random.random_range(0..4) {
                    2 if id > 4 => frontend_flag::LOCAL_ONLY,
                    3 if id > 4 => frontend_flag::SOURCE_RANGES,
                    _ => 0,
                },
                affinity_s: if random.random_ratio(1, 3) { 3_600 } else { 0 },
            };
            let is_local = frontend.flags & frontend_flag::LOCAL_ONLY != 0;
            let is_dsr = id == 3 || (id > 4 && !is_local && random.random());
            let dsr = if is_dsr { frontend_flag::DSR } else { 0 };
            let first = if random.random() { frontend_flag::FIRST } else { 0 };
            let flags = frontend.flags | dsr | first | table(&mut self.model.maglev, &frontend, random);
            let frontend = FrontendValue { flags, ..frontend };
            let protocol = match id {
                5 | 8 => proto::SCTP,
                id if id % 2 == 0 => proto::TCP,
                _ => proto::UDP,
            };
            let (port, node_port) = (Be16::new(if id > 4 { 53 } else { 80 }), Be16::new(8_079 + id as u16));
            let (vip, ingress) = (A::at(Subnet::Services, id.div_ceil(2) as u8), A::at(Subnet::Ingress, id as u8 / 2));
            let node = A::at(Subnet::Nodes, 11);
            // Dialled from outside too: ports of the node, a load balancer's address.
            for (addr, port, scope) in [
                (vip, port, scope::INTERNAL),
                (node, node_port, scope::INTERNAL),
                (node, node_port, scope::EXTERNAL),
                (ingress, port, scope::INTERNAL),
                (ingress, port, scope::EXTERNAL),
            ] {
                self.model.frontends.insert(FrontendKey { addr, port, proto: protocol, scope }, frontend);
            }
            // What was dialled at other nodes.
            let key = FrontendKey { addr: A::UNSPECIFIED, port: node_port, proto: protocol, scope: scope::EXTERNAL };
            let flags = frontend.flags | frontend_flag::NODE_PORT;
            self.model.frontends.insert(key, FrontendValue { flags, ..frontend });
            if frontend.flags & frontend_flag::SOURCE_RANGES != 0 {
                self.add_ranges(service);
            }
            self.add_backends(&frontend, random);
        }
    }

    fn add_backends(&mut self, frontend: &FrontendValue, random: &mut StdRng) {
        let FrontendValue { service, generation, .. } = *frontend;
        for slot in 0..frontend.backends {
            let addr = match random.random_range(0..5) {
                _ if slot == 0 => A::at(Subnet::Pods(1), 7),
                _ if slot == 1 => A::at(Subnet::Pods(2), 7),
                4 => A::at(Subnet::Nodes, 12),
                0 | 1 => A::at(Subnet::Pods(1), random.random_range(2..8)),
                2 => A::at(Subnet::Pods(2), random.random_range(2..8)),
                _ => A::at(Subnet::Nodes, 11),
            };
            let port = Be16::new(8_080);
            let backend = Backend { addr, port, flags: 0, weight: 0, id: BackendId(u32::from(slot)) };
            self.model.backends.insert(BackendKey { service, generation, slot }, backend);
            if frontend.affinity_s != 0 {
                self.model.members.insert(MemberKey { service, addr, port, pad: [0; 2] }, 0);
            }
        }
    }

    fn add_ranges(&mut self, service: ServiceId) {
        let ranges = [(A::at(Subnet::Clients, 0), A::LENGTHS.clients), (A::at(Subnet::Nodes, 13), A::BITS)];
        let map = self.ebpf.map_mut(A::MAPS.ranges).unwrap();
        let mut trie: lpm_trie::LpmTrie<_, RangeKey<A>, u32> = map.try_into().unwrap();
        for (addr, len) in &ranges {
            trie.insert(&lpm_trie::Key::new(32 + u32::from(*len), RangeKey::new(service, *addr)), 1, 0).unwrap();
        }
        self.model.ranges.insert(service, ranges.to_vec());
    }

    /// Runs one packet through both: what the program returns.
    #[track_caller]
    pub fn step(&mut self, program: &'static str, packet: &[u8], context: &str) -> i32 {
        let classifier = testing::classifier(&self.ebpf, program).unwrap();
        let mut out = vec![0; packet.len().max(A::REFUSAL_BYTES)];
        let result = classifier
            .test_run(TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..Default::default() })
            .unwrap_or_else(|error| panic!("{context}: {error} {packet:02x?}"));
        let mut bytes = Bytes(packet.to_vec());
        let decision = self.decide(program, &mut bytes);
        if let Err(reason) = decision {
            *self.drops.entry(reason).or_default() += 1;
        }
        let action = self.action(&decision);
        assert_eq!(result.return_value.cast_signed(), action, "{context}: {decision:?} {packet:02x?}");
        out.truncate(bytes.0.len());
        assert_eq!(out, bytes.0, "{context}: {decision:?} {packet:02x?}");
        action
    }

    fn decide(&self, program: &str, bytes: &mut Bytes) -> Result<Verdict, DropReason> {
        let model = &self.model;
        let decision = match program.trim_end_matches('6') {
            "from_pod" => pod::from_pod(bytes, model, IFINDEX),
            "to_pod" => pod::to_pod(bytes, model),
            "from_netdev" => match A::neighbour(bytes, model) {
                Some(verdict) => Ok(verdict),
                None => netdev::from_netdev(bytes, model),
            },
            "to_netdev" => netdev::to_netdev(bytes, model),
            "from_overlay" => overlay::from_overlay(bytes, model, overlay::behind(self.tunnel)),
            "to_overlay" => overlay::to_overlay(bytes, model),
            other => panic!("no program {other}"),
        };
        // The FIB of the test's own namespace knows no way through the loopback device.
        let routed = matches!(decision, Ok(Verdict { action: Action::Forward | Action::ForwardPassed, .. }));
        if routed { Err(DropReason::NoRoute) } else { decision }
    }

    /// What the program returns to the kernel.
    fn action(&self, decision: &Result<Verdict, DropReason>) -> i32 {
        const SHOT: i32 = 2;
        const REDIRECT: i32 = 7;
        match decision {
            Err(_) => SHOT,
            Ok(Verdict { action: Action::Pass | Action::Encapsulate, .. }) => NEXT,
            Ok(Verdict { action: Action::Route, .. }) => {
                // As above.
                xebec_logic::Host::count(&self.model, Counter::ToStack, 0);
                NEXT
            }
            Ok(_) => REDIRECT,
        }
    }

    /// The flows that packets have opened so far, in an order that the seed decides.
    pub fn flows(&self) -> Vec<FlowKey<A>> {
        let (conntrack, nat) = (self.model.conntrack.borrow(), self.model.nat.borrow());
        let mut flows: Vec<FlowKey<A>> = conntrack.keys().chain(nat.keys()).copied().collect();
        flows.sort_by_cached_key(|flow| format!("{flow:?}"));
        flows
    }

    /// Compares what the packets have left in the maps.
    #[track_caller]
    pub fn compare(&self, context: &str) {
        let timeless = |flows: HashMap<FlowKey<A>, Flow<A>>| -> HashMap<FlowKey<A>, Flow<A>> {
            flows.into_iter().map(|(key, flow)| (key, Flow { seen_ns: 0, ..flow })).collect()
        };
        for (name, model) in [(A::MAPS.conntrack, &self.model.conntrack), (A::MAPS.nat, &self.model.nat)] {
            same(&timeless(read(&self.ebpf, name)), &timeless(model.borrow().clone()), name, context);
        }
        let fragments = A::MAPS.fragments;
        same(&read(&self.ebpf, fragments), &*self.model.fragments.borrow(), fragments, context);
        let timeless = |(key, affinity): (_, Affinity<A>)| (key, Affinity { used_ns: 0, ..affinity });
        let kernel = read(&self.ebpf, A::MAPS.affinity).into_iter().map(timeless).collect();
        let model = self.model.affinity.borrow().clone().into_iter().map(timeless).collect();
        same::<AffinityKey<A>, _>(&kernel, &model, A::MAPS.affinity, context);
        for counter in Counter::ALL {
            let expected = self.model.counted(*counter);
            assert_eq!(count(&self.ebpf, names::COUNTERS, counter.index()), expected, "{counter:?} {context}");
        }
        for reason in DropReason::ALL {
            let expected = self.drops.get(reason).copied().unwrap_or(0) + self.model.dropped(*reason).0;
            assert_eq!(count(&self.ebpf, names::DROPS, reason.index()), expected, "{reason:?} {context}");
        }
    }
}

fn read<K: Plain + Eq + Hash, V: Plain>(ebpf: &Ebpf, name: &str) -> HashMap<K, V> {
    let map: BpfMap<_, K, V> = ebpf.map(name).unwrap().try_into().unwrap();
    map.iter().map(Result::unwrap).collect()
}

fn count(ebpf: &Ebpf, name: &str, index: u32) -> u64 {
    let map: &Map = ebpf.map(name).unwrap();
    let array: PerCpuArray<_, Traffic> = map.try_into().unwrap();
    array.get(&index, 0).unwrap().iter().map(|traffic| traffic.packets).sum()
}

/// Frontends as the kernel has them.
fn entries<A: Tested>(model: &Model<A>) -> HashMap<FrontendKey<A>, FrontendEntry<A>>
where
    Node<A>: Default,
{
    let entry = |value: &FrontendValue| {
        let FrontendValue { service, generation, .. } = *value;
        let backend = |slot| model.backends.get(&BackendKey { service, generation, slot }).copied().unwrap_or_default();
        let has_first = value.flags & frontend_flag::FIRST != 0;
        let first = if has_first { [0, 1, 2, 3].map(backend) } else { Default::default() };
        FrontendEntry { value: *value, first }
    };
    model.frontends.iter().map(|(key, value)| (*key, entry(value))).collect()
}

/// Some services have a Maglev table, which leads to their backends in no order; says how large.
fn table(blocks: &mut HashMap<MaglevKey, MaglevBlock>, frontend: &FrontendValue, random: &mut StdRng) -> u16 {
    let size = maglev::SIZES[random.random_range(0..3)];
    if frontend.backends == 0 || frontend.flags & frontend_flag::LOCAL_ONLY != 0 || random.random() {
        return 0;
    }
    for block in 0..maglev::blocks(size) {
        let key = MaglevKey { service: frontend.service, generation: frontend.generation, block };
        let slots = std::array::from_fn(|_| random.random_range(0..frontend.backends));
        blocks.insert(key, MaglevBlock { slots });
    }
    maglev::flags(size).unwrap()
}

fn fill<K: Plain, V: Plain>(ebpf: &mut Ebpf, name: &str, entries: &HashMap<K, V>) {
    let mut map: BpfMap<_, K, V> = ebpf.map_mut(name).unwrap().try_into().unwrap();
    for (key, value) in entries {
        map.insert(*key, *value, 0).unwrap();
    }
}

#[track_caller]
fn same<K: Eq + Hash + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    kernel: &HashMap<K, V>,
    model: &HashMap<K, V>,
    name: &str,
    context: &str,
) {
    for (key, value) in model {
        assert_eq!(kernel.get(key), Some(value), "{name} {key:?} {context}");
    }
    for key in kernel.keys() {
        assert!(model.contains_key(key), "{name} {key:?} is only in the kernel {context}");
    }
}
