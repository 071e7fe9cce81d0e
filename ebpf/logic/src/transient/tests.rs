use xebec_abi::{Addr4, Backend4, BackendKey, Be16, DropReason, FrontendKey4, FrontendValue, ServiceId, lb::scope};

use super::*;
use crate::{
    Action, Verdict,
    fixture::*,
    header::TCP_ACK,
    model::{Bytes, Model},
    netdev::{from_netdev, to_netdev},
    overlay::{behind, from_overlay},
};
use xebec_abi::Tuple4;

const NODE_PORT: u16 = 30_080;
/// Places of transient flows.
const PLACES: u16 = 8;
/// The backend's first sequence number.
const ISN: u32 = 0xffff_ff80;

/// A node whose port leads to one backend.
fn served(backend: Addr4) -> Model {
    let mut model = node();
    model.transient_max = [u32::from(PLACES); 2];
    for (id, proto) in [(1, proto::TCP), (2, proto::UDP)] {
        let key = FrontendKey4 { addr: NODE, port: Be16::new(NODE_PORT), proto, scope: scope::EXTERNAL };
        let service = ServiceId(id);
        model.frontends.insert(key, FrontendValue { service, backends: 1, ..FrontendValue::default() });
        let backend = Backend4 { addr: backend, port: Be16::new(8080), ..Backend4::default() };
        model.backends.insert(BackendKey { service, ..BackendKey::default() }, backend);
    }
    model
}

fn segment(tuple: Tuple4, flags: u8, seq: u32, ack: u32) -> Bytes {
    let mut packet = tcp(tuple, flags);
    packet.0[38..42].copy_from_slice(&seq.to_be_bytes());
    packet.0[42..46].copy_from_slice(&ack.to_be_bytes());
    packet
}

fn client(port: u16) -> Tuple4 {
    tuple(OUTSIDE, port, NODE, NODE_PORT)
}

/// What the packet is at the backend.
#[track_caller]
fn arrives(model: &Model, mut packet: Bytes) -> Tuple4 {
    let verdict = from_netdev(&mut packet, model);
    assert!(matches!(verdict, Ok(Verdict { action: Action::Pod | Action::Overlay, .. })), "{verdict:?}");
    let at = |at: usize| [packet.0[at], packet.0[at + 1], packet.0[at + 2], packet.0[at + 3]];
    let port = |at: usize| u16::from_be_bytes([packet.0[at], packet.0[at + 1]]);
    tuple(at(26), port(34), at(30), port(36))
}

/// What the backend sends to the client leaves through the uplink, or comes in by the overlay.
#[track_caller]
fn answers(model: &Model, mut packet: Bytes) {
    let verdict = if packet.0[26..30] == REMOTE {
        from_overlay(&mut packet, model, behind(None))
    } else {
        to_netdev(&mut packet, model)
    };
    assert!(matches!(verdict, Ok(Verdict { action: Action::Pass | Action::Forward, .. })), "{verdict:?}");
}

/// A handshake, whose last segment acknowledges `ack` more than the backend's first number.
#[track_caller]
fn shake(model: &Model, port: u16, ack: u32) -> Tuple4 {
    let there = arrives(model, segment(client(port), TCP_SYN, 1, 0));
    answers(model, segment(there.reversed(), TCP_SYN | TCP_ACK, ISN, 2));
    assert_eq!(arrives(model, segment(client(port), TCP_ACK, 2, ISN.wrapping_add(ack))), there);
    there
}

fn flood(model: &Model) {
    for port in 20_000..20_000 + PLACES * 10 {
        arrives(model, segment(client(port), TCP_SYN, 7, 0));
    }
}

/// The flow of this port, if it is there: what it becomes and how it is.
fn request(model: &Model, port: u16) -> Option<(Tuple4, FlowState)> {
    let key = crate::conntrack::key(client(port), proto::TCP, Direction::OUT);
    model.nat.borrow().get(&key).map(|flow| (flow.to, flow.state))
}

#[test]
fn a_flood_leaves_established_flows_alone() {
    for backend in [POD, REMOTE] {
        let model = served(backend);
        for port in 4_000..4_040 {
            shake(&model, port, 1);
        }
        let there: Vec<_> = (4_000..4_040).map(|port| request(&model, port)).collect();
        assert!(there.iter().all(|flow| flow.is_some_and(|(_, state)| state == FlowState::OPEN)), "{there:?}");
        flood(&model);
        assert_eq!((4_000..4_040).map(|port| request(&model, port)).collect::<Vec<_>>(), there);
        assert_eq!(model.nat.borrow().len(), 2 * (40 + usize::from(PLACES)), "both entries of a flow go");
        assert_eq!(model.counted(Counter::HalfOpenEvicted), u64::from(PLACES) * 9);
        // Answers find their entries too.
        let (to, _) = there[0].expect("a flow");
        answers(&model, segment(to.reversed(), TCP_ACK, ISN.wrapping_add(1), 2));
        assert_eq!(model.counted(Counter::SnatMiss), 0);
    }
}

#[test]
fn who_did_not_see_the_answer_opens_nothing() {
    let model = served(POD);
    // Nothing acknowledged, all too much, and what was never sent.
    for (port, ack) in (4_000..).zip([0x8000_0000, 1 << 21, 0_u32.wrapping_sub(1_000)]) {
        shake(&model, port, ack);
        assert!(request(&model, port).expect("a flow").1.is_half_open(), "{ack:#x}");
    }
    // An acknowledgement before there is an answer.
    arrives(&model, segment(client(4_010), TCP_SYN, 1, 0));
    arrives(&model, segment(client(4_010), TCP_ACK, 2, 1));
    // One that resets, or opens.
    let there = shake(&model, 4_011, 1 << 21);
    for flags in [TCP_RST | TCP_ACK, TCP_SYN] {
        arrives(&model, segment(client(4_011), flags, 2, ISN.wrapping_add(1)));
        answers(&model, segment(there.reversed(), TCP_RST | TCP_ACK, ISN, 2));
    }
    for port in [4_010, 4_011] {
        assert!(request(&model, port).expect("a flow").1.is_half_open(), "{port}");
    }
    flood(&model);
    for port in [4_000, 4_001, 4_002, 4_010, 4_011] {
        assert_eq!(request(&model, port), None, "{port}");
    }
}

#[test]
fn a_connection_goes_on_that_was_forgotten_half_open() {
    let model = served(POD);
    let there = arrives(&model, segment(client(4_000), TCP_SYN, 1, 0));
    flood(&model);
    assert_eq!(request(&model, 4_000), None);
    // The client got the answer before that.
    assert_eq!(arrives(&model, segment(client(4_000), TCP_ACK, 2, ISN.wrapping_add(1))), there);
    // Now the backend has something to say.
    answers(&model, segment(there.reversed(), TCP_ACK, ISN.wrapping_add(1), 2));
    arrives(&model, segment(client(4_000), TCP_ACK, 2, ISN.wrapping_add(1_001)));
    assert_eq!(request(&model, 4_000), Some((there, FlowState::OPEN)));
}

#[test]
fn datagrams_are_a_flow_when_the_client_goes_on_after_an_answer() {
    let model = served(POD);
    let key = crate::conntrack::key(client(4_000), proto::UDP, Direction::OUT);
    let state = || model.nat.borrow()[&key].state;
    let send = || arrives(&model, udp(client(4_000), true));
    let there = send();
    send();
    assert_eq!(state(), FlowState::OPENING);
    answers(&model, udp(there.reversed(), true));
    assert!(state().is_half_open());
    send();
    assert_eq!(state(), FlowState::OPEN);
    flood(&model);
    assert_eq!(state(), FlowState::OPEN);
}

#[test]
fn a_forged_syn_does_not_end_a_connection() {
    for backend in [POD, REMOTE] {
        let model = served(backend);
        let there = shake(&model, 4_000, 1);
        assert_eq!(arrives(&model, segment(client(4_000), TCP_SYN, 99, 0)), there);
        flood(&model);
        assert_eq!(request(&model, 4_000), Some((there, FlowState::OPEN)));
        // Its backend resets what it does not know: then the next one opens another.
        arrives(&model, segment(client(4_000), TCP_RST, 99, 0));
        arrives(&model, segment(client(4_000), TCP_SYN, 99, 0));
        assert_eq!(request(&model, 4_000).expect("a flow").1, FlowState::OPENING);
    }
}

#[test]
fn closed_flows_make_place_but_not_before_both_ends_closed_them() {
    const FIN: u8 = TCP_FIN | TCP_ACK;
    let model = served(POD);
    for port in 4_000..4_003 {
        let there = shake(&model, port, 1);
        if port != 4_002 {
            arrives(&model, segment(client(port), FIN, 2, ISN.wrapping_add(1)));
        }
        if port != 4_001 {
            answers(&model, segment(there.reversed(), FIN, ISN.wrapping_add(1), 3));
        }
    }
    flood(&model);
    assert_eq!(request(&model, 4_000), None);
    assert!(request(&model, 4_001).is_some() && request(&model, 4_002).is_some(), "half-closed");
}

#[test]
fn half_open_flows_give_their_ports() {
    let mut model = served(REMOTE);
    model.transient_max = [100; 2];
    model.node.snat_ports = (61_000, 61_003);
    for packet in [segment(client(4_000), TCP_SYN, 1, 0), udp(client(4_000), true)] {
        let of = |port| {
            let mut packet = packet.clone();
            packet.0[34..36].copy_from_slice(&u16::to_be_bytes(port));
            packet
        };
        for port in 20_000..20_200 {
            let verdict = from_netdev(&mut of(port), &model);
            assert!(verdict.is_ok(), "{verdict:?}");
        }
    }
    assert!(model.counted(Counter::SnatTakeover) >= 300);
    // Established ones keep theirs.
    let mut established: Vec<u16> = Vec::new();
    for port in 4_000..4_100 {
        let mut syn = segment(client(port), TCP_SYN, 1, 0);
        match from_netdev(&mut syn, &model) {
            Ok(_) => {
                shake(&model, port, 1);
                established.push(port);
            }
            Err(reason) => assert_eq!(reason, DropReason::NoSnatPort),
        }
    }
    assert_eq!(established.len(), 4, "as many as ports");
    for port in established {
        assert_eq!(request(&model, port).expect("a flow").1, FlowState::OPEN);
    }
}

#[test]
fn who_dials_a_pod_itself_is_no_different() {
    let model = served(POD);
    let dialled = tuple(OUTSIDE, 4_000, POD, 80);
    let key = crate::conntrack::key(dialled.reversed(), proto::TCP, Direction::INBOUND);
    let state = || model.conntrack.borrow().get(&key).map(|flow| flow.state);
    arrives(&model, segment(dialled, TCP_SYN, 1, 0));
    answers(&model, segment(dialled.reversed(), TCP_SYN | TCP_ACK, ISN, 2));
    arrives(&model, segment(dialled, TCP_ACK, 2, 0x8000_0000));
    assert!(state().expect("a flow").is_half_open());
    arrives(&model, segment(dialled, TCP_ACK, 2, ISN.wrapping_add(1)));
    assert_eq!(state(), Some(FlowState::OPEN));
    for port in 20_000..20_100 {
        arrives(&model, segment(tuple(OUTSIDE, port, POD, 80), TCP_SYN, 1, 0));
    }
    assert_eq!(state(), Some(FlowState::OPEN));
    assert_eq!(model.conntrack.borrow().len(), 1 + usize::from(PLACES));
}
