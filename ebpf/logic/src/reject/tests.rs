use super::*;
use crate::{
    fixture::*,
    model::{Bytes, Model},
    netdev::from_netdev,
    pod::from_pod,
};
use xebec_abi::{FrontendKey4, Tuple4, lb::scope};

/// A service without backends, for clients inside and outside.
fn empty() -> Model {
    let mut model = node();
    serve(&mut model, &[], 0, 0, 0);
    let frontends: Vec<_> = model.frontends.iter().map(|(key, value)| (*key, *value)).collect();
    model
        .frontends
        .extend(frontends.iter().map(|(key, value)| (FrontendKey4 { scope: scope::EXTERNAL, ..*key }, *value)));
    model
}

/// The answers to the same packet from a pod and from outside.
fn answers(packet: impl Fn(Tuple4) -> Bytes) -> Vec<Bytes> {
    let model = empty();
    let (mut inside, mut outside) = (packet(tuple(POD, 4000, VIP, 80)), packet(tuple(OUTSIDE, 4000, VIP, 80)));
    assert_eq!(from_pod(&mut inside, &model, IFINDEX), Ok(Verdict::ANSWER));
    assert_eq!(from_netdev(&mut outside, &model), Ok(Verdict::ANSWER));
    assert_eq!(model.counted(Counter::Rejected), 2);
    let bytes = packet(tuple(POD, 4000, VIP, 80)).0.len() as u64;
    assert_eq!(model.dropped(DropReason::NoBackend), (2, 2 * bytes), "the packets' bytes, not the answers'");
    for answer in [&inside, &outside] {
        // To where it came from.
        assert_eq!(answer.0[..12], [2, 0, 0, 0, 8, 8, 2, 0, 0, 0, 9, 9]);
    }
    vec![inside, outside]
}

fn with(mut packet: Bytes, seq: u32, ack: u32, payload: usize) -> Bytes {
    packet.0[38..42].copy_from_slice(&seq.to_be_bytes());
    packet.0[42..46].copy_from_slice(&ack.to_be_bytes());
    packet.0.extend(vec![7; payload]);
    let length = (packet.0.len() - 14) as u16;
    packet.0[16..18].copy_from_slice(&length.to_be_bytes());
    packet
}

#[track_caller]
fn check_reset(flags: u8, payload: usize, expected: (u32, u32, u8)) {
    for answer in answers(|tuple| with(tcp(tuple, flags), 1_000, 77, payload)) {
        let to = verified(&answer);
        assert_eq!((to.src, to.ports.src.get(), to.ports.dst.get()), (VIP, 80, 4000));
        let word = |at: usize| u32::from_be_bytes(answer.0[at..at + 4].try_into().expect("four bytes"));
        assert_eq!((word(38), word(42), answer.0[47]), expected);
        assert_eq!(answer.0.len(), 54);
    }
}

#[test]
fn tcp_is_reset_within_its_window() {
    check_reset(TCP_SYN, 0, (0, 1_001, TCP_RST | TCP_ACK));
    check_reset(TCP_SYN, 9, (0, 1_010, TCP_RST | TCP_ACK));
    check_reset(TCP_FIN, 1_400, (0, 2_401, TCP_RST | TCP_ACK));
    check_reset(TCP_ACK, 1_400, (77, 0, TCP_RST));
    check_reset(TCP_ACK | TCP_FIN, 0, (77, 0, TCP_RST));
}

#[test]
fn udp_and_sctp_are_told_that_the_port_is_unreachable() {
    for extra in [0, 1, 1_000] {
        let udp = answers(|tuple| with(udp(tuple, true), 0, 0, extra));
        let sctp = answers(|tuple| sctp(tuple, 1, &vec![0; extra]));
        for answer in udp.into_iter().chain(sctp) {
            let to = verified(&answer);
            assert_eq!((to.src, answer.0[34..36].to_vec()), (VIP, vec![3, 3]));
            let about = quoted_ports(&answer);
            assert_eq!((about.src, about.dst, about.ports.src.get(), about.ports.dst.get()), (to.dst, VIP, 4000, 80));
            assert_eq!(answer.0.len(), 70);
        }
    }
}

#[test]
fn some_packets_have_no_answer() {
    let model = empty();
    let mut options = tcp(tuple(POD, 4000, VIP, 80), TCP_SYN);
    options.0[14] = 0x46;
    options.0.splice(34..34, [1, 1, 1, 1]);
    for packet in [tcp(tuple(POD, 4000, VIP, 80), TCP_RST), fragment(tuple(POD, 4000, VIP, 80), 0x2000), options] {
        assert_eq!(from_pod(&mut packet.clone(), &model, IFINDEX), Err(DropReason::NoBackend));
    }
}

/// As [`quoted`]: of a header that was changed without its checksum.
fn quoted_ports(packet: &Bytes) -> Tuple4 {
    let inner = &packet.0[42..];
    let addr = |at: usize| [inner[at], inner[at + 1], inner[at + 2], inner[at + 3]];
    let port = |at: usize| u16::from_be_bytes([inner[at], inner[at + 1]]);
    tuple(addr(12), port(20), addr(16), port(22))
}
