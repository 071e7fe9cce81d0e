use xebec_abi::{Be16, Flow4, FlowKey4, Ports, Tuple4};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn pair(proto: u8, request: (FlowState, u64), answer: (FlowState, u64)) -> HashMap<FlowKey4, Flow4> {
    let ports = |src, dst| Ports { src: Be16::new(src), dst: Be16::new(dst) };
    let out = Tuple4 { src: [10, 244, 1, 2], dst: [192, 0, 2, 1], ports: ports(4000, 53) };
    let node = Tuple4 { src: [172, 30, 0, 11], dst: [192, 0, 2, 1], ports: ports(61_000, 53) };
    let key = |tuple, direction| FlowKey4 { tuple, proto, direction, pad: [0; 2] };
    let flow =
        |to, (state, seen_s): (FlowState, u64)| Flow4 { to, state, seen_ns: seen_s * SECOND, ..Flow4::default() };
    HashMap::from([
        (key(out, Direction::OUT), flow(node, request)),
        (key(node.reversed(), Direction::IN), flow(out.reversed(), answer)),
    ])
}

/// How many of a flow's two entries go at second 1,000.
#[track_caller]
fn check(proto: u8, request: (FlowState, u64), answer: (FlowState, u64), expected: usize) {
    let flows = pair(proto, request, answer);
    assert_eq!(idle(&flows, 1_000 * SECOND).len(), expected, "{proto} {request:?} {answer:?}");
}

#[test]
fn both_entries_go_when_both_are_idle() {
    let (opening, open, closing) = (FlowState::OPENING, FlowState::OPEN, FlowState::CLOSING);
    check(proto::UDP, (opening, 900), (opening, 900), 2);
    check(proto::UDP, (opening, 990), (opening, 990), 0);
    check(proto::UDP, (open, 900), (open, 900), 0);
    check(proto::UDP, (open, 800), (open, 800), 2);
    check(proto::TCP, (open, 0), (open, 0), 0);
    check(proto::TCP, (closing, 900), (closing, 900), 2);
    check(proto::TCP, (opening, 800), (opening, 800), 2);
    check(proto::TCP, (FlowState::RESET, 600), (open, 600), 2);
    check(proto::TCP, (open, 600), (FlowState::RESET, 600), 2);
    check(proto::TCP, (open, 800), (FlowState::RESET, 600), 0);
    check(proto::ICMP, (opening, 900), (open, 800), 2);
    check(proto::SCTP, (open, 800), (open, 800), 0);
    check(proto::SCTP, (open, 780), (open, 780), 2);
    check(proto::SCTP, (closing, 900), (closing, 900), 2);
    check(proto::SCTP, (open, 600), (FlowState::RESET, 600), 2);
}

#[test]
fn a_stream_of_answers_keeps_its_request() {
    check(proto::UDP, (FlowState::OPENING, 100), (FlowState::OPEN, 999), 0);
    check(proto::TCP, (FlowState::CLOSING, 100), (FlowState::OPEN, 999), 0);
}

#[test]
fn an_entry_without_its_other_half_goes_by_itself() {
    let mut flows = pair(proto::UDP, (FlowState::OPENING, 0), (FlowState::OPEN, 999));
    flows.retain(|key, _| key.direction == Direction::OUT);
    assert_eq!(idle(&flows, 1_000 * SECOND).len(), 1);
}

#[test]
fn a_half_open_flow_is_counted_once() {
    let (opening, open) = (FlowState::OPENING, FlowState::OPEN);
    for (request, answer, expected) in [(opening, opening, 1), (opening, open, 1), (open, opening, 0), (open, open, 0)]
    {
        let flows: Vec<_> = pair(proto::TCP, (request, 0), (answer, 0)).into_iter().collect();
        assert_eq!(half_open(&flows), expected);
    }
}
