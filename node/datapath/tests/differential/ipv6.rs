//! The same for the programs of IPv6.

use std::collections::{BTreeMap, HashMap};

use aya::{
    Ebpf,
    maps::lpm_trie,
    programs::{TestRun, TestRunOptions},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use xebec_abi::{
    Addr6, Affinity6, AffinityKey6, Backend6, BackendId, BackendKey, Be16, Counter, DropReason, Endpoint6, Flow6,
    FlowKey6, FrontendKey6, FrontendValue, L2Key6, L2Mac, LocalPod, MemberKey6, PrefixKey6, RangeKey6, ServiceId,
    lb::{frontend_flag, scope},
    names, proto,
};
use xebec_datapath::{Config, Routing, testing};
use xebec_logic::{Action, Family, Verdict, l2, model::Bytes, model::Model, netdev, overlay, pod};

use crate::{IFINDEX, PACKETS, action, count, fill, packet6::Generator, parameters, read, same, table};

const PROGRAMS: [&str; 6] = ["from_pod6", "to_pod6", "from_netdev6", "to_netdev6", "from_overlay6", "to_overlay6"];
/// A refusal may be longer than what it answers.
const ANSWER_BYTES: usize = 14 + 40 + 8 + 48;

pub fn at(text: &str) -> Addr6 {
    text.parse::<std::net::Ipv6Addr>().unwrap().into()
}

#[test]
fn kernel_and_model_agree_about_ipv6_with_an_overlay() {
    run(Routing::Vxlan { ifindex: IFINDEX, vni: 7 });
}

#[test]
fn kernel_and_model_agree_about_ipv6_with_native_routes() {
    run(Routing::Native);
}

fn run(routing: Routing) {
    let (seed, packets) = parameters();
    println!("XEBEC_SEED={seed} XEBEC_PACKETS={packets} {routing:?}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut worlds = Worlds::new(&Config { routing, ..testing::config() }, &mut random);
    let generator = Generator::new();
    let mut actions = BTreeMap::new();
    let mut flows = Vec::new();
    for number in 0..packets {
        let program = PROGRAMS[random.random_range(0..PROGRAMS.len())];
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
}

/// The kernel and the model, with the same tables.
struct Worlds {
    ebpf: Ebpf,
    model: Model<Addr6>,
    drops: HashMap<DropReason, u64>,
}

impl Worlds {
    fn new(config: &Config, random: &mut StdRng) -> Self {
        let mut worlds = Self { ebpf: testing::load(config).unwrap(), model: Model::default(), drops: HashMap::new() };
        worlds.model.node.overlay = config.routing != Routing::Native;
        worlds.model.node.hash_seed = testing::hash_seed(config);
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
            worlds.model.pods.insert(at(&format!("fd10:db8:0:1::{last}")), pod);
        }
        worlds.add_remotes();
        worlds.add_services(random);
        for last in 1..4 {
            let addr = at(&format!("2001:db8:113::{last}"));
            let key = FrontendKey6 { addr, port: Be16::ZERO, proto: 0, scope: scope::EXTERNAL };
            worlds.model.frontends.insert(key, FrontendValue::default());
            let mac = L2Mac { mac: [2, 0, 0, 0, 2, last], pad: [0; 2] };
            worlds.model.announced.insert(L2Key6 { addr, ifindex: IFINDEX + u32::from(last == 1) }, mac);
        }
        fill(&mut worlds.ebpf, names::L2_ANNOUNCED6, &worlds.model.announced);
        fill(&mut worlds.ebpf, names::PODS6, &worlds.model.pods);
        fill(&mut worlds.ebpf, names::LB6_FRONTENDS, &worlds.model.frontends);
        fill(&mut worlds.ebpf, names::LB6_BACKENDS, &worlds.model.backends);
        fill(&mut worlds.ebpf, names::LB6_MAGLEV, &worlds.model.maglev);
        fill(&mut worlds.ebpf, names::LB6_MEMBERS, &worlds.model.members);
        worlds
    }

    fn add_remotes(&mut self) {
        let endpoint = |last| Endpoint6 { node: Addr6::of_node([172, 30, 0, last]), identity: 0 };
        for (addr, prefix_len, node) in
            [("fd10:db8:0:2::", 64, 12), ("fd10:db8:0:3::", 64, 13), ("fd10:db8:0:2::9", 128, 13)]
        {
            let key = PrefixKey6 { addr: at(addr), prefix_len, pad: [0; 3] };
            self.model.remotes.insert(key, endpoint(node));
            fill(&mut self.ebpf, names::IPCACHE6, &HashMap::from([(key, endpoint(node))]));
        }
        let wide = PrefixKey6 { addr: at("fd10:db8:0:8::"), prefix_len: 61, pad: [0; 3] };
        self.model.remotes.insert(wide, endpoint(14));
        let map = self.ebpf.map_mut(names::PREFIXES6).unwrap();
        let mut trie: lpm_trie::LpmTrie<_, Addr6, Endpoint6> = map.try_into().unwrap();
        trie.insert(&lpm_trie::Key::new(61, wide.addr), endpoint(14), 0).unwrap();
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
            let flags = frontend.flags | table(&mut self.model.maglev, &frontend, random);
            let frontend = FrontendValue { flags, ..frontend };
            let protocol = if id % 2 == 0 { proto::TCP } else { proto::UDP };
            let port = Be16::new(if id > 4 { 53 } else { 80 });
            let (vip, ingress) = (format!("fd96:db8::{}", id.div_ceil(2)), format!("2001:db8:113::{}", id / 2));
            // Dialled from outside too: ports of the node, a load balancer's address.
            for (addr, port, scope) in [
                (vip.as_str(), port, scope::INTERNAL),
                ("2001:db8::11", Be16::new(8_079 + id as u16), scope::INTERNAL),
                ("2001:db8::11", Be16::new(8_079 + id as u16), scope::EXTERNAL),
                (&ingress, port, scope::INTERNAL),
                (&ingress, port, scope::EXTERNAL),
            ] {
                let key = FrontendKey6 { addr: at(addr), port, proto: protocol, scope };
                self.model.frontends.insert(key, frontend);
            }
            if frontend.flags & frontend_flag::SOURCE_RANGES != 0 {
                self.add_ranges(service);
            }
            for slot in 0..backends {
                let addr = match random.random_range(0..5) {
                    _ if slot == 0 => "fd10:db8:0:1::7".to_owned(),
                    _ if slot == 1 => "fd10:db8:0:2::7".to_owned(),
                    4 => "2001:db8::12".to_owned(),
                    0 | 1 => format!("fd10:db8:0:1::{}", random.random_range(2..8)),
                    2 => format!("fd10:db8:0:2::{}", random.random_range(2..8)),
                    _ => "2001:db8::11".to_owned(),
                };
                let (addr, port) = (at(&addr), Be16::new(8_080));
                let backend = Backend6 { addr, port, flags: 0, weight: 0, id: BackendId(u32::from(slot)) };
                let key = BackendKey { service, generation: frontend.generation, slot };
                self.model.backends.insert(key, backend);
                if frontend.affinity_s != 0 {
                    self.model.members.insert(MemberKey6 { service, addr, port, pad: [0; 2] }, 0);
                }
            }
        }
    }

    fn add_ranges(&mut self, service: ServiceId) {
        let ranges = [("2001:db8:ffff::", 48), ("2001:db8::13", 128)].map(|(addr, len)| (at(addr), len));
        let mut trie: lpm_trie::LpmTrie<_, RangeKey6, u32> =
            self.ebpf.map_mut(names::LB6_RANGES).unwrap().try_into().unwrap();
        for (addr, len) in &ranges {
            let key = lpm_trie::Key::new(32 + u32::from(*len), RangeKey6::new(service, *addr));
            trie.insert(&key, 1, 0).unwrap();
        }
        self.model.ranges.insert(service, ranges.to_vec());
    }

    /// Runs one packet through both.
    #[track_caller]
    fn step(&mut self, program: &'static str, packet: &[u8], context: &str) -> i32 {
        let classifier = testing::classifier(&self.ebpf, program).unwrap();
        let mut out = vec![0; packet.len().max(ANSWER_BYTES)];
        let result = classifier
            .test_run(TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..Default::default() })
            .unwrap_or_else(|error| panic!("{context}: {error} {packet:02x?}"));
        let mut bytes = Bytes(packet.to_vec());
        let decision = match program {
            "from_pod6" => pod::from_pod(&mut bytes, &self.model, IFINDEX),
            "to_pod6" => pod::to_pod(&mut bytes, &self.model),
            "from_netdev6" => match l2::neighbour(&mut bytes, &self.model, IFINDEX) {
                Some(verdict) => Ok(verdict),
                None => netdev::from_netdev(&mut bytes, &self.model),
            },
            "to_netdev6" => netdev::to_netdev(&mut bytes, &self.model),
            "from_overlay6" => overlay::from_overlay(&mut bytes, &self.model, None),
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
        assert_eq!(result.return_value.cast_signed(), action, "{context}: {decision:?} {packet:02x?}");
        out.truncate(bytes.0.len());
        assert_eq!(out, bytes.0, "{context}: {decision:?} {packet:02x?}");
        action
    }

    /// The flows that packets have opened so far, in an order that the seed decides.
    fn flows(&self) -> Vec<FlowKey6> {
        let (conntrack, nat) = (self.model.conntrack.borrow(), self.model.nat.borrow());
        let mut flows: Vec<FlowKey6> = conntrack.keys().chain(nat.keys()).copied().collect();
        flows.sort_by_cached_key(|flow| format!("{flow:?}"));
        flows
    }

    /// Compares what the packets have left in the maps.
    #[track_caller]
    fn compare(&self, context: &str) {
        let timeless = |flows: HashMap<FlowKey6, Flow6>| -> HashMap<FlowKey6, Flow6> {
            flows.into_iter().map(|(key, flow)| (key, Flow6 { seen_ns: 0, ..flow })).collect()
        };
        for (name, model) in [(names::CT6, &self.model.conntrack), (names::NAT6, &self.model.nat)] {
            same(&timeless(read(&self.ebpf, name)), &timeless(model.borrow().clone()), name, context);
        }
        same(&read(&self.ebpf, names::FRAGMENTS6), &*self.model.fragments.borrow(), names::FRAGMENTS6, context);
        let timeless = |(key, affinity): (_, Affinity6)| (key, Affinity6 { used_ns: 0, ..affinity });
        let kernel = read(&self.ebpf, names::LB6_AFFINITY).into_iter().map(timeless).collect();
        let model = self.model.affinity.borrow().clone().into_iter().map(timeless).collect();
        same::<AffinityKey6, _>(&kernel, &model, names::LB6_AFFINITY, context);
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
