use super::*;
use crate::{
    fixture::*,
    header::{self, Frame, Kind, Transport},
    model::Bytes,
    nat,
};
use xebec_abi::{Addr4, DropReason, Tuple4};

#[track_caller]
fn translated(mut packet: Bytes, to: &Tuple4) -> Result<Bytes, DropReason> {
    let mut ip = Ip::<Addr4>::default();
    assert_eq!(header::frame(&mut packet, &mut ip), Ok(Frame::Ip));
    let mut transport = Transport::default();
    header::transport(&mut packet, &node(), &ip, &mut transport).expect("a transport header");
    assert_eq!(transport.kind, Kind::Sctp);
    nat::translate(&mut packet, &mut ip, &mut transport, to).map(|()| packet)
}

/// The check value of the CRC catalogue, so that the tests' own sum is one.
#[test]
fn sums_are_of_crc32c() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn ports_change_the_checksum_whatever_follows_them() {
    let from = tuple(POD, 4000, VIP, 80);
    let lengths = [0, 1, 4, 100, 1_023, 1_024, 1_464, 9_000, 32_768, 65_499];
    for (length, to) in lengths
        .iter()
        .flat_map(|length| [(length, tuple(OTHER, 61_000, OUTSIDE, 8_080)), (length, tuple(POD, 0, VIP, u16::MAX))])
    {
        let data: Vec<u8> = (0..*length).map(|at: usize| (at * 31 + at / 7) as u8).collect();
        let packet = sctp(from, 0, &data);
        let there = translated(packet.clone(), &to).expect("writable");
        assert_eq!(verified(&there), to, "{length} bytes");
        assert_eq!(translated(there, &from), Ok(packet), "{length} bytes, back");
    }
}

#[test]
fn addresses_leave_the_checksum_as_it_is() {
    let packet = sctp(tuple(POD, 4000, VIP, 80), 0, b"data");
    let there = translated(packet.clone(), &tuple(OTHER, 4000, OUTSIDE, 80)).expect("writable");
    assert_eq!(there.0[34..], packet.0[34..]);
    verified(&there);
}

/// It is yet to be computed, over what the packet is then.
#[test]
fn a_checksum_of_zero_stays() {
    let mut packet = sctp(tuple(POD, 4000, VIP, 80), 0, b"data");
    packet.0[42..46].fill(0);
    let there = translated(packet, &tuple(POD, 4000, OTHER, 8080)).expect("writable");
    assert_eq!(there.0[42..46], [0; 4]);
    assert_eq!(verified(&there), tuple(POD, 4000, OTHER, 8080));
}

#[test]
fn a_first_fragment_keeps_its_ports_or_goes_nowhere() {
    let mut packet = sctp(tuple(POD, 4000, VIP, 80), 0, &[7; 100]);
    packet.0[20..22].copy_from_slice(&0x2000_u16.to_be_bytes());
    assert_eq!(translated(packet.clone(), &tuple(POD, 4000, OTHER, 8080)), Err(DropReason::SctpFragment));
    assert!(translated(packet, &tuple(POD, 4000, OTHER, 80)).is_ok());
}
