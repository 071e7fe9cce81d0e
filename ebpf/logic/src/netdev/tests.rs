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

#[track_caller]
fn arrives(model: &Model, packet: &Bytes, expected: Result<Verdict, DropReason>) -> Bytes {
    let mut packet = packet.clone();
    assert_eq!(from_netdev(&mut packet, model), expected, "{packet:02x?}");
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
            Ok(_) => assert!(ports.insert(verified(&out).ports.src.get()), "a port twice"),
            Err(reason) => assert_eq!(reason, DropReason::NoSnatPort),
        }
    }
    assert!(ports.len() >= 8, "{ports:?}");
    assert!(model.counted(Counter::SnatRetry) > 0);
    // Another destination may use the same ports.
    leaves(&model, &udp(tuple(POD, 4000, [192, 0, 2, 8], 80), true), Ok(Verdict::PASS));
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
    assert_eq!(overlay::from_overlay(&mut packet, &model, Some(tunnel)), Ok(Verdict::pod(IFINDEX)));
    let mut answer = tcp(opened.reversed(), 0x12);
    assert_eq!(pod::from_pod(&mut answer, &model, IFINDEX), Ok(Verdict::overlay(REMOTE_NODE)));
    let mut stranger = tcp(opened, SYN);
    let other = Tunnel { vni: 8, ..tunnel };
    assert_eq!(overlay::from_overlay(&mut stranger, &model, Some(other)), Err(DropReason::TunnelId));
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
