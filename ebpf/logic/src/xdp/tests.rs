use xebec_abi::{Backend4, BackendKey, Be16, FrontendKey4, FrontendValue, ServiceId, lb::frontend_flag, lb::scope};

use super::*;
use crate::{
    Action,
    fixture::*,
    header::{TCP_ACK, TCP_SYN},
    model::{Bytes, Model, checksum},
    netdev::from_netdev,
};

const NODE_PORT: u16 = 30_080;
const MACS: Macs = [2, 0, 0, 0, 0, 0xaa, 2, 0, 0, 0, 0, 0xbb];

fn served(backends: &[Addr4], flags: u16) -> Model {
    let mut model = node();
    for proto in [proto::TCP, proto::UDP] {
        let key = FrontendKey4 { addr: NODE, port: Be16::new(NODE_PORT), proto, scope: scope::EXTERNAL };
        let count = backends.len() as u16;
        let value = FrontendValue { service: ServiceId(1), backends: count, flags, ..FrontendValue::default() };
        model.frontends.insert(key, value);
    }
    for (slot, addr) in (0..).zip(backends) {
        let backend = Backend4 { addr: *addr, port: Be16::new(8080), ..Backend4::default() };
        model.backends.insert(BackendKey { service: ServiceId(1), generation: 0, slot }, backend);
    }
    model
}

/// What the program does where the FIB knows every next hop.
pub fn run<A: Family>(packet: &mut Bytes, model: &Model<A>) -> Option<Hop<A>> {
    let mut room = Room::default();
    decide(packet, model, &mut room)?;
    rewrite(packet, model, &mut room, MACS).expect("room for headers");
    Some(room.hop)
}

#[track_caller]
fn passes(model: &Model, packet: &Bytes) {
    let mut same = packet.clone();
    assert_eq!(run(&mut same, model), None);
    assert_eq!(same, *packet);
}

/// The packet in the overlay, after its headers have been checked.
#[track_caller]
pub fn inside(packet: &Bytes, node: Addr4) -> Bytes {
    let (outer, inner) = packet.0.split_at(OVERLAY_BYTES);
    assert_eq!(outer[..14], [&MACS[..], &[8, 0]].concat());
    assert_eq!(checksum(&outer[14..34], 0), 0);
    assert_eq!((&outer[26..30], &outer[30..34]), (&NODE[..], &node[..]));
    let word = |at: usize| usize::from(u16::from_be_bytes([outer[at], outer[at + 1]]));
    assert_eq!((outer[14], outer[22], outer[23]), (0x45, 64, proto::UDP));
    assert_eq!((word(16), word(36), word(38)), (packet.0.len() - 14, 8_472, packet.0.len() - 34));
    assert_eq!(word(40), 0, "no checksum");
    assert_eq!(outer[42..], [8, 0, 0, 0, 0, 0, 7, 0]);
    Bytes(inner.to_vec())
}

#[test]
fn a_backend_elsewhere_is_reached_through_the_overlay_with_the_entries_of_the_slower_path() {
    let model = served(&[REMOTE], 0);
    let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
    for first in [tcp(dialled, TCP_SYN), udp(dialled, true), udp(dialled, false)] {
        let mut early = first.clone();
        let hop = run(&mut early, &model).expect("a hop");
        assert_eq!((hop.node, hop.src, hop.dst, hop.proto), (REMOTE_NODE, NODE, REMOTE_NODE, proto::UDP));
        let inner = inside(&early, REMOTE_NODE);
        let mut late = first.clone();
        assert_eq!(from_netdev(&mut late, &model), Ok(crate::Verdict::overlay(REMOTE_NODE)));
        assert_eq!(inner, late, "both paths make the same of it");
        let next = if first.0[23] == proto::TCP { tcp(dialled, TCP_ACK) } else { first };
        let mut again = next.clone();
        run(&mut again, &model).expect("a hop");
        assert_eq!(verified(&inside(&again, REMOTE_NODE)), verified(&late));
    }
    assert_eq!(model.nat.borrow().len(), 4, "two for each protocol");
    assert_eq!(model.counted(Counter::XdpOverlay), 6);
}

#[test]
fn native_routes_lead_there_and_back() {
    let mut model = served(&[REMOTE], 0);
    model.node.overlay = false;
    let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
    let mut there = tcp(dialled, TCP_SYN);
    let hop = run(&mut there, &model).expect("a hop");
    assert_eq!((hop.node, hop.src, hop.dst, hop.bytes), ([0; 4], NODE, REMOTE, 40));
    assert_eq!(there.0[..12], MACS);
    let to = verified(&there);
    assert_eq!((to.src, to.dst, there.0[22]), (NODE, REMOTE, 63));
    let mut back = tcp(to.reversed(), TCP_SYN | TCP_ACK);
    let hop = run(&mut back, &model).expect("a hop");
    assert_eq!((hop.src, hop.dst), (NODE, OUTSIDE));
    assert_eq!(verified(&back), dialled.reversed());
    assert_eq!(model.counted(Counter::XdpForward), 2);
}

#[test]
fn what_the_slower_path_does_is_left_to_it() {
    let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
    let refusing = [
        served(&[POD], 0),
        served(&[NODE], 0),
        served(&[], 0),
        served(&[REMOTE], frontend_flag::LOCAL_ONLY),
        served(&[REMOTE], frontend_flag::SOURCE_RANGES),
    ];
    for model in &refusing {
        passes(model, &tcp(dialled, TCP_SYN));
        passes(model, &udp(dialled, true));
        assert_eq!(model.nat.borrow().len(), 0, "no entry is made for a packet that is left alone");
    }
    passes(&served(&[[10, 244, 9, 9]], 0), &tcp(dialled, TCP_SYN));
    let model = served(&[REMOTE], 0);
    let mut old = tcp(dialled, TCP_SYN);
    old.0[22] = 1;
    for packet in [
        old,
        tcp(tuple(OUTSIDE, 5000, NODE, 22), TCP_SYN),
        udp(tuple(REMOTE_NODE, 5000, NODE, OVERLAY_PORT), true),
        tcp(tuple(OUTSIDE, 5000, POD, NODE_PORT), TCP_SYN),
        fragment(dialled, 0x2000),
        fragment(dialled, 0x0001),
        echo(8, tuple(OUTSIDE, 7, NODE, 7)),
        udp(tuple(OUTSIDE, 53, NODE, 61_500), true),
        Bytes(vec![0; 13]),
        Bytes([&[0; 12][..], &[8, 6], &[0; 46]].concat()),
    ] {
        passes(&model, &packet);
    }
}

#[test]
fn a_known_flow_to_a_backend_here_is_not_balanced_again() {
    let mut model = served(&[POD], 0);
    let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
    let known = from_netdev(&mut tcp(dialled, TCP_SYN), &model).expect("a backend");
    assert_eq!(known.action, Action::Pod);
    for backend in model.backends.values_mut() {
        backend.addr = REMOTE;
    }
    passes(&model, &tcp(dialled, TCP_ACK));
    assert_eq!(model.counted(Counter::FlowMiss), 0);
}

#[test]
fn answers_to_pods_are_delivered_by_the_slower_path() {
    let model = node();
    let mut out = udp(tuple(POD, 5000, OUTSIDE, 53), true);
    crate::netdev::to_netdev(&mut out, &model).expect("masqueraded");
    let answer = udp(verified(&out).reversed(), true);
    passes(&model, &answer);
    let mut back = answer.clone();
    assert_eq!(from_netdev(&mut back, &model), Ok(crate::Verdict::pod(IFINDEX)));
    let seen = model.nat.borrow().values().map(|flow| flow.packets).collect::<Vec<_>>();
    assert_eq!(seen.iter().max(), Some(&2), "an answer is counted once");
}
