use xebec_abi::{ServiceId, lb::frontend_flag};

use super::*;
use crate::{
    fixture::*,
    model::{Bytes, Model},
};

const SYN: u8 = header::TCP_SYN;

#[track_caller]
fn sends(model: &Model, packet: &Bytes, expected: Result<Verdict, DropReason>) -> Bytes {
    let mut packet = packet.clone();
    assert_eq!(from_pod(&mut packet, model, IFINDEX), expected, "{packet:02x?}");
    packet
}

#[test]
fn a_pods_packets_go_where_their_destination_is() {
    let model = node();
    let delivered = Verdict::pod(IFINDEX + 1);
    let packet = sends(&model, &tcp(tuple(POD, 4000, OTHER, 80), SYN), Ok(delivered));
    assert_eq!(packet.0[..12], [2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 1, 3]);
    assert_eq!(packet.0[22], 63);
    sends(&model, &tcp(tuple(POD, 4000, REMOTE, 80), SYN), Ok(Verdict::overlay(REMOTE_NODE)));
    for stack in [NODE, OUTSIDE, [10, 244, 1, 1], [10, 244, 1, 77], [10, 244, 9, 9]] {
        sends(&model, &tcp(tuple(POD, 4000, stack, 80), SYN), Ok(Verdict::PASS));
    }
    let mut native = node();
    native.node.overlay = false;
    sends(&native, &tcp(tuple(POD, 4000, REMOTE, 80), SYN), Ok(Verdict::ROUTE));
}

#[test]
fn a_pod_sends_from_its_own_address_only() {
    let model = node();
    for forged in [OTHER, REMOTE, NODE, OUTSIDE, model.node.hairpin_ip] {
        sends(&model, &tcp(tuple(forged, 4000, OTHER, 80), SYN), Err(DropReason::InvalidSource));
    }
}

#[test]
fn broken_packets_are_dropped_and_other_protocols_pass() {
    let model = node();
    let whole = tcp(tuple(POD, 4000, OTHER, 80), SYN);
    for len in [14, 20, 33, 34, 37, 47] {
        sends(&model, &Bytes(whole.0[..len].to_vec()), Err(DropReason::InvalidPacket));
    }
    let with = |at: usize, bytes: &[u8]| {
        let mut packet = whole.clone();
        packet.0[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    sends(&model, &with(14, &[0x44]), Err(DropReason::InvalidPacket));
    sends(&model, &with(14, &[0x65]), Err(DropReason::InvalidPacket));
    sends(&model, &with(12, &[0x08, 0x06]), Ok(Verdict::PASS));
    sends(&model, &with(12, &[0x86, 0xdd]), Ok(Verdict::PASS));
    assert_eq!(model.counted(Counter::NotIpv4), 1);
}

#[test]
fn services_are_balanced_packet_by_packet_and_answers_come_from_the_service() {
    let mut model = node();
    serve(&mut model, &[OTHER], 1, 0, 0);
    let dialled = tuple(POD, 4000, VIP, 80);
    for packet in [tcp(dialled, SYN), udp(dialled, true), sctp(dialled, 1, b"")] {
        let there = sends(&model, &packet, Ok(Verdict::pod(IFINDEX + 1)));
        assert_eq!(verified(&there), tuple(POD, 4000, OTHER, 8080));
    }
    // The answer, past the host's stack and through it.
    let answers = tuple(OTHER, 8080, POD, 4000);
    for answer in [tcp(answers, 0x12), udp(answers, true), sctp(answers, 2, b"")] {
        let mut past = answer.clone();
        assert_eq!(from_pod(&mut past, &model, IFINDEX + 1), Ok(Verdict::pod(IFINDEX)));
        assert_eq!(verified(&past), dialled.reversed());
        let mut through = answer;
        assert_eq!(to_pod(&mut through, &model), Ok(Verdict::PASS));
        assert_eq!(verified(&through), dialled.reversed());
    }
    assert_eq!(model.counted(Counter::PacketLb), 3);
}

#[test]
fn a_flow_keeps_its_backend_when_the_service_changes() {
    let mut model = node();
    serve(&mut model, &[OTHER], 1, 0, 0);
    let dialled = tuple(POD, 4000, VIP, 80);
    sends(&model, &tcp(dialled, SYN), Ok(Verdict::pod(IFINDEX + 1)));
    serve(&mut model, &[REMOTE], 0, 0, 0);
    sends(&model, &tcp(dialled, 0x10), Ok(Verdict::pod(IFINDEX + 1)));
    sends(&model, &tcp(tuple(POD, 4001, VIP, 80), SYN), Ok(Verdict::overlay(REMOTE_NODE)));
}

/// Of telephone networks, clients have ports of their own, which they open associations from again and again.
#[test]
fn an_association_keeps_its_backend_and_the_next_one_from_its_port_chooses_anew() {
    let (init, data) = (1, 0);
    let mut model = node();
    serve(&mut model, &[OTHER], 1, 0, 0);
    let dialled = tuple(POD, 36_412, VIP, 80);
    sends(&model, &sctp(dialled, init, b""), Ok(Verdict::pod(IFINDEX + 1)));
    serve(&mut model, &[REMOTE], 0, 0, 0);
    sends(&model, &sctp(dialled, data, b"data"), Ok(Verdict::pod(IFINDEX + 1)));
    sends(&model, &sctp(dialled, init, b""), Ok(Verdict::overlay(REMOTE_NODE)));
}

#[test]
fn a_pod_reaches_itself_through_the_hairpin_address() {
    let mut model = node();
    serve(&mut model, &[POD], 1, 0, 0);
    let hairpin = model.node.hairpin_ip;
    let there = sends(&model, &tcp(tuple(POD, 4000, VIP, 80), SYN), Ok(Verdict::pod(IFINDEX)));
    assert_eq!(verified(&there), tuple(hairpin, 4000, POD, 8080));
    let back = sends(&model, &tcp(tuple(POD, 8080, hairpin, 4000), 0x12), Ok(Verdict::pod(IFINDEX)));
    assert_eq!(verified(&back), tuple(VIP, 80, POD, 4000));
}

#[test]
fn what_cannot_be_served_is_dropped_with_its_reason() {
    let mut model = node();
    serve(&mut model, &[], 0, 0, 0);
    sends(&model, &tcp(tuple(POD, 4000, VIP, 80), header::TCP_RST), Err(DropReason::NoBackend));
    sends(&model, &tcp(tuple(POD, 4000, VIP, 81), SYN), Err(DropReason::NoService));
    sends(&model, &echo(8, tuple(POD, 1, VIP, 1)), Err(DropReason::NoService));
    sends(&model, &fragment(tuple(POD, 4000, VIP, 80), 20), Err(DropReason::UnknownFragment));
    serve(&mut model, &[OTHER], 1, 0, 0);
    model.flows_max = Some(1);
    sends(&model, &tcp(tuple(POD, 4000, VIP, 80), SYN), Err(DropReason::FlowInsert));
}

#[test]
fn source_ranges_name_the_pods() {
    let mut model = node();
    serve(&mut model, &[OTHER], 1, frontend_flag::SOURCE_RANGES, 0);
    let packet = tcp(tuple(POD, 4000, VIP, 80), SYN);
    sends(&model, &packet, Err(DropReason::SourceRange));
    model.ranges.insert(ServiceId(1), vec![(POD, 32)]);
    let there = sends(&model, &packet, Ok(Verdict::pod(IFINDEX + 1)));
    assert_eq!(verified(&there), tuple(POD, 4000, OTHER, 8080));
}

#[test]
fn later_fragments_follow_the_first() {
    let mut model = node();
    serve(&mut model, &[OTHER], 1, 0, 0);
    let dialled = tuple(POD, 4000, VIP, 80);
    for at in [0x2000, 0x2000 | 2, 4] {
        let packet = sends(&model, &fragment(dialled, at), Ok(Verdict::pod(IFINDEX + 1)));
        let to = verified(&packet);
        assert_eq!((to.src, to.dst), (POD, OTHER));
        if at & 0x1fff != 0 {
            assert_eq!(packet.0[34..38], [0xaa; 4], "a later fragment has no ports to change");
        }
    }
}

#[test]
fn an_error_about_a_backend_is_about_the_service() {
    let mut model = node();
    serve(&mut model, &[REMOTE], 0, 0, 0);
    let there = sends(&model, &udp(tuple(POD, 4000, VIP, 80), true), Ok(Verdict::overlay(REMOTE_NODE)));
    for (from, appears) in [(REMOTE, VIP), (OUTSIDE, OUTSIDE)] {
        let mut error = unreachable(from, &there);
        assert_eq!(to_pod(&mut error, &model), Ok(Verdict::PASS));
        let outer = verified(&error);
        assert_eq!((outer.src, outer.dst), (appears, POD));
        assert_eq!(quoted(&error), tuple(POD, 4000, VIP, 80));
    }
}
