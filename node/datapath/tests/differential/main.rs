//! The kernel's programs and the host model decide alike: random packets through `BPF_PROG_TEST_RUN` and through
//! `xebec_logic` give the same action, the same bytes, and the same map contents. Needs root.
//!
//! `XEBEC_SEED` repeats a run, `XEBEC_PACKETS` sets its length.
#![allow(clippy::unwrap_used)]

mod ipv6;
mod packet;
mod packet6;
mod xdp;

use std::{
    collections::{BTreeMap, HashMap},
    env,
    hash::Hash,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, Pod as Plain,
    maps::{HashMap as BpfMap, Map, PerCpuArray, lpm_trie},
    programs::{TestRun, TestRunOptions},
};
use packet::Generator;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use xebec_abi::{
    Affinity4, Backend4, BackendId, BackendKey, Be16, Counter, Direction, DropReason, Endpoint4, Flow4, FlowKey4,
    FrontendKey4, FrontendValue, L2Key4, L2Mac, LocalPod, MaglevBlock, MaglevKey, MemberKey4, Ports, PrefixKey4,
    RangeKey4, ServiceId, Traffic, Tuple4,
    lb::{frontend_flag, scope},
    maglev, names, proto,
};
use xebec_datapath::{Config, Routing, testing};
use xebec_logic::{Action, Family, Verdict, l2, model::Bytes, model::Model, netdev, overlay, pod};

/// The loopback device's index, which test runs come from.
const IFINDEX: u32 = 1;
/// The last one only where the kernel has it.
const PROGRAMS: [&str; 7] =
    ["from_pod", "to_pod", "from_netdev", "to_netdev", "from_overlay", "to_overlay", "xdp_netdev"];

#[test]
fn kernel_and_model_agree_with_an_overlay() {
    run(Routing::Vxlan { ifindex: IFINDEX, vni: 7 });
}

#[test]
fn kernel_and_model_agree_with_native_routes() {
    run(Routing::Native);
}

/// So many that none is without what is rarest, whatever the seed.
const PACKETS: u32 = 40_000;

fn run(routing: Routing) {
    let (seed, packets) = parameters();
    println!("XEBEC_SEED={seed} XEBEC_PACKETS={packets} {routing:?}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut worlds = Worlds::new(routing, &mut random);
    let generator = Generator::new();
    let has_xdp = testing::has_xdp().unwrap();
    let programs = if has_xdp { &PROGRAMS[..] } else { &PROGRAMS[..PROGRAMS.len() - 1] };
    let mut actions = BTreeMap::new();
    let mut flows = Vec::new();
    for number in 0..packets {
        let program = programs[random.random_range(0..programs.len())];
        let packet = match flows.choose(&mut random) {
            Some(flow) if random.random_bool(0.4) => generator.about(&mut random, flow),
            _ => generator.packet(&mut random),
        };
        let action = worlds.step(program, &packet, &format!("seed {seed} packet {number} in {program}"));
        *actions.entry((program, action)).or_insert(0) += 1;
        if number % 250 == 249 {
            flows = worlds.flows();
        }
        if number % 1_000 == 999 {
            worlds.compare(&format!("seed {seed} after packet {number}"));
        }
    }
    worlds.compare("at the end");
    println!("{actions:?}");
    println!("flows {} nat {}", worlds.model.conntrack.borrow().len(), worlds.model.nat.borrow().len());
    for counter in [
        Counter::PacketLb,
        Counter::Masquerade,
        Counter::IcmpError,
        Counter::ToPod,
        Counter::ExternalLocal,
        Counter::ExternalRemote,
        Counter::Rejected,
        Counter::ArpReply,
    ] {
        let counted = worlds.model.counted(counter);
        println!("{counter:?} {counted}");
        assert!(counted != 0 || packets < PACKETS, "the packets exercise {counter:?}");
    }
    let early = if routing == Routing::Native { Counter::XdpForward } else { Counter::XdpOverlay };
    assert_eq!(worlds.model.counted(early) != 0, has_xdp, "the packets exercise {early:?}");
}

/// The seed, and how many packets.
fn parameters() -> (u64, u32) {
    let seed = env::var("XEBEC_SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    (seed, env::var("XEBEC_PACKETS").map_or(PACKETS, |count| count.parse().unwrap()))
}

/// Connections that are over give their ports to others, in both worlds after the same time.
#[test]
fn kernel_and_model_take_ports_over_alike() {
    const SYN: u8 = 0x02;
    const FIN: u8 = 0x11;
    const RST: u8 = 0x04;
    let config = Config { routing: Routing::Native, snat_ports: 61_000..=61_003, ..testing::config() };
    let mut worlds = Worlds::with(&config, &mut StdRng::seed_from_u64(1));
    let start = Instant::now();
    let (pod, outside) = ([10, 244, 1, 2], [192, 0, 2, 7]);
    let tuple = |sport| Tuple4 { src: pod, dst: outside, ports: Ports { src: Be16::new(sport), dst: Be16::new(80) } };
    // How many connections of these ports of a pod are opened.
    let open = |worlds: &mut Worlds, sports: Range<u16>| {
        worlds.model.now_ns.set(start.elapsed().as_nanos() as u64);
        let mut opens = |sport| worlds.step("to_netdev", &packet::segment(&tuple(sport), SYN), "opening") == NEXT;
        sports.filter(|sport| opens(*sport)).count()
    };
    assert_eq!(open(&mut worlds, 4_000..4_020), 4);
    for (number, flow) in worlds.flows().into_iter().enumerate() {
        let flags = if number % 2 == 0 { FIN } else { RST };
        let program = if flow.direction == Direction::OUT { "to_netdev" } else { "from_netdev" };
        worlds.step(program, &packet::segment(&flow.tuple, flags), "closing");
    }
    assert_eq!(open(&mut worlds, 5_000..5_020), 0, "just closed");
    worlds.compare("before");
    thread::sleep(Duration::from_millis(1_500));
    assert!(open(&mut worlds, 6_000..6_020) >= 2, "closed");
    worlds.compare("after");
}

/// The kernel and the model, with the same tables.
struct Worlds {
    ebpf: Ebpf,
    model: Model,
    drops: HashMap<DropReason, u64>,
    uplink: xdp::Uplink,
}

impl Worlds {
    fn new(routing: Routing, random: &mut StdRng) -> Self {
        Self::with(&Config { routing, ..testing::config() }, random)
    }

    fn with(config: &Config, random: &mut StdRng) -> Self {
        let mut worlds = Self {
            ebpf: testing::load_with_xdp(config).unwrap(),
            model: Model::default(),
            drops: HashMap::new(),
            uplink: xdp::Uplink::new(),
        };
        worlds.model.node.overlay = config.routing != Routing::Native;
        worlds.model.node.hash_seed = testing::hash_seed(config);
        worlds.model.node.snat_ports = (*config.snat_ports.start(), *config.snat_ports.end());
        for last in 2..8 {
            let pod = LocalPod {
                // Some pods are behind the device that packets come from, so that they may send.
                ifindex: if last < 6 { IFINDEX } else { 40 + u32::from(last) },
                identity: 0,
                pod_mac: [2, 0, 0, 0, 0, last],
                host_mac: [2, 0, 0, 0, 1, last],
                pad: 0,
                netns_cookie: 1_000 + u64::from(last),
            };
            worlds.model.pods.insert([10, 244, 1, last], pod);
        }
        worlds.add_remotes();
        worlds.add_services(random);
        for last in 1..4 {
            let addr = [203, 0, 113, last];
            let key = FrontendKey4 { addr, port: Be16::ZERO, proto: 0, scope: scope::EXTERNAL };
            worlds.model.frontends.insert(key, FrontendValue::default());
            let mac = L2Mac { mac: [2, 0, 0, 0, 2, last], pad: [0; 2] };
            worlds.model.announced.insert(L2Key4 { addr, ifindex: IFINDEX + u32::from(last == 1) }, mac);
        }
        fill(&mut worlds.ebpf, names::L2_ANNOUNCED4, &worlds.model.announced);
        fill(&mut worlds.ebpf, names::PODS4, &worlds.model.pods);
        fill(&mut worlds.ebpf, names::LB4_FRONTENDS, &worlds.model.frontends);
        fill(&mut worlds.ebpf, names::LB4_BACKENDS, &worlds.model.backends);
        fill(&mut worlds.ebpf, names::LB4_MAGLEV, &worlds.model.maglev);
        fill(&mut worlds.ebpf, names::LB4_MEMBERS, &worlds.model.members);
        worlds
    }

    fn add_remotes(&mut self) {
        let endpoint = |last| Endpoint4 { node: [172, 30, 0, last], identity: 0 };
        let exact = [([10, 244, 2, 0], 24, 12), ([10, 244, 3, 0], 24, 13), ([10, 244, 2, 9], 32, 13)];
        for (addr, prefix_len, node) in exact {
            let key = PrefixKey4 { addr, prefix_len, pad: [0; 3] };
            self.model.remotes.insert(key, endpoint(node));
            fill(&mut self.ebpf, names::IPCACHE4, &HashMap::from([(key, endpoint(node))]));
        }
        let wide = PrefixKey4 { addr: [10, 244, 8, 0], prefix_len: 21, pad: [0; 3] };
        self.model.remotes.insert(wide, endpoint(14));
        let map = self.ebpf.map_mut(names::PREFIXES4).unwrap();
        let mut trie: lpm_trie::LpmTrie<_, [u8; 4], Endpoint4> = map.try_into().unwrap();
        trie.insert(&lpm_trie::Key::new(21, wide.addr), endpoint(14), 0).unwrap();
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
            let local = backends.min(random.random_range(0..3));
            let frontend = FrontendValue {
                service,
                generation: random.random(),
                backends,
                local,
                flags: match random.random_range(0..4) {
                    2 if id > 4 => frontend_flag::LOCAL_ONLY,
                    3 if id > 4 => frontend_flag::SOURCE_RANGES,
                    _ => 0,
                },
                affinity_s: if random.random_ratio(1, 3) { 3_600 } else { 0 },
            };
            let flags = frontend.flags | table(&mut self.model.maglev, &frontend, random);
            let frontend = FrontendValue { flags, ..frontend };
            let protocol = if id % 2 == 0 { proto::TCP } else { proto::UDP };
            let port = Be16::new(if id > 4 { 53 } else { 80 });
            let vip = [10, 96, 0, (id + 1) as u8 / 2];
            // Dialled from outside too: ports of the node, a load balancer's address.
            for (addr, port, scope) in [
                (vip, port, scope::INTERNAL),
                ([172, 30, 0, 11], Be16::new(8_079 + id as u16), scope::INTERNAL),
                ([172, 30, 0, 11], Be16::new(8_079 + id as u16), scope::EXTERNAL),
                ([203, 0, 113, id as u8 / 2], port, scope::INTERNAL),
                ([203, 0, 113, id as u8 / 2], port, scope::EXTERNAL),
            ] {
                self.model.frontends.insert(FrontendKey4 { addr, port, proto: protocol, scope }, frontend);
            }
            if frontend.flags & frontend_flag::SOURCE_RANGES != 0 {
                self.add_ranges(service);
            }
            for slot in 0..backends {
                let addr = match random.random_range(0..5) {
                    _ if slot == 0 => [10, 244, 1, 7],
                    _ if slot == 1 => [10, 244, 2, 7],
                    4 => [172, 30, 0, 12],
                    0 | 1 => [10, 244, 1, random.random_range(2..8)],
                    2 => [10, 244, 2, random.random_range(2..8)],
                    _ => [172, 30, 0, 11],
                };
                let port = Be16::new(8_080);
                let backend = Backend4 { addr, port, flags: 0, weight: 0, id: BackendId(u32::from(slot)) };
                let key = BackendKey { service, generation: frontend.generation, slot };
                self.model.backends.insert(key, backend);
                if frontend.affinity_s != 0 {
                    self.model.members.insert(MemberKey4 { service, addr, port, pad: [0; 2] }, 0);
                }
            }
        }
    }

    fn add_ranges(&mut self, service: ServiceId) {
        let ranges = vec![([192, 0, 2, 0], 24), ([172, 30, 0, 13], 32)];
        let mut trie: lpm_trie::LpmTrie<_, RangeKey4, u32> =
            self.ebpf.map_mut(names::LB4_RANGES).unwrap().try_into().unwrap();
        for (addr, len) in &ranges {
            trie.insert(&lpm_trie::Key::new(32 + len, RangeKey4::new(service, *addr)), 1, 0).unwrap();
        }
        self.model.ranges.insert(service, ranges.iter().map(|(addr, len)| (*addr, *len as u8)).collect());
    }

    /// Runs one packet through both.
    #[track_caller]
    fn step(&mut self, program: &'static str, packet: &[u8], context: &str) -> i32 {
        if program == "xdp_netdev" {
            return self.step_early(packet, context);
        }
        let classifier = testing::classifier(&self.ebpf, program).unwrap();
        // A refusal may be longer than what it answers.
        let mut out = vec![0; packet.len().max(70)];
        let result = classifier
            .test_run(TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..Default::default() })
            .unwrap_or_else(|error| panic!("{context}: {error} {packet:02x?}"));
        let mut bytes = Bytes(packet.to_vec());
        let decision = match program {
            "from_pod" => pod::from_pod(&mut bytes, &self.model, IFINDEX),
            "to_pod" => pod::to_pod(&mut bytes, &self.model),
            "from_netdev" => match l2::arp(&mut bytes, &self.model, IFINDEX) {
                Some(verdict) => Ok(verdict),
                None => netdev::from_netdev(&mut bytes, &self.model),
            },
            "to_netdev" => netdev::to_netdev(&mut bytes, &self.model),
            "from_overlay" => overlay::from_overlay(&mut bytes, &self.model, None),
            _ => overlay::to_overlay(&mut bytes, &self.model),
        };
        // The FIB of the test's own namespace knows no way through the loopback device.
        let routed = matches!(decision, Ok(Verdict { action: Action::Forward, .. }));
        let decision = if routed { Err(DropReason::NoRoute) } else { decision };
        let refused = matches!(decision, Ok(Verdict { action: Action::Refuse, .. }));
        if let Some(reason) = decision.err().or(refused.then_some(DropReason::NoBackend)) {
            *self.drops.entry(reason).or_default() += 1;
        }
        let action = action(&decision, &self.model);
        let got = result.return_value.cast_signed();
        assert_eq!(got, action, "{context}: {decision:?} {packet:02x?}");
        out.truncate(bytes.0.len());
        assert_eq!(out, bytes.0, "{context}: {decision:?} {packet:02x?}");
        action
    }

    #[track_caller]
    fn step_early(&mut self, packet: &[u8], context: &str) -> i32 {
        let (action, mut out) = self.uplink.run(&self.ebpf, packet, context);
        let (expected, dropped) = xdp::model(packet, &self.model);
        if let Some(reason) = dropped {
            *self.drops.entry(reason).or_default() += 1;
        }
        out.truncate(expected.1.len());
        assert_eq!((action, out), expected, "{context}: {packet:02x?}");
        action.cast_signed()
    }

    /// The flows that packets have opened so far, in an order that the seed decides.
    fn flows(&self) -> Vec<FlowKey4> {
        let (conntrack, nat) = (self.model.conntrack.borrow(), self.model.nat.borrow());
        let mut flows: Vec<FlowKey4> = conntrack.keys().chain(nat.keys()).copied().collect();
        flows.sort_by_cached_key(|flow| format!("{flow:?}"));
        flows
    }

    /// Compares what the packets have left in the maps.
    #[track_caller]
    fn compare(&self, context: &str) {
        let timeless = |flows: HashMap<FlowKey4, Flow4>| -> HashMap<FlowKey4, Flow4> {
            flows.into_iter().map(|(key, flow)| (key, Flow4 { seen_ns: 0, ..flow })).collect()
        };
        for (name, model) in [(names::CT4, &self.model.conntrack), (names::NAT4, &self.model.nat)] {
            same(&timeless(read(&self.ebpf, name)), &timeless(model.borrow().clone()), name, context);
        }
        same(&read(&self.ebpf, names::FRAGMENTS4), &*self.model.fragments.borrow(), names::FRAGMENTS4, context);
        let timeless = |(key, affinity): (_, Affinity4)| (key, Affinity4 { used_ns: 0, ..affinity });
        let kernel = read(&self.ebpf, names::LB4_AFFINITY).into_iter().map(timeless).collect();
        let model = self.model.affinity.borrow().clone().into_iter().map(timeless).collect();
        same::<xebec_abi::AffinityKey4, _>(&kernel, &model, names::LB4_AFFINITY, context);
        for counter in Counter::ALL {
            let expected = self.model.counted(*counter);
            assert_eq!(count(&self.ebpf, names::COUNTERS, counter.index()), expected, "{counter:?} {context}");
        }
        for reason in DropReason::ALL {
            let expected = self.drops.get(reason).copied().unwrap_or(0);
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

/// `TCX_NEXT`
const NEXT: i32 = -1;

/// What the program returns to the kernel.
fn action<A: Family>(decision: &Result<Verdict, DropReason>, model: &Model<A>) -> i32 {
    const SHOT: i32 = 2;
    const REDIRECT: i32 = 7;
    match decision {
        Err(_) => SHOT,
        Ok(Verdict { action: Action::Pod | Action::Overlay | Action::Refuse | Action::Answer, .. }) => REDIRECT,
        Ok(Verdict { action: Action::Pass | Action::Encapsulate, .. }) => NEXT,
        Ok(Verdict { action: Action::Forward, .. }) => SHOT,
        Ok(Verdict { action: Action::Route, .. }) => {
            // The FIB of the test's own namespace knows no way to a pod through the loopback device.
            xebec_logic::Host::count(model, Counter::ToStack, 0);
            NEXT
        }
    }
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
