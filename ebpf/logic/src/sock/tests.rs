use super::*;
use crate::fixture::*;
use xebec_abi::{Addr4, FrontendKey4, Origin4, Origins4};

fn at(addr: Addr4, port: u16) -> SocketAddress<Addr4> {
    SocketAddress { addr, port: Be16::new(port) }
}

#[track_caller]
fn check(backends: &[Addr4], to: SocketAddress<Addr4>, proto: u8, expected: Option<Option<Addr4>>) {
    let mut model = node();
    serve(&mut model, backends, 0, 0, 0);
    let translated = match translate(&model, to, proto, 1) {
        Translation::Unchanged => None,
        Translation::Refused => Some(None),
        Translation::Forbidden => panic!("no source ranges"),
        Translation::Backend(origin) => {
            assert_eq!((origin.addr, origin.port), (to.addr, to.port));
            Some(Some(origin.backend_addr))
        }
    };
    assert_eq!(translated, expected, "{to:?} {proto}");
}

#[test]
fn services_are_translated_and_refused() {
    check(&[OTHER], at(VIP, 80), proto::TCP, Some(Some(OTHER)));
    check(&[OTHER], at(VIP, 80), proto::UDP, Some(Some(OTHER)));
    check(&[], at(VIP, 80), proto::TCP, Some(None));
    check(&[OTHER], at(VIP, 81), proto::TCP, None);
    check(&[OTHER], at(OUTSIDE, 80), proto::TCP, None);
    check(&[OTHER], at(VIP, 80), proto::ICMP, None);
}

/// kube-proxy asks of every client, and knows a process of the node by the node's address.
#[test]
fn source_ranges_name_the_node_and_pods_are_asked_by_packet() {
    let mut model = node();
    serve(&mut model, &[OTHER], 0, frontend_flag::SOURCE_RANGES, 0);
    let (to, host) = (at(VIP, 80), model.node.node_netns);
    assert_eq!(translate(&model, to, proto::TCP, host + 1), Translation::Unchanged);
    assert_eq!(translate(&model, to, proto::TCP, host), Translation::Forbidden);
    model.ranges.insert(xebec_abi::ServiceId(1), vec![(NODE, 32)]);
    assert!(matches!(translate(&model, to, proto::TCP, host), Translation::Backend(_)));
    assert_eq!(translate(&model, to, proto::UDP, host), Translation::Forbidden, "another service port");
    // A kernel that does not say which namespace is the node's.
    model.node.node_netns = 0;
    assert!(matches!(translate(&model, to, proto::UDP, host), Translation::Backend(_)));
}

fn sent(last: u8) -> Origin4 {
    let service = xebec_abi::ServiceId(1);
    let (port, backend_port) = (Be16::new(80), Be16::new(8080));
    Origin4 { addr: [10, 96, 0, last], port, backend_port, backend_addr: [10, 244, 1, last], service }
}

#[test]
fn a_socket_recognises_every_service_it_talks_to() {
    let mut origins = Origins4::default();
    for last in 1..=SOCKET_ORIGINS_MAX as u8 {
        remember(&mut origins, sent(last));
        remember(&mut origins, sent(last));
    }
    for last in 1..=SOCKET_ORIGINS_MAX as u8 {
        assert_eq!(sender(&origins, at([10, 244, 1, last], 8080)), Some(at([10, 96, 0, last], 80)));
    }
    remember(&mut origins, sent(99));
    assert_eq!(sender(&origins, at([10, 244, 1, 1], 8080)), None, "the oldest made room");
    assert_eq!(sender(&origins, at([10, 244, 1, 99], 8080)), Some(at([10, 96, 0, 99], 80)));
    assert_eq!(sender(&origins, at([10, 244, 1, 99], 1)), None);
}

#[test]
fn only_a_connected_socket_has_a_peer() {
    let mut origins = Origins4::default();
    remember(&mut origins, sent(1));
    assert_eq!(peer(&origins, at([10, 244, 1, 1], 8080)), None);
    origins.peer = sent(2);
    assert_eq!(peer(&origins, at([10, 244, 1, 2], 8080)), Some(at([10, 96, 0, 2], 80)));
    assert_eq!(sender(&origins, at([10, 244, 1, 2], 8080)), Some(at([10, 96, 0, 2], 80)));
    // What no storage was written for is zeroes, and matches nobody.
    assert_eq!(peer(&Origins4::default(), at([0; 4], 0)), None);
}

#[test]
fn node_ports_cannot_be_bound_on_the_node() {
    let mut model = node();
    let key = |addr, port| FrontendKey4 { addr, port: Be16::new(port), proto: proto::TCP, scope: scope::INTERNAL };
    let node_port = xebec_abi::FrontendValue { flags: frontend_flag::NODE_PORT, ..Default::default() };
    model.frontends.insert(key(NODE, 30_080), node_port);
    model.frontends.insert(key(NODE, 8_080), xebec_abi::FrontendValue::default());
    let netns = model.node.node_netns;
    let may = |addr, port, netns| may_bind(&model, SocketAddress { addr, port: Be16::new(port) }, proto::TCP, netns);
    assert!(!may(NODE, 30_080, netns) && !may([0; 4], 30_080, netns));
    assert!(may([0; 4], 30_080, netns + 1), "a pod's own");
    assert!(may([192, 168, 0, 1], 30_080, netns) && may(NODE, 8_080, netns) && may(NODE, 0, netns));
    assert!(may_bind(&model, SocketAddress { addr: NODE, port: Be16::new(30_080) }, proto::UDP, netns));
    assert_eq!(model.counted(Counter::BindRefused), 2);
}

#[test]
fn the_loopback_address_is_the_nodes_own() {
    let mut model = node();
    serve(&mut model, &[POD], 1, 0, 0);
    let key = FrontendKey4 { addr: [127, 0, 0, 1], port: Be16::new(30_080), proto: proto::TCP, scope: scope::INTERNAL };
    let service = model.frontends[&FrontendKey4 { addr: VIP, port: Be16::new(80), ..key }];
    model.frontends.insert(key, service);
    let dial =
        |netns| translate(&model, SocketAddress { addr: [127, 0, 0, 1], port: Be16::new(30_080) }, proto::TCP, netns);
    assert!(matches!(dial(model.node.node_netns), Translation::Backend(_)));
    assert_eq!(dial(model.node.node_netns + 1), Translation::Unchanged);
}
