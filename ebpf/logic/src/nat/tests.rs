use super::*;
use crate::{
    fixture::*,
    header::{self, Frame},
    model::Bytes,
};
use xebec_abi::{Addr4, Tuple4};

fn rewritten(mut packet: Bytes, to: &Tuple4) -> Bytes {
    let model = node();
    let mut ip = Ip::<Addr4>::default();
    assert_eq!(header::frame(&mut packet, &mut ip), Ok(Frame::Ip));
    let mut transport = Transport::default();
    header::transport(&mut packet, &model, &ip, &mut transport).expect("a transport header");
    translate(&mut packet, &mut ip, &mut transport, to).expect("writable");
    assert_eq!((ip.src, ip.dst, transport.ports), (to.src, to.dst, to.ports));
    packet
}

/// There and back is the identity, and every checksum on the way is right.
#[track_caller]
fn check(packet: &Bytes, to: Tuple4) {
    let from = verified(packet);
    let there = rewritten(packet.clone(), &to);
    assert_eq!(verified(&there), to);
    assert_eq!(rewritten(there, &from), *packet);
}

#[test]
fn translation_keeps_checksums_and_can_be_undone() {
    let from = tuple(POD, 4000, VIP, 80);
    for to in [
        tuple(POD, 4000, OTHER, 8080),
        tuple(NODE, 61_000, OUTSIDE, 443),
        tuple([255; 4], u16::MAX, [0; 4], 0),
        tuple(VIP, 80, POD, 4000),
        from,
    ] {
        check(&tcp(from, 0x18), to);
        check(&udp(from, true), to);
        check(&udp(from, false), to);
    }
    check(&echo(8, tuple(POD, 7, OUTSIDE, 7)), tuple(NODE, 61_007, OUTSIDE, 61_007));
}

#[test]
fn a_udp_checksum_of_zero_stays_no_checksum() {
    let packet = rewritten(udp(tuple(POD, 4000, VIP, 80), false), &tuple(POD, 4000, OTHER, 8080));
    assert_eq!(packet.0[40..42], [0, 0]);
}

#[test]
fn a_hop_takes_one_from_the_time_to_live() {
    let mut packet = tcp(tuple(POD, 4000, OTHER, 80), 2);
    let mut ip = Ip::<Addr4>::default();
    assert_eq!(header::frame(&mut packet, &mut ip), Ok(Frame::Ip));
    for ttl in (1..64).rev() {
        decrement_ttl(&mut packet, &mut ip).expect("writable");
        assert_eq!(packet.0[22], ttl);
        verified(&packet);
    }
}
