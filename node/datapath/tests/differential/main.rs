//! The kernel's programs and the host model decide alike: random packets through `BPF_PROG_TEST_RUN` and through
//! `xebec_logic` give the same action, the same bytes, and the same map contents. Needs root.
//!
//! `XEBEC_SEED` repeats a run, `XEBEC_PACKETS` sets its length.
#![allow(clippy::unwrap_used)]

mod family;
mod flood;
mod packet;
mod packet6;
mod worlds;
mod xdp;

use std::{
    collections::BTreeMap,
    env,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use family::Tested;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use worlds::{Worlds, other_node};
use xebec_abi::{
    Addr4, Addr6, Be16, Counter, Direction, DropReason, FlowKey, Ports, Tuple4, config::DSR_NODE_PORT, proto,
};
use xebec_datapath::{Config, Routing, testing};
use xebec_logic::{
    conntrack,
    model::{DSR_VNI, Node},
    overlay::Tunnel,
};

/// The loopback device's index, which test runs come from.
const IFINDEX: u32 = 1;
/// `TCX_NEXT`
const NEXT: i32 = -1;
/// Of both families, the last one only where the kernel has it.
const PROGRAMS: [&str; 7] =
    ["from_pod", "to_pod", "from_netdev", "to_netdev", "from_overlay", "to_overlay", "xdp_netdev"];
const PROGRAMS6: [&str; 7] =
    ["from_pod6", "to_pod6", "from_netdev6", "to_netdev6", "from_overlay6", "to_overlay6", "xdp_netdev"];
const OVERLAY: Routing = Routing::Vxlan { ifindex: IFINDEX, vni: 7 };

#[test]
fn kernel_and_model_agree_with_an_overlay() {
    ipv4(OVERLAY);
}

#[test]
fn kernel_and_model_agree_with_native_routes() {
    ipv4(Routing::Native);
}

#[test]
fn kernel_and_model_agree_about_ipv6_with_an_overlay() {
    ipv6(OVERLAY);
}

#[test]
fn kernel_and_model_agree_about_ipv6_with_native_routes() {
    ipv6(Routing::Native);
}

fn ipv4(routing: Routing) {
    agree::<Addr4>(&of(routing), PROGRAMS, &packet::Generator::new());
}

fn ipv6(routing: Routing) {
    agree::<Addr6>(&of(routing), PROGRAMS6, &packet6::Generator::new());
}

fn of(routing: Routing) -> Config {
    Config { routing, ..testing::config() }
}

/// Of a node whose tunnels run over IPv6.
fn without_ipv4(routing: Routing) -> Config {
    Config { ipv4: None, pod_mtu: 1_430, ..of(routing) }
}

#[test]
fn kernel_and_model_agree_about_an_overlay_over_ipv6() {
    agree::<Addr6>(&without_ipv4(OVERLAY), PROGRAMS6, &packet6::Generator::new());
}

fn agree<A: Tested>(config: &Config, programs: [&'static str; 7], generator: &impl Generate<A>)
where
    Node<A>: Default,
{
    let has_xdp = testing::has_xdp().unwrap();
    let programs = if has_xdp { &programs[..] } else { &programs[..6] };
    let uplink = xdp::Uplink::new();
    let early = if config.routing == Routing::Native { Counter::XdpForward } else { Counter::XdpOverlay };
    let also = if has_xdp { &[early][..] } else { &[] };
    let worlds = run::<A>(config, None, programs, generator, also, |worlds, program, packet, context| {
        if program == "xdp_netdev" {
            uplink.step(worlds, packet, context)
        } else {
            worlds.step(program, packet, context)
        }
    });
    assert!(has_xdp || worlds.model.counted(early) == 0, "there is no XDP");
}

/// What comes from the overlay is what another node passes on.
#[test]
fn kernel_and_model_agree_about_what_is_passed_on() {
    let (ipv4, ipv6) = (packet::Generator::new(), packet6::Generator::new());
    for (routing, kind) in [(OVERLAY, 0), (Routing::Native, DSR_NODE_PORT)] {
        let vni = DSR_VNI | kind;
        let tunnel = Tunnel { vni, node: other_node(12, false) };
        run::<Addr4>(&of(routing), Some(tunnel), &PROGRAMS[..6], &ipv4, &[], Worlds::step);
        let tunnel = Tunnel { vni, node: other_node(12, false) };
        run::<Addr6>(&of(routing), Some(tunnel), &PROGRAMS6[..6], &ipv6, &[], Worlds::step);
        let tunnel = Tunnel { vni, node: other_node(12, true) };
        run::<Addr6>(&without_ipv4(routing), Some(tunnel), &PROGRAMS6[..6], &ipv6, &[], Worlds::step);
    }
}

/// Makes packets.
trait Generate<A: Tested>
where
    Node<A>: Default,
{
    fn packet(&self, random: &mut StdRng) -> Vec<u8>;
    /// One of a flow, or about it.
    fn about(&self, random: &mut StdRng, flow: &FlowKey<A>) -> Vec<u8>;
}

/// How many bytes a packet carries: few, or about as many as what fits its next hop.
fn payload(random: &mut StdRng) -> usize {
    if random.random_ratio(1, 5) { random.random_range(1_350..1_550) } else { random.random_range(0..40) }
}

/// An SCTP packet: its chunk is about as often one that opens an association. Its checksum is any, or yet to be computed:
/// what ports change of it does not depend on it.
fn sctp(random: &mut StdRng, ports: [u8; 4]) -> Vec<u8> {
    let mut sctp = vec![0; 12 + 4 * (1 + payload(random) / 4)];
    random.fill(&mut sctp[..]);
    sctp[..4].copy_from_slice(&ports);
    sctp[12] = *[1, 1, 2, 0, 0, 6, 7, 14].choose(random).unwrap();
    if random.random_ratio(1, 5) {
        sctp[8..12].fill(0);
    }
    sctp
}

const PACKETS: u32 = 40_000;
/// So many more that none is without what is rarest, whatever the seed.
const PACKETS_MAX: u32 = 4 * PACKETS;

/// What the packets are to reach.
const EXERCISED: [Counter; 11] = [
    Counter::PacketLb,
    Counter::Masquerade,
    Counter::IcmpError,
    Counter::ToPod,
    Counter::ExternalLocal,
    Counter::ExternalRemote,
    Counter::ExternalDsr,
    Counter::ToDsr,
    Counter::Rejected,
    Counter::ArpReply,
    Counter::CongestionMarked,
];
const DROPPED: [DropReason; 2] = [DropReason::PodBandwidth, DropReason::SctpFragment];

fn run<A: Tested>(
    config: &Config,
    tunnel: Option<Tunnel<A>>,
    programs: &[&'static str],
    generator: &impl Generate<A>,
    also: &[Counter],
    step: impl Fn(&mut Worlds<A>, &'static str, &[u8], &str) -> i32,
) -> Worlds<A>
where
    Node<A>: Default,
{
    let (seed, packets) = parameters();
    let routing = config.routing;
    let too_big = if routing == Routing::Native { &[][..] } else { &[Counter::TooBigAnswered] };
    let exercised = || EXERCISED.iter().chain(too_big).chain(also);
    println!("XEBEC_SEED={seed} XEBEC_PACKETS={packets} {routing:?}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut worlds = Worlds::behind(config, tunnel, &mut random);
    let mut actions = BTreeMap::new();
    let mut flows: Vec<FlowKey<A>> = Vec::new();
    for number in 0..if packets < PACKETS { packets } else { PACKETS_MAX } {
        let is_new = |counter: &Counter| worlds.model.counted(*counter) == 0;
        let is_complete = || {
            !exercised().any(is_new)
                && DROPPED.iter().all(|reason| worlds.drops.contains_key(reason))
                && flows.iter().any(|flow| flow.proto == proto::SCTP)
        };
        if number >= packets && number % 1_000 == 0 && is_complete() {
            break;
        }
        let program = programs[random.random_range(0..programs.len())];
        let packet = match flows.choose(&mut random) {
            Some(flow) if random.random_bool(0.4) => generator.about(&mut random, flow),
            _ => generator.packet(&mut random),
        };
        let action = step(&mut worlds, program, &packet, &format!("seed {seed} packet {number} in {program}"));
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
    for counter in exercised() {
        let counted = worlds.model.counted(*counter);
        println!("{counter:?} {counted}");
        assert!(counted != 0 || packets < PACKETS, "the packets exercise {counter:?}");
    }
    for reason in DROPPED {
        assert!(worlds.drops.contains_key(&reason) || packets < PACKETS, "the packets exercise {reason:?}");
    }
    let has_sctp = worlds.flows().iter().any(|flow| flow.proto == proto::SCTP);
    assert!(has_sctp || packets < PACKETS, "the packets exercise SCTP");
    worlds
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
    const ACK: u8 = 0x10;
    const FIN: u8 = 0x11;
    const RST: u8 = 0x04;
    let config = Config { routing: Routing::Native, snat_ports: 61_000..=61_003, ..testing::config() };
    let mut worlds = Worlds::<Addr4>::new(&config, &mut StdRng::seed_from_u64(1));
    let start = Instant::now();
    let (pod, outside) = ([10, 244, 1, 2], [192, 0, 2, 7]);
    let tuple = |sport| Tuple4 { src: pod, dst: outside, ports: Ports { src: Be16::new(sport), dst: Be16::new(80) } };
    // How many connections of these ports of a pod are opened.
    let open = |worlds: &mut Worlds<Addr4>, sports: Range<u16>| {
        worlds.model.now_ns.set(start.elapsed().as_nanos() as u64);
        let mut opens = |sport| {
            let opens = worlds.step("to_netdev", &packet::segment(&tuple(sport), SYN), "opening") == NEXT;
            if opens {
                let key = conntrack::key(tuple(sport), proto::TCP, Direction::OUT);
                let answer = worlds.model.nat.borrow()[&key].to.reversed();
                worlds.step("from_netdev", &packet::segment(&answer, SYN | ACK), "opening");
                worlds.step("to_netdev", &packet::segment(&tuple(sport), ACK), "opening");
            }
            opens
        };
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
