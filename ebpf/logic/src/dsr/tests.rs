use xebec_abi::{
    Addr4, Backend4, BackendId, BackendKey, Endpoint4, FlowState, FrontendKey4, FrontendValue, MaglevBlock, MaglevKey,
    MemberKey4, PrefixKey4, ServiceId, Tuple4, maglev as table, proto,
};

use super::*;
use crate::{
    Action,
    fixture::*,
    header::{TCP_ACK as ACK, TCP_FIN, TCP_SYN as SYN},
    model::{Bytes, DSR_VNI, Model},
    netdev::{from_netdev, to_netdev},
    overlay::{Tunnel, behind, from_overlay},
};

const PORT: u16 = 30_080;
const INGRESS: Addr4 = [203, 0, 113, 10];
/// The backends of the node that is dialled, by the other one's view: [`REMOTE_NODE`] is this test's other end, and its pod
/// is `POD` there.
const DIALLED: [(Addr4, u16); 2] = [(NODE, PORT), (INGRESS, 80)];

fn host(model: &mut Model, addr: Addr4, node: Addr4) {
    model.remotes.insert(PrefixKey4 { addr, prefix_len: 32, pad: [0; 3] }, Endpoint4 { node, identity: 0 });
}

/// A service at `frontends` whose first `local` backends are here.
fn serve_at(model: &mut Model, frontends: &[(Addr4, u16)], backends: &[Addr4], local: u16, flags: u16) {
    for (id, proto) in [(1, proto::TCP), (2, proto::UDP)] {
        let service = ServiceId(id);
        for (addr, port) in frontends {
            let key = FrontendKey4 { addr: *addr, port: Be16::new(*port), proto, scope: scope::EXTERNAL };
            let node_port = if *port == PORT { frontend_flag::NODE_PORT } else { 0 };
            let (backends, flags) = (backends.len() as u16, flags | node_port);
            model.frontends.insert(key, FrontendValue { service, backends, local, flags, ..FrontendValue::default() });
        }
        for (slot, addr) in (0..).zip(backends) {
            let backend = Backend4 { addr: *addr, port: Be16::new(8080), id: BackendId(7), ..Backend4::default() };
            model.backends.insert(BackendKey { service, generation: 0, slot }, backend);
        }
    }
}

/// The node that clients dial, with backends elsewhere.
fn front(backends: &[Addr4]) -> Model {
    let mut model = node();
    host(&mut model, REMOTE_NODE, REMOTE_NODE);
    serve_at(&mut model, &DIALLED, backends, 0, frontend_flag::DSR);
    model
}

/// The backends' node, as the same fixture: the node that clients dial is [`REMOTE_NODE`] to it.
fn back(backends: &[Addr4], local: u16) -> Model {
    let mut model = node();
    host(&mut model, REMOTE_NODE, REMOTE_NODE);
    serve_at(&mut model, &[(INGRESS, 80), ([0; 4], PORT)], backends, local, frontend_flag::DSR);
    model
}

#[track_caller]
fn passed(model: &Model, packet: &Bytes, vni: u32, expected: Result<Verdict, DropReason>) -> Bytes {
    let mut packet = packet.clone();
    let tunnel = Tunnel { vni, node: REMOTE_NODE };
    assert_eq!(from_overlay(&mut packet, model, behind(Some(tunnel))), expected, "{packet:02x?}");
    packet
}

fn both(tuple: Tuple4) -> [Bytes; 2] {
    [tcp(tuple, SYN), udp(tuple, true)]
}

fn on(is_node_port: bool) -> Result<Verdict, DropReason> {
    Ok(Verdict::dsr(REMOTE_NODE, is_node_port))
}

fn state(model: &Model, tuple: Tuple4, proto: u8) -> Option<FlowState> {
    model.nat.borrow().get(&crate::conntrack::key(tuple, proto, Direction::OUT)).map(|flow| flow.state)
}

#[test]
fn a_packet_goes_on_as_its_client_sent_it() {
    let model = front(&[REMOTE]);
    for (addr, port) in DIALLED {
        let dialled = tuple(OUTSIDE, 5000, addr, port);
        for packet in both(dialled) {
            let is_node_port = port == PORT;
            for _ in 0..3 {
                let there = arrives(&model, &packet, on(is_node_port));
                assert_eq!((verified(&there), there.0[22]), (dialled, 63), "only its time to live is less");
            }
        }
    }
    assert_eq!(model.nat.borrow().len(), 4, "one for each flow");
    assert_eq!((model.counted(Counter::ExternalDsr), model.counted(Counter::ToDsr)), (4, 12));
    assert_eq!(model.counted(Counter::ExternalRemote), 0);
    let mut late = tcp(tuple(OUTSIDE, 5001, INGRESS, 80), SYN);
    late.0[22] = 1;
    arrives(&model, &late, Err(DropReason::TtlExpired));
}

#[test]
fn the_backends_node_answers_in_the_name_of_what_was_dialled() {
    let model = back(&[POD], 1);
    for (addr, port, vni) in [(INGRESS, 80, DSR_VNI), (REMOTE_NODE, PORT, DSR_VNI | DSR_NODE_PORT)] {
        // From another port: the two would be one to the backend.
        let dialled = tuple(OUTSIDE, port, addr, port);
        for packet in both(dialled) {
            let there = passed(&model, &packet, vni, Ok(Verdict::pod(IFINDEX)));
            assert_eq!(verified(&there), tuple(OUTSIDE, port, POD, 8080));
            let to = verified(&there).reversed();
            let answer = if packet.0[23] == proto::TCP { tcp(to, SYN | ACK) } else { udp(to, true) };
            let mut back = answer.clone();
            assert_eq!(to_netdev(&mut back, &model), Ok(Verdict::PASS));
            assert_eq!(verified(&back), dialled.reversed());
            let next = if packet.0[23] == proto::TCP { tcp(dialled, ACK) } else { packet };
            assert_eq!(verified(&passed(&model, &next, vni, Ok(Verdict::pod(IFINDEX)))), verified(&there));
        }
    }
    assert_eq!((model.counted(Counter::ExternalLocal), model.nat.borrow().len()), (4, 8));
}

#[test]
fn what_was_passed_on_is_for_a_service_of_its_kind() {
    let model = back(&[POD], 1);
    let node_port = DSR_VNI | DSR_NODE_PORT;
    for packet in both(tuple(OUTSIDE, 5000, INGRESS, PORT)) {
        passed(&model, &packet, DSR_VNI, Err(DropReason::NoService));
    }
    passed(&model, &tcp(tuple(OUTSIDE, 5000, REMOTE_NODE, 80), SYN), node_port, Err(DropReason::NoService));
    passed(&model, &echo(8, tuple(OUTSIDE, 7, INGRESS, 7)), DSR_VNI, Err(DropReason::NoService));
    passed(&model, &fragment(tuple(OUTSIDE, 1, INGRESS, 80), 1), DSR_VNI, Err(DropReason::UnknownFragment));
    passed(&model, &tcp(tuple(OUTSIDE, 5000, INGRESS, 80), SYN), 8, Err(DropReason::TunnelId));
    passed(&model, &tcp(tuple(OUTSIDE, 5000, INGRESS, 80), SYN), DSR_VNI + 1, Err(DropReason::TunnelId));
    // Only from nodes.
    let mut forged = tcp(tuple(OUTSIDE, 5000, INGRESS, 80), SYN);
    for stranger in [OUTSIDE, [172, 30, 0, 99], [10, 244, 2, 5]] {
        let tunnel = Tunnel { vni: DSR_VNI, node: stranger };
        assert_eq!(from_overlay(&mut forged, &model, behind(Some(tunnel))), Err(DropReason::UnknownNode));
    }
    assert_eq!(model.nat.borrow().len(), 0);
}

#[test]
fn a_node_without_a_tunnel_masquerades_and_takes_nothing() {
    for mut model in [front(&[REMOTE]), back(&[POD], 1)] {
        model.node.dsr_vni = 0;
        let packet = tcp(tuple(OUTSIDE, 5000, INGRESS, 80), SYN);
        let mut there = packet.clone();
        let verdict = from_netdev(&mut there, &model).expect("a backend");
        assert!(matches!(verdict.action, Action::Overlay | Action::Pod), "{verdict:?}");
        passed(&model, &packet, DSR_VNI, Err(DropReason::TunnelId));
    }
    // With native routes the device is for nothing else.
    let mut model = back(&[POD], 1);
    (model.node.overlay, model.node.overlay_vni) = (false, 0);
    passed(&model, &tcp(tuple(OUTSIDE, 5000, POD, 80), SYN), 0, Err(DropReason::TunnelId));
    passed(&model, &tcp(tuple(OUTSIDE, 5000, INGRESS, 80), SYN), DSR_VNI, Ok(Verdict::pod(IFINDEX)));
    // Flows that were passed on when there was a tunnel.
    let mut model = front(&[REMOTE]);
    let dialled = tuple(OUTSIDE, 5000, INGRESS, 80);
    let error = unreachable(OUTSIDE, &udp(dialled.reversed(), true));
    for packet in both(dialled) {
        arrives(&model, &packet, on(false));
    }
    model.node.dsr_vni = 0;
    assert_eq!(arrives(&model, &error, Ok(Verdict::PASS)), error);
    for packet in [tcp(dialled, SYN), tcp(dialled, ACK), udp(dialled, true)] {
        let there = arrives(&model, &packet, Ok(Verdict::overlay(REMOTE_NODE)));
        assert_eq!((verified(&there).src, verified(&there).dst), (NODE, REMOTE));
    }
}

#[test]
fn clients_that_could_not_be_answered_are_masqueraded() {
    let mut model = front(&[REMOTE]);
    // Processes of the backend's node, by each of its addresses.
    let second = [198, 51, 100, 12];
    host(&mut model, second, REMOTE_NODE);
    for client in [REMOTE_NODE, second] {
        let there = arrives(&model, &tcp(tuple(client, 5000, NODE, PORT), SYN), Ok(Verdict::overlay(REMOTE_NODE)));
        assert_eq!(verified(&there).src, NODE);
    }
    arrives(&model, &tcp(tuple([172, 30, 0, 13], 5000, NODE, PORT), SYN), on(true));
    // A backend on a node that is not known, or whose tunnel has no end.
    let model = front(&[[10, 244, 9, 9]]);
    arrives(&model, &tcp(tuple(OUTSIDE, 5000, NODE, PORT), SYN), Err(DropReason::NoRemote));
    // A backend here, a service without the flag.
    let mut model = front(&[POD]);
    arrives(&model, &tcp(tuple(OUTSIDE, 5000, NODE, PORT), SYN), Ok(Verdict::pod(IFINDEX)));
    serve_at(&mut model, &DIALLED, &[REMOTE], 0, 0);
    arrives(&model, &tcp(tuple(OUTSIDE, 5001, NODE, PORT), SYN), Ok(Verdict::overlay(REMOTE_NODE)));
}

#[test]
fn processes_of_nodes_are_backends_too() {
    let model = front(&[REMOTE_NODE]);
    for packet in both(tuple(OUTSIDE, 5000, INGRESS, 80)) {
        arrives(&model, &packet, on(false));
    }
    let model = back(&[NODE], 1);
    let dialled = tuple(OUTSIDE, 5000, INGRESS, 80);
    let there = passed(&model, &tcp(dialled, SYN), DSR_VNI, Ok(Verdict::PASS));
    assert_eq!(verified(&there), tuple(OUTSIDE, 5000, NODE, 8080));
    let mut back = tcp(verified(&there).reversed(), SYN | ACK);
    assert_eq!(to_netdev(&mut back, &model), Ok(Verdict::PASS));
    assert_eq!(verified(&back), dialled.reversed());
}

#[test]
fn source_ranges_are_asked_before_a_packet_goes_on() {
    let mut model = front(&[REMOTE]);
    serve_at(&mut model, &DIALLED, &[REMOTE], 0, frontend_flag::DSR | frontend_flag::SOURCE_RANGES);
    model.ranges.insert(ServiceId(1), vec![([192, 0, 2, 0], 24)]);
    arrives(&model, &tcp(tuple(OUTSIDE, 5000, INGRESS, 80), SYN), on(false));
    arrives(&model, &tcp(tuple([198, 51, 100, 8], 5000, INGRESS, 80), SYN), Err(DropReason::SourceRange));
}

#[test]
fn a_flow_is_established_by_its_second_packet_and_closed_by_its_client() {
    let model = front(&[REMOTE]);
    let dialled = tuple(OUTSIDE, 5000, INGRESS, 80);
    for packet in [tcp(dialled, SYN), tcp(dialled, SYN), udp(dialled, true)] {
        arrives(&model, &packet, on(false));
        assert_eq!(state(&model, dialled, packet.0[23]), Some(FlowState::OPENING));
    }
    for packet in [tcp(dialled, ACK), udp(dialled, true)] {
        arrives(&model, &packet, on(false));
        assert_eq!(state(&model, dialled, packet.0[23]), Some(FlowState::OPEN));
    }
    arrives(&model, &tcp(dialled, SYN), on(false));
    assert_eq!(state(&model, dialled, proto::TCP), Some(FlowState::OPEN), "anybody's");
    arrives(&model, &tcp(dialled, TCP_FIN | ACK), on(false));
    assert_eq!(state(&model, dialled, proto::TCP), Some(FlowState::CLOSING));
    assert_eq!(model.nat.borrow().len(), 2);
}

#[test]
fn a_flood_pushes_out_no_established_flow() {
    let mut model = front(&[REMOTE]);
    model.transient_max = [4, 4];
    let dialled = tuple(OUTSIDE, 5000, INGRESS, 80);
    arrives(&model, &tcp(dialled, SYN), on(false));
    arrives(&model, &tcp(dialled, ACK), on(false));
    for sport in 6_000..6_020 {
        arrives(&model, &tcp(tuple(OUTSIDE, sport, INGRESS, 80), SYN), on(false));
    }
    assert_eq!(state(&model, dialled, proto::TCP), Some(FlowState::OPEN));
    assert_eq!(model.nat.borrow().len(), 5);
    // It closes, takes a place, and goes with that.
    arrives(&model, &tcp(dialled, TCP_FIN | ACK), on(false));
    for sport in 7_000..7_004 {
        arrives(&model, &tcp(tuple(OUTSIDE, sport, INGRESS, 80), SYN), on(false));
    }
    assert_eq!(state(&model, dialled, proto::TCP), None);
}

#[test]
fn a_known_flow_stays_with_its_node_and_a_new_connection_finds_another() {
    let mut model = front(&[REMOTE]);
    let other = [10, 244, 3, 5];
    let key = PrefixKey4 { addr: [10, 244, 3, 0], prefix_len: 24, pad: [0; 3] };
    model.remotes.insert(key, Endpoint4 { node: [172, 30, 0, 13], identity: 0 });
    let dialled = tuple(OUTSIDE, 5000, INGRESS, 80);
    for packet in both(dialled) {
        arrives(&model, &packet, on(false));
    }
    serve_at(&mut model, &DIALLED, &[other], 0, frontend_flag::DSR);
    for packet in [tcp(dialled, ACK), udp(dialled, true)] {
        arrives(&model, &packet, on(false));
    }
    let there = Ok(Verdict::dsr([172, 30, 0, 13], false));
    arrives(&model, &tcp(dialled, SYN), there);
    arrives(&model, &tcp(dialled, ACK), there);
}

#[test]
fn a_service_that_changes_its_mode_keeps_its_flows() {
    let dialled = tuple(OUTSIDE, 5000, INGRESS, 80);
    let mut model = front(&[REMOTE]);
    arrives(&model, &tcp(dialled, SYN), on(false));
    serve_at(&mut model, &DIALLED, &[REMOTE], 0, 0);
    for flags in [SYN, ACK] {
        arrives(&model, &tcp(dialled, flags), on(false));
    }
    serve_at(&mut model, &DIALLED, &[REMOTE], 0, frontend_flag::DSR);
    let second = tuple(OUTSIDE, 5001, INGRESS, 80);
    let mut model = front(&[REMOTE]);
    serve_at(&mut model, &DIALLED, &[REMOTE], 0, 0);
    let first = verified(&arrives(&model, &tcp(second, SYN), Ok(Verdict::overlay(REMOTE_NODE))));
    serve_at(&mut model, &DIALLED, &[REMOTE], 0, frontend_flag::DSR);
    for flags in [SYN, ACK] {
        let again = arrives(&model, &tcp(second, flags), Ok(Verdict::overlay(REMOTE_NODE)));
        assert_eq!(verified(&again), first);
    }
}

#[test]
fn what_is_passed_on_goes_to_a_backend_here() {
    let all = [POD, OTHER, REMOTE, [10, 244, 2, 6]];
    let spread = |model: &Model| {
        let mut seen = std::collections::BTreeMap::<Addr4, u32>::new();
        for sport in 1..=400 {
            let mut packet = tcp(tuple(OUTSIDE, sport, INGRESS, 80), SYN);
            let tunnel = Tunnel { vni: DSR_VNI, node: REMOTE_NODE };
            // Only what the first node sends here by the same hash: to the upper half of its slots.
            if maglev::flow_hash(&tuple(OUTSIDE, sport, INGRESS, 80), proto::TCP) >> 31 == 1 {
                from_overlay(&mut packet, model, behind(Some(tunnel))).expect("a backend");
                *seen.entry(verified(&packet).dst).or_default() += 1;
            }
        }
        seen
    };
    let mut model = back(&all, 2);
    let seen = spread(&model);
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [POD, OTHER]);
    assert!(seen.values().all(|count| *count > 60), "{seen:?}");
    // A client that is bound to a backend elsewhere is not sent there.
    for frontend in model.frontends.values_mut() {
        frontend.affinity_s = 10;
    }
    for addr in all {
        model.members.insert(MemberKey4 { service: ServiceId(1), addr, port: Be16::new(8080), pad: [0; 2] }, 0);
    }
    let elsewhere = tcp(tuple(OUTSIDE, 9_000, INGRESS, 80), SYN);
    model.nat.borrow_mut().clear();
    model.affinity.borrow_mut().clear();
    let key = xebec_abi::AffinityKey4 {
        client: xebec_abi::Address::client(OUTSIDE),
        service: ServiceId(1),
        kind: xebec_abi::config::CLIENT_ADDR,
        pad: [0; 3],
    };
    let bound = xebec_abi::Affinity4 { addr: REMOTE, port: Be16::new(8080), ..Default::default() };
    model.affinity.borrow_mut().insert(key, bound);
    let there = verified(&passed(&model, &elsewhere, DSR_VNI, from_overlay_verdict(&model, &elsewhere)));
    assert!([POD, OTHER].contains(&there.dst), "{there:?}");
    assert_eq!(spread(&model).keys().copied().collect::<Vec<_>>(), [there.dst], "bound to it now");
}

/// What becomes of a packet, without leaving anything but the binding to a backend.
fn from_overlay_verdict(model: &Model, packet: &Bytes) -> Result<Verdict, DropReason> {
    let tunnel = Tunnel { vni: DSR_VNI, node: REMOTE_NODE };
    let verdict = from_overlay(&mut packet.clone(), model, behind(Some(tunnel)));
    model.nat.borrow_mut().clear();
    verdict
}

#[test]
fn a_maglev_table_leads_both_nodes_to_one_backend() {
    let mut model = back(&[POD, OTHER, REMOTE], 2);
    let flags = table::flags(251).expect("a size");
    for frontend in model.frontends.values_mut() {
        frontend.flags |= flags;
    }
    let slots = std::array::from_fn(|entry| (entry % 3) as u16);
    model.maglev.insert(MaglevKey { service: ServiceId(1), generation: 0, block: 0 }, MaglevBlock { slots });
    let mut fell_back = 0;
    for sport in 1..200 {
        let dialled = tuple(OUTSIDE, sport, INGRESS, 80);
        let hash = maglev::flow_hash(&dialled, proto::TCP);
        let slot = table::entry(flags, hash).expect("a table") % 3;
        let mut packet = tcp(dialled, SYN);
        from_overlay(&mut packet, &model, behind(Some(Tunnel { vni: DSR_VNI, node: REMOTE_NODE }))).expect("a backend");
        match slot {
            2 => fell_back += 1,
            slot => assert_eq!(verified(&packet).dst, [POD, OTHER][usize::from(slot)]),
        }
    }
    assert!(fell_back > 30);
}

#[test]
fn a_backend_that_went_away_is_replaced() {
    // By one elsewhere, if none is here: from this node's address, and never passed on again.
    let model = back(&[REMOTE], 0);
    let dialled = tuple(OUTSIDE, 5000, INGRESS, 80);
    for packet in [tcp(dialled, SYN), tcp(dialled, SYN), tcp(dialled, ACK), udp(dialled, true)] {
        let there = passed(&model, &packet, DSR_VNI, Ok(Verdict::overlay(REMOTE_NODE)));
        assert_eq!((verified(&there).src, verified(&there).dst), (NODE, REMOTE));
        let mut answer = like(&packet, verified(&there).reversed());
        assert_eq!(from_overlay(&mut answer, &model, behind(None)), Ok(Verdict::FORWARD));
        assert_eq!(verified(&answer), dialled.reversed());
    }
    // By routes, which may take less than the tunnel: what the answer to that is, goes by them to the client too.
    let mut model = back(&[REMOTE], 0);
    model.node.overlay = false;
    let there = passed(&model, &tcp(dialled, SYN), DSR_VNI, Ok(Verdict::FORWARD_PASSED));
    assert_eq!((verified(&there).src, verified(&there).dst), (NODE, REMOTE));
    // A refusal leaves as an answer does, and is counted.
    let model = back(&[], 0);
    let refusal = passed(&model, &tcp(dialled, SYN), DSR_VNI, Ok(Verdict::FORWARD_PASSED));
    assert_eq!((verified(&refusal), refusal.0[47] & 4), (dialled.reversed(), 4));
    assert_eq!(model.dropped(DropReason::NoBackend).0, 1);
    // An entry of when this node was dialled, and the backend was elsewhere, sends nothing around.
    let mut model = back(&[REMOTE], 0);
    arrives(&model, &tcp(dialled, SYN), on(false));
    passed(&model, &tcp(dialled, SYN), DSR_VNI, Ok(Verdict::overlay(REMOTE_NODE)));
    serve_at(&mut model, &[(INGRESS, 80)], &[POD], 1, frontend_flag::DSR);
    model.nat.borrow_mut().clear();
    serve_at(&mut model, &[(INGRESS, 80)], &[REMOTE], 0, frontend_flag::DSR);
    arrives(&model, &tcp(dialled, SYN), on(false));
    serve_at(&mut model, &[(INGRESS, 80)], &[POD], 1, frontend_flag::DSR);
    passed(&model, &tcp(dialled, ACK), DSR_VNI, Ok(Verdict::pod(IFINDEX)));
    arrives(&model, &tcp(dialled, ACK), Ok(Verdict::pod(IFINDEX)));
}

fn like(packet: &Bytes, tuple: Tuple4) -> Bytes {
    if packet.0[23] == proto::TCP { tcp(tuple, SYN | ACK) } else { udp(tuple, true) }
}

#[test]
fn errors_about_answers_follow_the_requests() {
    let router = [203, 0, 113, 1];
    let (front, back) = (front(&[REMOTE]), back(&[POD], 1));
    for (at, at_back, port, vni) in
        [(INGRESS, INGRESS, 80, DSR_VNI), (NODE, REMOTE_NODE, PORT, DSR_VNI | DSR_NODE_PORT)]
    {
        let dialled = tuple(OUTSIDE, 5000, at, port);
        arrives(&front, &udp(dialled, true), on(port == PORT));
        for from in [OUTSIDE, router] {
            let error = unreachable(from, &udp(dialled.reversed(), true));
            let there = arrives(&front, &error, on(port == PORT));
            assert_eq!(quoted(&there), dialled.reversed(), "as it was");
        }
        // Where it gets to.
        let dialled = tuple(OUTSIDE, 5000, at_back, port);
        let request = passed(&back, &udp(dialled, true), vni, Ok(Verdict::pod(IFINDEX)));
        for from in [OUTSIDE, router] {
            let error = unreachable(from, &udp(dialled.reversed(), true));
            let there = passed(&back, &error, vni, Ok(Verdict::pod(IFINDEX)));
            assert_eq!((verified(&there).src, verified(&there).dst), (from, POD));
            assert_eq!(quoted(&there), verified(&request).reversed());
        }
        // The pod's own about a request.
        let mut error = unreachable(POD, &request);
        assert_eq!(to_netdev(&mut error, &back), Ok(Verdict::PASS));
        assert_eq!((verified(&error).src, quoted(&error)), (at_back, dialled));
    }
    let unknown = unreachable(OUTSIDE, &udp(tuple(INGRESS, 80, OUTSIDE, 1), true));
    passed(&back, &unknown, DSR_VNI, Err(DropReason::NoService));
}

#[test]
fn fragments_go_on_after_the_first() {
    let (front, back) = (front(&[REMOTE]), back(&[POD], 1));
    let dialled = tuple(OUTSIDE, 5000, INGRESS, 80);
    for offset in [0x2000, 0x2002, 0x0004] {
        let packet = fragment(dialled, offset);
        arrives(&front, &packet, on(false));
        passed(&back, &packet, DSR_VNI, Ok(Verdict::pod(IFINDEX)));
    }
    assert_eq!((front.nat.borrow().len(), back.nat.borrow().len()), (1, 2));
}
