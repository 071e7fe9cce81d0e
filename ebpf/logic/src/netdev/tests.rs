use xebec_abi::{Counter, proto};

use super::*;
use crate::{
    fixture::*,
    model::{Bytes, Model},
    overlay::{self, Tunnel},
    pod,
};

const SYN: u8 = header::TCP_SYN;

#[track_caller]
fn leaves(model: &Model, packet: &Bytes, expected: Result<Verdict, DropReason>) -> Bytes {
    let mut packet = packet.clone();
    assert_eq!(to_netdev(&mut packet, model), expected, "{packet:02x?}");
    packet
}

#[test]
fn what_leaves_the_cluster_leaves_from_the_node_and_answers_find_the_pod() {
    let model = node();
    for packet in [
        tcp(tuple(POD, 4000, OUTSIDE, 80), SYN),
        udp(tuple(POD, 4000, OUTSIDE, 80), true),
        udp(tuple(POD, 4000, REMOTE_NODE, 53), false),
        echo(8, tuple(POD, 9, OUTSIDE, 9)),
    ] {
        let from = verified(&packet);
        let out = leaves(&model, &packet, Ok(Verdict::PASS));
        let to = verified(&out);
        assert_eq!((to.src, to.dst), (NODE, from.dst));
        assert!((61_000..=65_535).contains(&to.ports.src.get()), "{to:?}");
        assert_eq!(leaves(&model, &packet, Ok(Verdict::PASS)), out, "the flow keeps its port");
        let answer = match packet.0[23] {
            proto::TCP => tcp(to.reversed(), 0x12),
            proto::UDP => udp(to.reversed(), true),
            _ => echo(0, to.reversed()),
        };
        let back = arrives(&model, &answer, Ok(Verdict::pod(IFINDEX)));
        assert_eq!(verified(&back), from.reversed());
    }
    assert_eq!(model.counted(Counter::Masquerade), 4);
}

#[test]
fn what_stays_in_the_cluster_or_is_the_nodes_own_is_left_alone() {
    let mut model = node();
    for (src, dst) in [(NODE, OUTSIDE), (NODE, REMOTE_NODE), (POD, [224, 0, 0, 1]), (OUTSIDE, OUTSIDE)] {
        let packet = udp(tuple(src, 4000, dst, 80), true);
        assert_eq!(leaves(&model, &packet, Ok(Verdict::PASS)), packet);
    }
    leaves(&model, &udp(tuple(POD, 4000, REMOTE, 80), true), Err(DropReason::NoRemote));
    leaves(&model, &udp(tuple(NODE, 4000, VIP, 80), true), Err(DropReason::NoService));
    model.node.overlay = false;
    leaves(&model, &udp(tuple(POD, 4000, REMOTE, 80), true), Ok(Verdict::PASS));
}

#[test]
fn flows_to_one_destination_never_share_a_port() {
    let mut model = node();
    model.node.snat_ports = (61_000, 61_009);
    let mut ports = std::collections::BTreeSet::new();
    for sport in 0..10 {
        let packet = udp(tuple(POD, 4000 + sport, OUTSIDE, 80), true);
        let mut out = packet.clone();
        // With few ports left a flow may be refused; it is then counted, not translated wrongly.
        match to_netdev(&mut out, &model) {
            Ok(_) => {
                assert!(ports.insert(verified(&out).ports.src.get()), "a port twice");
                // An answer and another packet: half-open flows would give their ports.
                arrives(&model, &udp(verified(&out).reversed(), true), Ok(Verdict::pod(IFINDEX)));
                leaves(&model, &packet, Ok(Verdict::PASS));
            }
            Err(reason) => assert_eq!(reason, DropReason::NoSnatPort),
        }
    }
    assert!(ports.len() >= 8, "{ports:?}");
    assert!(model.counted(Counter::SnatRetry) > 0);
    // Another destination may use the same ports.
    leaves(&model, &udp(tuple(POD, 4000, [192, 0, 2, 8], 80), true), Ok(Verdict::PASS));
}

const FIN: u8 = header::TCP_FIN | header::TCP_ACK;
const RST: u8 = header::TCP_RST;
const SECOND: u64 = 1_000_000_000;

/// A connection from a pod's port to a server outside; the port that the node has for it.
fn connect(model: &Model, sport: u16) -> Result<u16, DropReason> {
    let mut packet = tcp(tuple(POD, sport, OUTSIDE, 80), SYN);
    to_netdev(&mut packet, model)?;
    Ok(verified(&packet).ports.src.get())
}

/// [`connect`], and the rest of the handshake.
fn establish(model: &Model, sport: u16) -> Result<u16, DropReason> {
    let port = connect(model, sport)?;
    answer(model, port, SYN | header::TCP_ACK);
    leaves(model, &tcp(tuple(POD, sport, OUTSIDE, 80), header::TCP_ACK), Ok(Verdict::PASS));
    Ok(port)
}

fn answer(model: &Model, port: u16, flags: u8) -> Bytes {
    arrives(model, &tcp(tuple(OUTSIDE, 80, NODE, port), flags), Ok(Verdict::pod(IFINDEX)))
}

/// Four ports that are taken by connections, of the pod's ports 4000 to 4003.
fn full() -> (Model, Vec<u16>) {
    let mut model = node();
    model.node.snat_ports = (61_000, 61_003);
    let mut ports = Vec::new();
    for sport in 4_000.. {
        ports.extend(establish(&model, sport));
        if ports.len() == 4 {
            break;
        }
    }
    (model, ports)
}

/// The pod's port whose connection the node has this port for.
fn owner(model: &Model, port: u16) -> u16 {
    verified(&answer(model, port, header::TCP_ACK)).ports.dst.get()
}

#[test]
fn a_connection_that_is_over_gives_its_port() {
    let (model, ports) = full();
    assert_eq!(connect(&model, 5_000), Err(DropReason::NoSnatPort));
    let old = owner(&model, ports[1]);
    leaves(&model, &tcp(tuple(POD, old, OUTSIDE, 80), FIN), Ok(Verdict::PASS));
    model.now_ns.set(model.now_ns.get() + 2 * SECOND);
    assert_eq!(connect(&model, 5_000), Err(DropReason::NoSnatPort), "half closed");
    answer(&model, ports[1], FIN);
    leaves(&model, &tcp(tuple(POD, old, OUTSIDE, 80), header::TCP_ACK), Ok(Verdict::PASS));
    assert_eq!(connect(&model, 5_000), Err(DropReason::NoSnatPort), "just closed");
    model.now_ns.set(model.now_ns.get() + 2 * SECOND);
    let entries = model.nat.borrow().len();
    assert_eq!(establish(&model, 5_000), Ok(ports[1]));
    assert_eq!(model.nat.borrow().len(), entries, "both entries are another's, and nothing else is left");
    assert_eq!(owner(&model, ports[1]), 5_000);
    assert_eq!(connect(&model, 5_001), Err(DropReason::NoSnatPort), "it is given once");
    // What comes late from the old connection gets in nobody's way.
    let mut late = tcp(tuple(POD, old, OUTSIDE, 80), header::TCP_ACK);
    assert_eq!(to_netdev(&mut late, &model), Err(DropReason::NoSnatPort));
    // The same pod's port again: its own entries, open again.
    answer(&model, ports[1], FIN);
    leaves(&model, &tcp(tuple(POD, 5_000, OUTSIDE, 80), FIN), Ok(Verdict::PASS));
    assert_eq!(establish(&model, 5_000), Ok(ports[1]));
    model.now_ns.set(model.now_ns.get() + 2 * SECOND);
    assert_eq!(connect(&model, 5_001), Err(DropReason::NoSnatPort), "open again");
}

#[test]
fn an_aborted_connection_gives_its_port() {
    let (model, ports) = full();
    leaves(&model, &tcp(tuple(POD, owner(&model, ports[2]), OUTSIDE, 80), RST), Ok(Verdict::PASS));
    model.now_ns.set(model.now_ns.get() + 2 * SECOND);
    assert_eq!(connect(&model, 5_000), Ok(ports[2]));
    // By the server: it may be forged, unless it refuses the connection.
    answer(&model, ports[2], RST | header::TCP_ACK);
    let open = owner(&model, ports[0]);
    leaves(&model, &tcp(tuple(POD, open, OUTSIDE, 80), header::TCP_ACK), Ok(Verdict::PASS));
    answer(&model, ports[0], RST);
    model.now_ns.set(model.now_ns.get() + 2 * SECOND);
    assert_eq!(establish(&model, 5_001), Ok(ports[2]));
    assert_eq!(connect(&model, 5_002), Err(DropReason::NoSnatPort));
    model.now_ns.set(model.now_ns.get() + 9 * SECOND);
    assert_eq!(connect(&model, 5_002), Ok(ports[0]));
}

#[test]
fn a_pod_accepts_no_connection_that_is_not_known() {
    let model = node();
    let mut packet = tcp(tuple(POD, 80, OUTSIDE, 5_000), SYN | header::TCP_ACK);
    assert_eq!(to_netdev(&mut packet, &model), Err(DropReason::NoFlow));
    assert!(model.nat.borrow().is_empty(), "what it sends later is not taken for its own connection");
}

#[test]
fn what_is_established_keeps_its_port_and_a_stray_segment_gets_none() {
    let (model, ports) = full();
    leaves(&model, &tcp(tuple(POD, owner(&model, ports[0]), OUTSIDE, 80), RST), Ok(Verdict::PASS));
    model.now_ns.set(model.now_ns.get() + 2 * SECOND);
    let mut stray = tcp(tuple(POD, 5_000, OUTSIDE, 80), header::TCP_ACK);
    assert_eq!(to_netdev(&mut stray, &model), Err(DropReason::NoSnatPort));
    let datagram = |sport| udp(tuple(POD, sport, OUTSIDE, 80), true);
    for sport in 6_000..6_100 {
        let mut packet = datagram(sport);
        if to_netdev(&mut packet, &model).is_ok() {
            arrives(&model, &udp(verified(&packet).reversed(), true), Ok(Verdict::pod(IFINDEX)));
            leaves(&model, &datagram(sport), Ok(Verdict::PASS));
        }
    }
    model.now_ns.set(model.now_ns.get() + 400 * SECOND);
    assert_eq!(to_netdev(&mut datagram(7_000), &model), Err(DropReason::NoSnatPort));
}

#[test]
fn errors_are_translated_both_ways() {
    let model = node();
    let request = udp(tuple(POD, 4000, OUTSIDE, 80), true);
    let out = leaves(&model, &request, Ok(Verdict::PASS));
    // A router outside about the pod's packet.
    let router = [203, 0, 113, 1];
    let back = arrives(&model, &unreachable(router, &out), Ok(Verdict::pod(IFINDEX)));
    let outer = verified(&back);
    assert_eq!((outer.src, outer.dst), (router, POD));
    assert_eq!(quoted(&back), verified(&request));
    // The pod about an answer.
    let answer = udp(verified(&request).reversed(), true);
    let error = leaves(&model, &unreachable(POD, &answer), Ok(Verdict::PASS));
    let outer = verified(&error);
    assert_eq!((outer.src, outer.dst), (NODE, OUTSIDE));
    assert_eq!(quoted(&error), verified(&out).reversed());
}

#[test]
fn what_belongs_to_no_flow_is_the_nodes() {
    let model = node();
    let stray = udp(tuple(OUTSIDE, 80, NODE, 61_500), true);
    assert_eq!(arrives(&model, &stray, Ok(Verdict::PASS)), stray);
    assert_eq!(model.counted(Counter::SnatMiss), 1);
    for packet in [
        udp(tuple(OUTSIDE, 80, NODE, 8472), true),
        echo(8, tuple(OUTSIDE, 61_000, NODE, 61_000)),
        unreachable(OUTSIDE, &udp(tuple(NODE, 4000, OUTSIDE, 80), true)),
    ] {
        assert_eq!(arrives(&model, &packet, Ok(Verdict::PASS)), packet);
    }
}

#[test]
fn a_flow_from_outside_is_answered_from_the_pods_address() {
    let model = node();
    let opened = tuple(OUTSIDE, 5000, POD, 80);
    let packet = arrives(&model, &tcp(opened, SYN), Ok(Verdict::pod(IFINDEX)));
    assert_eq!(verified(&packet), opened);
    let answer = tcp(opened.reversed(), 0x12);
    assert_eq!(leaves(&model, &answer, Ok(Verdict::PASS)), answer);
    assert_eq!(model.counted(Counter::Masquerade), 0);
}

#[test]
fn an_answer_to_a_node_goes_back_through_the_overlay() {
    let model = node();
    let opened = tuple(REMOTE_NODE, 5000, POD, 80);
    let tunnel = Tunnel { vni: 7, node: REMOTE_NODE };
    let mut packet = tcp(opened, SYN);
    assert_eq!(overlay::from_overlay(&mut packet, &model, overlay::behind(Some(tunnel))), Ok(Verdict::pod(IFINDEX)));
    let mut answer = tcp(opened.reversed(), 0x12);
    assert_eq!(pod::from_pod(&mut answer, &model, IFINDEX), Ok(Verdict::overlay(REMOTE_NODE)));
    let mut stranger = tcp(opened, SYN);
    let other = Tunnel { vni: 8, ..tunnel };
    assert_eq!(overlay::from_overlay(&mut stranger, &model, overlay::behind(Some(other))), Err(DropReason::TunnelId));
}

#[test]
fn a_lost_half_of_a_flow_is_written_again() {
    let model = node();
    let packet = udp(tuple(POD, 4000, OUTSIDE, 80), true);
    let out = leaves(&model, &packet, Ok(Verdict::PASS));
    model.nat.borrow_mut().retain(|key, _| key.direction == Direction::OUT);
    for _ in 0..64 {
        leaves(&model, &packet, Ok(Verdict::PASS));
    }
    assert_eq!(model.counted(Counter::HalfFlow), 1);
    arrives(&model, &udp(verified(&out).reversed(), true), Ok(Verdict::pod(IFINDEX)));
}
