use xebec_abi::{Be16, Ports};

use super::*;
use xebec_abi::Tuple4;

#[track_caller]
fn check(proto: u8, state: FlowState, tcp_flags: u8, expected: FlowState) {
    let touch = Touch { now_ns: 7, bytes: 60, proto, tcp_flags, quoted: false };
    assert_eq!(next(state, &touch), expected, "{state:?} sees {tcp_flags:#x}");
}

#[test]
fn tcp_states_follow_the_flags() {
    let (opening, open, closing) = (FlowState::OPENING, FlowState::OPEN, FlowState::CLOSING);
    for state in [opening, open, closing] {
        check(proto::TCP, state, TCP_SYN, opening);
        check(proto::TCP, state, TCP_RST, closing);
        check(proto::TCP, state, TCP_RST | TCP_ACK, closing);
        check(proto::TCP, state, TCP_FIN | TCP_ACK, closing);
    }
    check(proto::TCP, opening, TCP_SYN | TCP_ACK, open);
    check(proto::TCP, opening, TCP_ACK, open);
    check(proto::TCP, open, TCP_ACK, open);
    check(proto::TCP, closing, TCP_ACK, closing);
}

#[test]
fn other_protocols_are_open_from_the_second_packet_on() {
    check(proto::UDP, FlowState::OPENING, 0, FlowState::OPEN);
    check(proto::ICMP, FlowState::OPENING, 8, FlowState::OPEN);
}

#[test]
fn partners_find_each_other() {
    let ports = |src, dst| Ports { src: Be16::new(src), dst: Be16::new(dst) };
    let tuple = |src, dst, ports| Tuple4 { src, dst, ports };
    let (client, vip, backend) = ([10, 0, 0, 1], [10, 96, 0, 1], [10, 0, 0, 2]);
    let touch = Touch { now_ns: 0, bytes: 0, proto: proto::TCP, tcp_flags: 0, quoted: false };
    let flow = |to| first(to, ServiceId(1), BackendId(1), &touch);
    for (request, reply) in [(Direction::SERVICE, Direction::REPLY), (Direction::OUT, Direction::IN)] {
        let request = key(tuple(client, vip, ports(4000, 80)), proto::TCP, request);
        let to_backend = flow(tuple(client, backend, ports(4000, 8080)));
        let reply_key = request.partner(&to_backend).expect("a pair");
        assert_eq!(reply_key.direction, reply);
        assert_eq!(reply_key.tuple, tuple(backend, client, ports(8080, 4000)));
        let to_client = flow(tuple(vip, client, ports(80, 4000)));
        assert_eq!(reply_key.partner(&to_client), Some(request));
    }
    let inbound = key(tuple(client, vip, ports(1, 2)), proto::TCP, Direction::INBOUND);
    assert_eq!(inbound.partner(&flow(Tuple4::default())), None);
}
