use xebec_abi::{Be16, Ports};

use super::*;
use crate::sctp;
use xebec_abi::Tuple4;

#[track_caller]
fn check(proto: u8, state: FlowState, tcp_flags: u8, expected: FlowState) {
    let touch = Touch { bytes: 60, proto, tcp_flags, quoted: false };
    assert_eq!(next(state, &touch), expected, "{state:?} sees {tcp_flags:#x}");
}

#[test]
fn tcp_states_follow_the_flags() {
    let (opening, open, closing) = (FlowState::OPENING, FlowState::OPEN, FlowState::CLOSING);
    let reset = FlowState::RESET;
    for state in [open, closing, reset] {
        check(proto::TCP, state, TCP_SYN | TCP_ACK, open);
        check(proto::TCP, state, TCP_RST, reset);
        check(proto::TCP, state, TCP_RST | TCP_ACK, reset);
        check(proto::TCP, state, TCP_FIN | TCP_ACK, closing);
    }
    for state in [closing, reset] {
        check(proto::TCP, state, TCP_SYN, opening);
    }
    check(proto::TCP, open, TCP_SYN, open);
    check(proto::TCP, reset, TCP_ACK, open);
    check(proto::TCP, open, TCP_ACK, open);
    check(proto::TCP, closing, TCP_ACK, closing);
}

#[test]
fn associations_open_and_close_as_connections_do() {
    let (open, closing, reset) = (FlowState::OPEN, FlowState::CLOSING, FlowState::RESET);
    // INIT, INIT ACK, DATA, HEARTBEAT, COOKIE ECHO, ABORT, SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE (RFC 9260 section 3.2).
    for (chunk, from_open, from_closing) in [
        (1, open, FlowState::OPENING),
        (2, open, open),
        (0, open, closing),
        (4, open, closing),
        (10, open, closing),
        (6, reset, reset),
        (7, closing, closing),
        (8, closing, closing),
        (14, closing, closing),
    ] {
        check(proto::SCTP, open, sctp::flags(chunk), from_open);
        check(proto::SCTP, closing, sctp::flags(chunk), from_closing);
    }
}

#[test]
fn a_packet_alone_ends_no_half_open_flow() {
    for state in [FlowState::OPENING, FlowState::answered(7)] {
        for flags in [TCP_SYN, TCP_ACK, TCP_SYN | TCP_ACK, TCP_RST, TCP_FIN | TCP_ACK] {
            check(proto::TCP, state, flags, state);
        }
        check(proto::UDP, state, 0, state);
        check(proto::ICMP, state, 0, state);
    }
}

/// `silence` of both directions, in nanoseconds.
#[track_caller]
fn over(service: u32, request: FlowState, answer: FlowState, silence: [u64; 2]) -> bool {
    let now = 1_000 * LINGER_NS;
    let half = |state, silence| Half { state, seen_ns: now - silence, service: ServiceId(service) };
    is_over(half(request, silence[0]), half(answer, silence[1]), now, false)
}

#[test]
fn a_connection_is_over_when_both_ends_closed_it_or_one_aborted_it() {
    let (opening, open, closing, reset) = (FlowState::OPENING, FlowState::OPEN, FlowState::CLOSING, FlowState::RESET);
    let soon = LINGER_NS + 1;
    for service in [0, 1] {
        for (request, answer) in
            [(closing, closing), (closing, reset), (reset, closing), (opening, opening), (FlowState::answered(1), open)]
        {
            assert!(over(service, request, answer, [soon, soon]), "{request:?} {answer:?}");
            assert!(!over(service, request, answer, [soon, 5]), "{request:?} {answer:?}: heard just now");
            assert!(!over(service, request, answer, [5, soon]), "{request:?} {answer:?}: heard just now");
        }
        for (request, answer) in [(open, open), (closing, open), (open, closing)] {
            assert!(!over(service, request, answer, [RESET_NS + 1, RESET_NS + 1]), "{request:?} {answer:?}");
        }
    }
    // Where ports are short, a half-open flow does not wait.
    let half = |state| Half { state, seen_ns: 5, service: ServiceId(1) };
    assert!(is_over(half(opening), half(open), 5, true));
    assert!(!is_over(half(open), half(open), 5, true));
    assert!(!is_over(half(closing), half(closing), 5, true));
    // A pod's own reset is the end; one from outside may be forged.
    assert!(over(0, reset, open, [soon, soon]));
    assert!(over(1, open, reset, [soon, soon]));
    for (service, request, answer) in [(0, open, reset), (1, reset, open)] {
        assert!(!over(service, request, answer, [RESET_NS, RESET_NS]));
        assert!(over(service, request, answer, [RESET_NS + 1, RESET_NS + 1]));
        let pressed = |silence| {
            let half = |state| Half { state, seen_ns: 0, service: ServiceId(service) };
            is_over(half(request), half(answer), silence, true)
        };
        assert!(!pressed(RESET_PRESSED_NS) && pressed(RESET_PRESSED_NS + 1));
    }
}

#[test]
fn partners_find_each_other() {
    let ports = |src, dst| Ports { src: Be16::new(src), dst: Be16::new(dst) };
    let tuple = |src, dst, ports| Tuple4 { src, dst, ports };
    let (client, vip, backend) = ([10, 0, 0, 1], [10, 96, 0, 1], [10, 0, 0, 2]);
    let touch = Touch { bytes: 0, proto: proto::TCP, tcp_flags: 0, quoted: false };
    let flow = |to: Tuple4| {
        let mut flow = Flow::default();
        begin(&crate::fixture::node(), &mut flow, &to.reversed(), ServiceId(1), BackendId(1), &touch);
        flow
    };
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
