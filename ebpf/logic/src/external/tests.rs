use xebec_abi::{Backend4, BackendKey, Endpoint4, FrontendValue, LocalPod, ServiceId, proto};

use super::*;
use crate::{
    fixture::*,
    header::{TCP_FIN, TCP_SYN},
    model::{Bytes, Model},
    netdev::{from_netdev, to_netdev},
    overlay::{behind, from_overlay},
    pod::from_pod,
};
use xebec_abi::{Addr4, FrontendKey4, Tuple4};

const SYN: u8 = TCP_SYN;
const ACK: u8 = 0x10;
/// Chunks.
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const NODE_PORT: u16 = 30_080;
const INGRESS: Addr4 = [203, 0, 113, 10];
/// Behind another device than the pod that clients are in.
const GONE: Addr4 = [10, 244, 1, 77];

/// A service at the node's port and at a load balancer's address, for clients inside and outside.
fn external(model: &mut Model, backends: &[Addr4], flags: u16) {
    for (addr, port) in [(NODE, NODE_PORT), (INGRESS, 80)] {
        for proto in [proto::TCP, proto::UDP, proto::SCTP] {
            for (id, scope, flags) in [(1, scope::INTERNAL, 0), (2, scope::EXTERNAL, flags)] {
                let is_local = |addr: &&Addr4| model.pods.contains_key(*addr) || **addr == NODE;
                let local = backends.iter().filter(is_local).count() as u16;
                let key = FrontendKey4 { addr, port: Be16::new(port), proto, scope };
                let backends = backends.len() as u16;
                let service = ServiceId(id);
                model
                    .frontends
                    .insert(key, FrontendValue { service, backends, local, flags, ..FrontendValue::default() });
            }
        }
    }
    for service in [ServiceId(1), ServiceId(2)] {
        for (slot, addr) in (0..).zip(backends) {
            let backend = Backend4 { addr: *addr, port: Be16::new(8080), ..Backend4::default() };
            model.backends.insert(BackendKey { service, generation: 0, slot }, backend);
        }
    }
}

fn served(backends: &[Addr4], flags: u16) -> Model {
    let mut model = node();
    external(&mut model, backends, flags);
    model
}

#[track_caller]
fn leaves(model: &Model, packet: &Bytes) -> Bytes {
    let mut packet = packet.clone();
    assert_eq!(to_netdev(&mut packet, model), Ok(Verdict::PASS), "{packet:02x?}");
    packet
}

fn each(tuple: Tuple4) -> [Bytes; 3] {
    [tcp(tuple, SYN), udp(tuple, true), sctp(tuple, INIT, b"")]
}

fn like(packet: &Bytes, tuple: Tuple4) -> Bytes {
    match packet.0[23] {
        proto::TCP => tcp(tuple, SYN | ACK),
        proto::SCTP => sctp(tuple, INIT_ACK, b""),
        _ => udp(tuple, true),
    }
}

#[test]
fn a_backend_here_sees_its_client_and_the_client_sees_the_service() {
    let model = served(&[POD], 0);
    for (addr, port) in [(NODE, NODE_PORT), (INGRESS, 80)] {
        let dialled = tuple(OUTSIDE, 5000, addr, port);
        for packet in each(dialled) {
            let there = arrives(&model, &packet, Ok(Verdict::pod(IFINDEX)));
            assert_eq!(verified(&there), tuple(OUTSIDE, 5000, POD, 8080));
            let back = leaves(&model, &like(&packet, verified(&there).reversed()));
            assert_eq!(verified(&back), dialled.reversed());
        }
    }
    assert_eq!(model.counted(Counter::ExternalLocal), 6);
    assert_eq!(model.counted(Counter::Masquerade), 0);
}

#[test]
fn a_backend_elsewhere_sees_the_node_and_answers_to_it() {
    let model = served(&[REMOTE], 0);
    let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
    for packet in each(dialled) {
        let there = arrives(&model, &packet, Ok(Verdict::overlay(REMOTE_NODE)));
        let to = verified(&there);
        assert_eq!((to.src, to.dst, to.ports.dst.get()), (NODE, REMOTE, 8080));
        assert!((61_000..=65_535).contains(&to.ports.src.get()));
        let again = if packet.0[23] == proto::TCP { tcp(dialled, ACK) } else { packet.clone() };
        let again = arrives(&model, &again, Ok(Verdict::overlay(REMOTE_NODE)));
        assert_eq!(verified(&again), to, "the flow keeps its port");
        let mut answer = like(&packet, to.reversed());
        assert_eq!(from_overlay(&mut answer, &model, behind(None)), Ok(Verdict::FORWARD));
        assert_eq!(verified(&answer), dialled.reversed());
        assert_eq!(leaves(&model, &answer), answer, "what was translated back is left alone");
    }
    assert_eq!(model.counted(Counter::ExternalRemote), 3);
}

#[test]
fn native_routes_lead_to_a_backend_elsewhere_and_back() {
    let mut model = served(&[REMOTE], 0);
    model.node.overlay = false;
    let dialled = tuple(OUTSIDE, 5000, INGRESS, 80);
    let there = arrives(&model, &tcp(dialled, SYN), Ok(Verdict::FORWARD));
    let to = verified(&there);
    assert_eq!((to.src, to.dst), (NODE, REMOTE));
    assert_eq!(leaves(&model, &there), there);
    let back = arrives(&model, &tcp(to.reversed(), SYN | ACK), Ok(Verdict::FORWARD));
    assert_eq!(verified(&back), dialled.reversed());
}

#[test]
fn a_process_of_a_node_is_a_backend() {
    // Of this one: the stack has it, and its answers leave from the service.
    let model = served(&[NODE], 0);
    let dialled = tuple(OUTSIDE, 5000, INGRESS, 80);
    let there = arrives(&model, &tcp(dialled, SYN), Ok(Verdict::PASS));
    assert_eq!(verified(&there), tuple(OUTSIDE, 5000, NODE, 8080));
    let back = leaves(&model, &tcp(tuple(NODE, 8080, OUTSIDE, 5000), SYN | ACK));
    assert_eq!(verified(&back), dialled.reversed());
    // Of another one: by the underlay, also where pods have an overlay.
    let model = served(&[REMOTE_NODE], 0);
    let there = arrives(&model, &tcp(dialled, SYN), Ok(Verdict::FORWARD));
    let to = verified(&there);
    assert_eq!((to.src, to.dst), (NODE, REMOTE_NODE));
    let back = arrives(&model, &tcp(to.reversed(), SYN | ACK), Ok(Verdict::FORWARD));
    assert_eq!(verified(&back), dialled.reversed());
}

#[track_caller]
fn refused(backends: &[Addr4], flags: u16, expected: DropReason) {
    let model = served(backends, flags);
    for packet in each(tuple(OUTSIDE, 5000, NODE, NODE_PORT)) {
        arrives(&model, &packet, Err(expected));
    }
}

#[test]
fn every_refusal_has_its_reason() {
    refused(&[REMOTE], frontend_flag::LOCAL_ONLY, DropReason::NoLocalBackend);
    refused(&[POD], frontend_flag::SOURCE_RANGES, DropReason::SourceRange);
    refused(&[[10, 244, 9, 9]], 0, DropReason::NoRemote);
    let mut late = tcp(tuple(OUTSIDE, 5000, NODE, NODE_PORT), SYN);
    late.0[22] = 1;
    arrives(&served(&[REMOTE], 0), &late, Err(DropReason::TtlExpired));
}

#[test]
fn the_local_policy_is_for_clients_outside() {
    let model = served(&[POD, REMOTE], frontend_flag::LOCAL_ONLY);
    for sport in 0..50 {
        let packet = udp(tuple(OUTSIDE, 5000 + sport, NODE, NODE_PORT), true);
        arrives(&model, &packet, Ok(Verdict::pod(IFINDEX)));
    }
    let mut elsewhere = 0;
    for sport in 0..50 {
        let mut packet = udp(tuple(OTHER, 5000 + sport, NODE, NODE_PORT), true);
        match from_pod(&mut packet, &model, IFINDEX + 1) {
            Ok(Verdict { action: crate::Action::Overlay, .. }) => elsewhere += 1,
            other => assert_eq!(other, Ok(Verdict::pod(IFINDEX))),
        }
    }
    assert!((10..40).contains(&elsewhere), "{elsewhere} of 50");
}

#[test]
fn source_ranges_name_the_clients() {
    let mut model = served(&[POD], frontend_flag::SOURCE_RANGES);
    model.ranges.insert(ServiceId(2), vec![([192, 0, 2, 0], 24), ([198, 51, 100, 7], 32)]);
    for (client, allowed) in [(OUTSIDE, true), ([198, 51, 100, 7], true), ([198, 51, 100, 8], false)] {
        let expected = if allowed { Ok(Verdict::pod(IFINDEX)) } else { Err(DropReason::SourceRange) };
        arrives(&model, &tcp(tuple(client, 5000, INGRESS, 80), SYN), expected);
    }
}

#[test]
fn a_client_outside_keeps_its_backend_by_its_address() {
    let mut model = served(&[POD, OTHER], 0);
    for frontend in model.frontends.values_mut() {
        frontend.affinity_s = 10;
    }
    for addr in [POD, OTHER] {
        let member = xebec_abi::MemberKey4 { service: ServiceId(2), addr, port: Be16::new(8080), pad: [0; 2] };
        model.members.insert(member, 0);
    }
    let backend = |client, sport| {
        verified(&{
            let mut packet = udp(tuple(client, sport, NODE, NODE_PORT), true);
            from_netdev(&mut packet, &model).expect("a backend");
            packet
        })
        .dst
    };
    for client in 1..20 {
        let client = [192, 0, 2, client];
        let first = backend(client, 1);
        assert!((2..30).all(|sport| backend(client, sport) == first));
    }
}

#[test]
fn a_connection_that_is_opened_again_finds_a_backend_that_is_there() {
    for elsewhere in [false, true] {
        let (old, new) = if elsewhere { (REMOTE, [10, 244, 2, 6]) } else { (POD, OTHER) };
        let mut model = served(&[old], 0);
        let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
        let mut packet = tcp(dialled, SYN);
        from_netdev(&mut packet, &model).expect("a backend");
        let first = verified(&packet);
        let mut again = tcp(dialled, SYN);
        from_netdev(&mut again, &model).expect("a backend");
        assert_eq!(verified(&again), first, "sent again");
        assert_eq!(model.nat.borrow().len(), 2);
        from_netdev(&mut tcp(dialled, TCP_FIN | ACK), &model).expect("a backend");
        external(&mut model, &[new], 0);
        let mut packet = tcp(dialled, SYN);
        from_netdev(&mut packet, &model).expect("a backend");
        assert_eq!(verified(&packet).dst, new);
    }
}

#[test]
fn errors_reach_both_ends() {
    let router = [203, 0, 113, 1];
    // About a request: from the backend here, from a router elsewhere.
    let model = served(&[POD], 0);
    let dialled = tuple(OUTSIDE, 5000, NODE, NODE_PORT);
    let there = arrives(&model, &udp(dialled, true), Ok(Verdict::pod(IFINDEX)));
    let error = leaves(&model, &unreachable(POD, &there));
    assert_eq!((verified(&error).src, verified(&error).dst), (NODE, OUTSIDE));
    assert_eq!(quoted(&error), dialled);
    // About the answer, from the client or a router.
    for from in [OUTSIDE, router] {
        let answer = udp(dialled.reversed(), true);
        let error = arrives(&model, &unreachable(from, &answer), Ok(Verdict::pod(IFINDEX)));
        assert_eq!((verified(&error).src, verified(&error).dst), (from, POD));
        assert_eq!(quoted(&error), verified(&there).reversed());
    }
    let model = served(&[REMOTE], 0);
    let there = arrives(&model, &udp(dialled, true), Ok(Verdict::overlay(REMOTE_NODE)));
    for (from, seen) in [(REMOTE, NODE), (router, router)] {
        let mut error = unreachable(from, &there);
        assert_eq!(from_overlay(&mut error, &model, behind(None)), Ok(Verdict::FORWARD));
        assert_eq!((verified(&error).src, verified(&error).dst), (seen, OUTSIDE));
        assert_eq!(quoted(&error), dialled);
    }
    let error =
        arrives(&model, &unreachable(OUTSIDE, &udp(dialled.reversed(), true)), Ok(Verdict::overlay(REMOTE_NODE)));
    assert_eq!((verified(&error).src, verified(&error).dst), (NODE, REMOTE));
    assert_eq!(quoted(&error), verified(&there).reversed());
}

#[test]
fn what_is_nobodys_service_is_the_nodes_own() {
    let model = served(&[POD], 0);
    for packet in [
        tcp(tuple(OUTSIDE, 5000, NODE, 22), SYN),
        udp(tuple(OUTSIDE, 5000, [198, 51, 100, 1], 80), true),
        udp(tuple(REMOTE_NODE, 5000, NODE, OVERLAY_PORT), true),
        echo(8, tuple(OUTSIDE, 7, INGRESS, 7)),
        unreachable(OUTSIDE, &udp(tuple(NODE, 22, OUTSIDE, 80), true)),
    ] {
        assert_eq!(arrives(&model, &packet, Ok(Verdict::PASS)), packet);
    }
    for packet in [tcp(tuple(NODE, 22, OUTSIDE, 5000), ACK), unreachable(NODE, &udp(tuple(OUTSIDE, 1, NODE, 2), true))]
    {
        assert_eq!(leaves(&model, &packet), packet);
    }
}

#[test]
fn closed_ports_of_a_service_address_do_not_go_around() {
    let mut model = served(&[POD], 0);
    let key = FrontendKey4 { addr: INGRESS, port: Be16::ZERO, proto: 0, scope: scope::EXTERNAL };
    model.frontends.insert(key, FrontendValue::default());
    for packet in [tcp(tuple(OUTSIDE, 5000, INGRESS, 81), SYN), echo(8, tuple(OUTSIDE, 7, INGRESS, 7))] {
        arrives(&model, &packet, Err(DropReason::NoService));
    }
    arrives(&model, &tcp(tuple(OUTSIDE, 5000, INGRESS, 80), SYN), Ok(Verdict::pod(IFINDEX)));
}

#[test]
fn a_full_table_refuses_new_flows_only() {
    let mut model = served(&[POD], 0);
    let known = udp(tuple(OUTSIDE, 5000, NODE, NODE_PORT), true);
    arrives(&model, &known, Ok(Verdict::pod(IFINDEX)));
    model.flows_max = Some(2);
    arrives(&model, &udp(tuple(OUTSIDE, 5001, NODE, NODE_PORT), true), Err(DropReason::FlowInsert));
    arrives(&model, &known, Ok(Verdict::pod(IFINDEX)));
}

#[test]
fn a_backend_without_a_device_here_is_elsewhere() {
    let mut model = served(&[GONE], 0);
    arrives(&model, &tcp(tuple(OUTSIDE, 5000, NODE, NODE_PORT), SYN), Err(DropReason::NoRemote));
    model.pods.insert(GONE, LocalPod { ifindex: 9, ..LocalPod::default() });
    arrives(&model, &tcp(tuple(OUTSIDE, 5000, NODE, NODE_PORT), SYN), Ok(Verdict::pod(9)));
    let key = xebec_abi::PrefixKey4 { addr: GONE, prefix_len: 32, pad: [0; 3] };
    model.pods.remove(&GONE);
    model.remotes.insert(key, Endpoint4 { node: REMOTE_NODE, identity: 0 });
    arrives(&model, &tcp(tuple(OUTSIDE, 5000, NODE, NODE_PORT), SYN), Ok(Verdict::overlay(REMOTE_NODE)));
}
