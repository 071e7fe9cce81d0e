use xebec_abi::{Addr4, Backend4, BackendKey, Be16, FrontendKey4, FrontendValue, ServiceId, Tuple4, lb::scope};

use super::*;
use crate::{
    fixture::*,
    header,
    model::{Bytes, Model, checksum},
    netdev::from_netdev,
    overlay::{behind, from_overlay},
    pod::from_pod,
};

const MTU: usize = 1_450;
const NODE_PORT: u16 = 30_080;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const TOO_BIG: Verdict = Verdict::ANSWER;

/// A node with a NodePort of a backend elsewhere.
fn served() -> Model {
    let mut model = node();
    let service = ServiceId(1);
    let key = FrontendKey4 { addr: NODE, port: Be16::new(NODE_PORT), proto: proto::UDP, scope: scope::EXTERNAL };
    model.frontends.insert(key, FrontendValue { service, backends: 1, ..FrontendValue::default() });
    let backend = Backend4 { addr: REMOTE, port: Be16::new(8080), ..Backend4::default() };
    model.backends.insert(BackendKey { service, generation: 0, slot: 0 }, backend);
    model
}

/// A datagram, or part of one, of so many bytes from its IP header on.
fn datagram(tuple: Tuple4, bytes: usize, flags: u16) -> Bytes {
    let mut packet = fragment(tuple, flags);
    packet.0.resize(14 + bytes, 0xab);
    packet.0[16..18].copy_from_slice(&(bytes as u16).to_be_bytes());
    packet.0[24..26].fill(0);
    let sum = checksum(&packet.0[14..34], 0).to_be_bytes();
    packet.0[24..26].copy_from_slice(&sum);
    packet
}

/// An answer that quotes this packet and says what fits.
#[track_caller]
fn check_answer(answer: &Bytes, about: &Bytes, src: Addr4, mtu: u16) {
    let dialled = verified(about);
    let to = verified(answer);
    assert_eq!((to.src, to.dst), (src, dialled.src));
    assert_eq!(answer.0[34..36], [3, 4], "fragmentation needed");
    assert_eq!(answer.0[38..42], [[0; 2], mtu.to_be_bytes()].concat());
    assert_eq!(quoted(answer), dialled);
    assert_eq!(answer.0[42..70], about.0[14..42], "as it was sent");
    assert_eq!(answer.0[..12], [2, 0, 0, 0, 8, 8, 2, 0, 0, 0, 9, 9], "to where it came from");
}

#[test]
fn a_client_outside_is_told_what_fits_the_overlay() {
    let model = served();
    let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
    // The first packet of a flow, and another.
    for _ in 0..2 {
        let mut packet = datagram(dialled, MTU + 1, DONT_FRAGMENT);
        assert_eq!(from_netdev(&mut packet, &model), Ok(TOO_BIG));
        check_answer(&packet, &datagram(dialled, MTU + 1, DONT_FRAGMENT), NODE, MTU as u16);
    }
    assert_eq!(model.counted(Counter::TooBigAnswered), 2);
    let bytes = datagram(dialled, MTU + 1, DONT_FRAGMENT).0.len() as u64;
    assert_eq!(model.dropped(DropReason::TooBig), (2, 2 * bytes));
    let mut packet = datagram(dialled, MTU, DONT_FRAGMENT);
    assert_eq!(from_netdev(&mut packet, &model), Ok(Verdict::overlay(REMOTE_NODE)));
}

#[test]
fn the_overlay_cuts_what_may_be_cut() {
    let model = served();
    let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
    for flags in [0, MORE_FRAGMENTS, MORE_FRAGMENTS | DONT_FRAGMENT, 100] {
        let mut packet = datagram(dialled, MTU + 1, flags);
        assert_eq!(from_netdev(&mut packet, &model), Ok(Verdict::overlay(REMOTE_NODE)), "{flags:x}");
    }
    assert_eq!(model.counted(Counter::TooBigAnswered), 0);
}

#[test]
fn the_stack_cuts_or_answers_what_a_pod_sends() {
    let model = node();
    for (bytes, flags, expected) in [
        (MTU, DONT_FRAGMENT, Verdict::overlay(REMOTE_NODE)),
        (MTU + 1, DONT_FRAGMENT, Verdict::PASS),
        (MTU + 1, 0, Verdict::PASS),
    ] {
        let mut packet = datagram(tuple(POD, 4000, REMOTE, 80), bytes, flags);
        assert_eq!(from_pod(&mut packet, &model, IFINDEX), Ok(expected), "{bytes} {flags:x}");
    }
    assert_eq!(model.counted(Counter::ToStack), 2);
    // Between pods of the node there is no link with an MTU.
    let mut packet = datagram(tuple(POD, 4000, OTHER, 80), MTU + 1, DONT_FRAGMENT);
    assert_eq!(from_pod(&mut packet, &model, IFINDEX), Ok(Verdict::pod(IFINDEX + 1)));
}

/// What a program does whose packet's route takes less.
fn narrow(packet: &mut Bytes, model: &Model, mtu: u32, decide: fn(&mut Bytes, &Model, &mut Room<Addr4>)) -> Bytes {
    let mut room = Room::default();
    decide(packet, model, &mut room);
    room.mtu = mtu;
    assert_eq!(refuse(packet, model, &mut room), Ok(TOO_BIG));
    packet.clone()
}

#[test]
fn a_backend_is_told_what_fits_the_way_to_its_client() {
    for overlay in [true, false] {
        let mut model = served();
        model.node.overlay = overlay;
        let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
        let mut request = datagram(dialled, 100, DONT_FRAGMENT);
        from_netdev(&mut request, &model).expect("a backend");
        let tuple = verified(&request).reversed();
        // An answer that may be cut too: whoever is past the host's stack cuts nothing.
        for flags in [DONT_FRAGMENT, 0, MORE_FRAGMENTS] {
            let answer = datagram(tuple, 1_400, flags);
            let mut forwarded = answer.clone();
            let decided = if overlay {
                from_overlay(&mut forwarded, &model, behind(None))
            } else {
                from_netdev(&mut forwarded, &model)
            };
            assert_eq!(decided, Ok(Verdict::FORWARD));
            assert_eq!(verified(&forwarded), dialled.reversed());
            let error = narrow(&mut answer.clone(), &model, 1_300, |packet, model, room| {
                header::frame(packet, &mut room.ip).expect("a packet");
                header::transport(packet, model, &room.ip, &mut room.transport).expect("a transport header");
                assert_eq!(crate::snat::unmasquerade(packet, model, room), Ok(crate::external::Way::Translated));
                crate::external::onward(packet, model, room).expect("a way");
            });
            check_answer(&error, &answer, NODE, 1_300);
        }
    }
}

#[test]
fn no_error_is_about_an_error_or_a_later_fragment() {
    let model = served();
    let about = |packet: Bytes| {
        let mut room = Room::<Addr4>::default();
        let mut packet = packet;
        header::frame(&mut packet, &mut room.ip).expect("a packet");
        header::transport(&mut packet, &model, &room.ip, &mut room.transport).expect("a transport header");
        room.key.tuple = room.ip.tuple(room.transport.ports);
        refuse(&mut packet, &model, &mut room)
    };
    let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
    let datagram = datagram(dialled, 1_400, MORE_FRAGMENTS);
    assert_eq!(about(unreachable(OUTSIDE, &datagram)), Err(DropReason::TooBig));
    assert_eq!(about(datagram), Ok(TOO_BIG));
    assert_eq!(about(fragment(dialled, 100)), Err(DropReason::TooBig));
    assert_eq!(model.counted(Counter::TooBigAnswered), 1);
}

#[test]
fn segments_are_judged_and_not_what_they_are_cut_from() {
    let dialled = tuple(POD, 4000, REMOTE, 80);
    let mut timestamps = tcp(dialled, 0x10);
    timestamps.0[46] = 0x80;
    for (packet, payload, expected) in [
        (tcp(dialled, 0x10), 1_410, 1_450),
        (timestamps, 1_398, 1_450),
        (udp(dialled, true), 1_422, 1_450),
        (udp(dialled, true), 1_423, 1_451),
        (udp(dialled, true), OWN_LENGTHS, 0),
        (echo(8, dialled), 0, 63_986),
    ] {
        let mut packet = Skb { packet, segment_bytes: payload, bytes: 64_000, linear: 64_000 };
        let mut ip = Ip::<Addr4>::default();
        header::frame(&mut packet, &mut ip).expect("a packet");
        assert_eq!(bytes(&packet, &ip), expected);
        assert_eq!(fits(&packet, &ip, 1_450), expected <= 1_450);
    }
}

#[test]
fn where_the_fib_does_not_say_what_fits_it_is_what_fits_everywhere() {
    let model = node();
    assert_eq!(guess::<Addr4, _>(&model, 1_451), 1_450);
    assert_eq!(guess::<Addr4, _>(&model, 1_450), 576);
}
