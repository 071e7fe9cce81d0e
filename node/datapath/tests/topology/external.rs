//! Services dialled from outside the cluster, and at the addresses that are for clients outside.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    process::Command,
    time::Duration,
};

use xebec_abi::{
    DropReason,
    lb::{frontend_flag, scope},
};
use xebec_datapath::{Backend, Frontend, FrontendKey, Service};
use xebec_netlink::Netns;

use crate::{
    machine::{Machine, Node, OUTSIDE},
    tool::{addr, in_cgroup, serve, tcp, udp, udp_connected},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
pub const NODE_PORT: u16 = 30_080;
const INGRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

/// What a Service of type LoadBalancer is to a node: its own port, and the load balancer's address. `flags` are for
/// clients outside, but [`frontend_flag::SOURCE_RANGES`].
fn put(node: &Node, backends: &[(Ipv4Addr, u16)], flags: u16) {
    put_with(node, backends, flags, |_| ());
}

pub fn put_with(node: &Node, backends: &[(Ipv4Addr, u16)], flags: u16, change: impl Fn(&mut Service)) {
    let datapath = node.datapath();
    let local = |ip: Ipv4Addr| ip == node.ip() || node.network().pod_cidr.contains(&ip);
    let backend = |&(addr, port): &(Ipv4Addr, u16)| Backend {
        addr: addr.into(),
        port,
        local: local(addr),
        terminating: false,
        weight: 0,
    };
    for proto in [TCP, UDP] {
        let at = |addr: Ipv4Addr, port, scope, flags| {
            let key = FrontendKey { addr: addr.into(), port, proto, scope };
            Frontend { key, flags }
        };
        let limited = flags & frontend_flag::SOURCE_RANGES;
        let inside = [(node.ip(), NODE_PORT, 0), (Ipv4Addr::LOCALHOST, NODE_PORT, 0), (INGRESS, 80, limited)];
        let outside = [(node.ip(), NODE_PORT), (INGRESS, 80)];
        for frontends in [
            inside.map(|(addr, port, flags)| at(addr, port, scope::INTERNAL, flags)).to_vec(),
            outside.map(|(addr, port)| at(addr, port, scope::EXTERNAL, flags)).to_vec(),
        ] {
            let backends = backends.iter().map(backend).collect();
            let mut service = Service { frontends, backends, ..Service::default() };
            change(&mut service);
            datapath.put_service(&service).unwrap();
        }
    }
}

/// Outside, the load balancer's address is behind a node.
fn announce(machine: &Machine, node: &Node) {
    let (to, via) = (format!("{INGRESS}/32"), node.ip().to_string());
    let route = || Command::new("ip").args(["route", "replace", &to, "via", &via]).status().unwrap();
    assert!(machine.outside.netns.run(route).unwrap().success());
}

fn dropped(node: &Node, reason: DropReason) -> u64 {
    let drops = node.datapath().drops().unwrap();
    drops.iter().find(|(known, _)| *known == reason).map_or(0, |(_, traffic)| traffic.packets)
}

/// Both addresses of the service from outside, by every protocol and size.
#[track_caller]
fn check(machine: &Machine, node: &Node, expected: &str) {
    for to in [addr(node.ip(), NODE_PORT), addr(INGRESS, 80)] {
        let outside = &machine.outside.netns;
        for round in 0..3 {
            let said = outside.run(|| tcp(to)).unwrap();
            assert_eq!(said, format!("{expected} peer {to}"), "round {round} {}", node.report());
            let said = outside.run(|| udp(to, 1)).unwrap();
            assert_eq!(said, format!("{expected} from {to}"), "round {round} {}", node.report());
        }
        let said = outside.run(|| udp(to, 4_000)).unwrap();
        assert_eq!(said, format!("{expected} from {to}"), "fragments {}", node.report());
    }
}

#[tokio::test]
async fn a_backend_of_the_node_sees_the_client_outside() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    serve(&pod.space.netns, pod.ip, 8080, "pod");
    put(node, &[(pod.ip, 8080)], 0);
    announce(&machine, node);
    check(&machine, node, &format!("pod sees {OUTSIDE}"));
}

async fn elsewhere(overlay: bool) {
    let machine = Machine::new(2, overlay).await;
    let node = &machine.nodes[0];
    let pod = machine.nodes[1].pod("pod").await;
    serve(&pod.space.netns, pod.ip, 8080, "pod");
    put(node, &[(pod.ip, 8080)], 0);
    announce(&machine, node);
    check(&machine, node, &format!("pod sees {}", node.ip()));
}

#[tokio::test]
async fn a_backend_of_another_node_is_reached_through_the_overlay() {
    elsewhere(true).await;
}

#[tokio::test]
async fn a_backend_of_another_node_is_reached_by_its_route() {
    elsewhere(false).await;
}

#[tokio::test]
async fn processes_of_nodes_are_backends() {
    let machine = Machine::new(2, true).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    announce(&machine, node);
    serve(&node.space.netns, node.ip(), 8080, "here");
    put(node, &[(node.ip(), 8080)], 0);
    check(&machine, node, &format!("here sees {OUTSIDE}"));
    serve(&other.space.netns, other.ip(), 8080, "there");
    put(node, &[(other.ip(), 8080)], 0);
    check(&machine, node, &format!("there sees {}", node.ip()));
}

#[tokio::test]
async fn the_local_policy_keeps_to_the_node_or_drops() {
    let machine = Machine::new(2, true).await;
    let node = &machine.nodes[0];
    let (here, there) = (node.pod("here").await, machine.nodes[1].pod("there").await);
    serve(&here.space.netns, here.ip, 8080, "here");
    serve(&there.space.netns, there.ip, 8080, "there");
    announce(&machine, node);
    put(node, &[(here.ip, 8080), (there.ip, 8080)], frontend_flag::LOCAL_ONLY);
    check(&machine, node, &format!("here sees {OUTSIDE}"));
    // Clients inside have all of them.
    let ask = || in_cgroup(&here.space.netns, &node.mounts.cgroup, "tcp", addr(node.ip(), NODE_PORT));
    let names: BTreeSet<_> = (0..30).map(|_| ask().split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["here", "there"].map(str::to_owned).into());
    put(node, &[(there.ip, 8080)], frontend_flag::LOCAL_ONLY);
    let said = machine.outside.netns.run(|| tcp(addr(INGRESS, 80))).unwrap();
    assert_eq!(said, "error TimedOut");
    assert_ne!(dropped(node, DropReason::NoLocalBackend), 0, "{}", node.report());
}

#[tokio::test]
async fn a_client_outside_is_refused_at_once() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    announce(&machine, node);
    put(node, &[], frontend_flag::LOAD_BALANCER);
    let outside = &machine.outside.netns;
    for to in [addr(node.ip(), NODE_PORT), addr(INGRESS, 80)] {
        assert_eq!(outside.run(|| tcp(to)).unwrap(), "error ConnectionRefused", "{}", node.report());
        assert_eq!(outside.run(|| udp_connected(to)).unwrap(), "error ConnectionRefused", "{}", node.report());
    }
    assert_eq!(dropped(node, DropReason::NoBackend), 4, "{}", node.report());
    let metrics = node.datapath().metrics();
    for line in [
        "xebec_datapath_drops_total{reason=\"no_backend\"} 4\n",
        "xebec_datapath_events_total{event=\"rejected\"} 4\n",
        // Both protocols, each with two addresses outside and three inside; and both as whole addresses.
        "xebec_datapath_map_entries{map=\"xb_lb4_fe\"} 12\n",
        "xebec_datapath_map_max_entries{map=\"xb_ct4\"} 40960\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn source_ranges_keep_others_out() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    serve(&pod.space.netns, pod.ip, 8080, "pod");
    announce(&machine, node);
    let allow = |ranges: &[&str]| {
        let ranges: Vec<_> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        put_with(node, &[(pod.ip, 8080)], frontend_flag::SOURCE_RANGES, |service| {
            service.source_ranges.clone_from(&ranges)
        });
    };
    allow(&["198.51.100.0/24", "172.30.0.0/16"]);
    check(&machine, node, &format!("pod sees {OUTSIDE}"));
    let programmed = node.datapath().frontends().unwrap();
    assert!(programmed.iter().all(|p| p.source_ranges.len() == 2), "{programmed:?}");
    allow(&["198.51.100.0/24"]);
    assert_eq!(machine.outside.netns.run(|| tcp(addr(INGRESS, 80))).unwrap(), "error TimedOut");
    assert_ne!(dropped(node, DropReason::SourceRange), 0, "{}", node.report());
}

#[tokio::test]
async fn source_ranges_keep_clients_inside_out() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (client, pod) = (node.pod("client").await, node.pod("pod").await);
    serve(&pod.space.netns, pod.ip, 8080, "pod");
    let allow = |range: Ipv4Addr| {
        put_with(node, &[(pod.ip, 8080)], frontend_flag::SOURCE_RANGES, |service| {
            service.source_ranges = vec![ipnet::IpNet::new(range.into(), 32).unwrap()];
        });
    };
    let (cgroup, to) = (&node.mounts.cgroup, addr(INGRESS, 80));
    let ask = |netns: &Netns, kind| in_cgroup(netns, cgroup, kind, to);
    let sees = |ip, word| format!("pod sees {ip} {word} {to}");
    allow(client.ip);
    assert_eq!(ask(&client.space.netns, "tcp"), sees(client.ip, "peer"), "{}", node.report());
    assert_eq!(ask(&client.space.netns, "udp"), sees(client.ip, "from"), "{}", node.report());
    for kind in ["tcp", "udp"] {
        assert_eq!(ask(&node.space.netns, kind), "error PermissionDenied", "{kind} {}", node.report());
    }
    assert_eq!(dropped(node, DropReason::SourceRange), 2, "{}", node.report());
    allow(node.ip());
    assert!(ask(&node.space.netns, "tcp").starts_with("pod sees "), "{}", node.report());
    for kind in ["tcp", "udp"] {
        assert!(ask(&client.space.netns, kind).starts_with("error "), "{kind} {}", node.report());
    }
    assert!(dropped(node, DropReason::SourceRange) > 3, "{}", node.report());
    // The limit is the load balancer's alone.
    let said = in_cgroup(&client.space.netns, cgroup, "tcp", addr(node.ip(), NODE_PORT));
    assert_eq!(said, format!("pod sees {} peer {}", client.ip, addr(node.ip(), NODE_PORT)));
}

#[tokio::test]
async fn clients_inside_use_the_addresses_for_clients_outside() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (client, pod) = (node.pod("client").await, node.pod("pod").await);
    serve(&pod.space.netns, pod.ip, 8080, "pod");
    put(node, &[(pod.ip, 8080)], 0);
    let cgroup = &node.mounts.cgroup;
    for to in [addr(node.ip(), NODE_PORT), addr(INGRESS, 80)] {
        // By sockets, and packet by packet.
        for said in [in_cgroup(&client.space.netns, cgroup, "tcp", to), client.space.netns.run(|| tcp(to)).unwrap()] {
            assert_eq!(said, format!("pod sees {} peer {to}", client.ip), "{}", node.report());
        }
        let said = client.space.netns.run(|| udp(to, 1)).unwrap();
        assert_eq!(said, format!("pod sees {} from {to}", client.ip), "{}", node.report());
        let said = in_cgroup(&node.space.netns, cgroup, "udp", to);
        assert!(said.starts_with("pod sees ") && said.ends_with(&format!("from {to}")), "{said}");
    }
    // The node's loopback address is the node's own, and a pod's its own.
    let to = addr(Ipv4Addr::LOCALHOST, NODE_PORT);
    for client in ["tcp", "udp"] {
        let said = in_cgroup(&node.space.netns, cgroup, client, to);
        assert!(said.starts_with("pod sees ") && said.contains(&to.to_string()), "{client}: {said}");
    }
    assert_eq!(in_cgroup(&client.space.netns, cgroup, "tcp", to), "error ConnectionRefused");
}

#[tokio::test]
async fn a_client_outside_keeps_its_backend() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    serve(&a.space.netns, a.ip, 8080, "a");
    serve(&b.space.netns, b.ip, 8080, "b");
    let ask = || machine.outside.netns.run(|| tcp(addr(node.ip(), NODE_PORT))).unwrap();
    put(node, &[(a.ip, 8080), (b.ip, 8080)], 0);
    assert_eq!((0..30).map(|_| ask()).collect::<BTreeSet<_>>().len(), 2);
    let bound = Some(Duration::from_secs(10_800));
    put_with(node, &[(a.ip, 8080), (b.ip, 8080)], 0, |service| service.affinity = bound);
    assert_eq!((0..30).map(|_| ask()).collect::<BTreeSet<_>>().len(), 1);
}

#[tokio::test]
async fn a_udp_flow_from_outside_finds_another_backend_when_its_own_goes() {
    let machine = Machine::new(2, true).await;
    let node = &machine.nodes[0];
    let (a, b) = (node.pod("a").await, machine.nodes[1].pod("b").await);
    serve(&a.space.netns, a.ip, 8080, "a");
    serve(&b.space.netns, b.ip, 8080, "b");
    let socket = machine.outside.netns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let ask = || {
        socket.send_to(b"?", (node.ip(), NODE_PORT)).unwrap();
        let mut buffer = [0; 100];
        socket.recv_from(&mut buffer).unwrap();
        char::from(buffer[0])
    };
    for (backend, expected) in [(a.ip, 'a'), (b.ip, 'b'), (a.ip, 'a')] {
        put(node, &[(backend, 8080)], 0);
        node.datapath().collect_stale().unwrap();
        assert_eq!(ask(), expected, "{}", node.report());
    }
}

#[tokio::test]
async fn an_error_about_a_service_reaches_its_client() {
    let machine = Machine::new(2, true).await;
    let node = &machine.nodes[0];
    for pod in [node.pod("here").await, machine.nodes[1].pod("there").await] {
        // Nobody listens.
        put(node, &[(pod.ip, 9)], 0);
        node.datapath().collect_stale().unwrap();
        let error = machine.outside.netns.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.connect((node.ip(), NODE_PORT)).unwrap();
            socket.send(b"?").unwrap();
            socket.recv(&mut [0; 10]).unwrap_err()
        });
        assert_eq!(error.unwrap().kind(), std::io::ErrorKind::ConnectionRefused, "{}", node.report());
    }
}

/// The traffic policy of a Service changes: an address that leaves one set of backends joins another.
#[tokio::test]
async fn frontends_move_between_services() {
    let machine = Machine::new(1, true).await;
    let datapath = machine.nodes[0].datapath();
    let at = |scope| Frontend { key: FrontendKey { addr: INGRESS.into(), port: 80, proto: TCP, scope }, flags: 0 };
    let backend = |last| Backend {
        addr: Ipv4Addr::new(10, 244, 1, last).into(),
        port: 80,
        local: true,
        terminating: false,
        weight: 0,
    };
    let service = |scopes: &[u8], last| Service {
        frontends: scopes.iter().map(|scope| at(*scope)).collect(),
        backends: vec![backend(last)],
        ..Service::default()
    };
    let seen = || {
        let mut all = datapath.frontends().unwrap();
        all.sort_by_key(|p| p.frontend.key.scope);
        all.iter()
            .map(|p| {
                p.backends
                    .iter()
                    .map(|b| (1..9).find(|last| backend(*last).addr == b.addr).unwrap())
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    for order in [[0, 1], [1, 0]] {
        datapath.put_services(&[service(&[0, 1], 1)]).unwrap();
        assert_eq!(seen(), [[1], [1]]);
        let parts = [service(&[scope::INTERNAL], 2), service(&[scope::EXTERNAL], 3)];
        datapath.put_services(&order.map(|index| parts[index].clone())).unwrap();
        assert_eq!(seen(), [[2], [3]]);
        tokio::time::sleep(Duration::from_millis(600)).await;
        datapath.collect_stale().unwrap();
        assert_eq!(seen(), [[2], [3]], "only what nobody has is deleted");
    }
}

#[tokio::test]
async fn an_announced_address_is_found_by_arp_and_has_no_other_ports() {
    let machine = Machine::new(2, true).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let ingress = Ipv4Addr::new(172, 30, 0, 240);
    for (node, name) in [(node, "one"), (other, "two")] {
        let pod = node.pod(name).await;
        serve(&pod.space.netns, pod.ip, 8080, name);
        put_with(node, &[(pod.ip, 8080)], frontend_flag::LOAD_BALANCER, |service| {
            for frontend in &mut service.frontends {
                if frontend.key.addr == INGRESS {
                    frontend.key.addr = ingress.into();
                }
            }
        });
    }
    let announce = |node: &Node, addresses: &[Ipv4Addr]| {
        let addresses = addresses.iter().copied().map(IpAddr::V4).collect();
        node.space.netns.run(|| node.datapath().announce(&addresses)).unwrap().unwrap();
    };
    let ask = |port| machine.outside.netns.run(|| tcp(addr(ingress, port))).unwrap();
    announce(node, &[ingress]);
    assert!(ask(80).starts_with("one sees "), "{}", node.report());
    // It moves at once: the neighbours are told.
    announce(node, &[]);
    announce(other, &[ingress]);
    assert!(ask(80).starts_with("two sees "), "{}", other.report());
    assert_eq!(other.datapath().announced().unwrap().len(), 1);
    assert_eq!(ask(81), "error TimedOut");
    assert_ne!(dropped(other, DropReason::NoService), 0, "{}", other.report());
    // The address is let go with its last frontend.
    for programmed in other.datapath().frontends().unwrap() {
        other.datapath().remove_frontend(&programmed.frontend.key).unwrap();
    }
    let before = dropped(other, DropReason::NoService);
    ask(81);
    assert_eq!(dropped(other, DropReason::NoService), before);
}

#[tokio::test]
async fn node_ports_are_the_datapaths_own() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    put_with(node, &[], frontend_flag::NODE_PORT, |service| {
        for frontend in &mut service.frontends {
            frontend.flags |= frontend_flag::NODE_PORT;
        }
    });
    let cgroup = &node.mounts.cgroup;
    let (node_netns, unspecified) = (&node.space.netns, Ipv4Addr::UNSPECIFIED);
    let bind = |netns, ip, port| in_cgroup(netns, cgroup, "bind", addr(ip, port));
    for ip in [unspecified, node.ip(), Ipv4Addr::LOCALHOST] {
        assert_eq!(bind(node_netns, ip, NODE_PORT), "error AddrInUse", "{ip}");
    }
    assert_eq!(
        in_cgroup(node_netns, cgroup, "bind", "[::]:30080".parse::<std::net::SocketAddr>().unwrap()),
        "error AddrInUse"
    );
    assert_eq!(bind(node_netns, unspecified, NODE_PORT + 1), "bound");
    assert_eq!(bind(&pod.space.netns, unspecified, NODE_PORT), "bound", "a pod's own");
    let reserved = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap();
    assert_eq!(node_netns.run(reserved).unwrap(), "30000-32767,61000-65535\n");
}
