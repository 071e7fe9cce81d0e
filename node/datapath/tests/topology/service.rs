//! Services through the socket hooks (clients in a cgroup) and packet by packet (clients in none).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
};

use xebec_abi::{
    lb::frontend_flag,
    proto::{TCP, UDP},
};
use xebec_datapath::{Backend, Frontend, FrontendKey, Service};

use crate::{
    machine::{Machine, Node, Pod},
    tool::{addr, in_cgroup, mapped, serve, tcp, udp, udp_connected},
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 50);

fn put_both(node: &Node, backends: &[(Ipv4Addr, u16)]) {
    node.put(VIP, 80, TCP, backends);
    node.put(VIP, 80, UDP, backends);
}

async fn client_and_server(machine: &Machine) -> (Pod, Pod) {
    let client = machine.nodes[0].pod("client").await;
    let server = machine.nodes.last().unwrap().pod("server").await;
    serve(&server.space.netns, server.ip, 8080, "server");
    for node in &machine.nodes {
        put_both(node, &[(server.ip, 8080)]);
    }
    (client, server)
}

#[tokio::test]
async fn socket_hooks_translate_for_pods_and_for_the_node() {
    let machine = Machine::new(2, true).await;
    let node = &machine.nodes[0];
    let (client, server) = client_and_server(&machine).await;
    let (netns, cgroup) = (&client.space.netns, &node.mounts.cgroup);
    let (to, to6) = (addr(VIP, 80), mapped(VIP, 80));
    let sees = format!("server sees {}", client.ip);
    for to in [to, to6] {
        let report = || node.report();
        assert_eq!(in_cgroup(netns, cgroup, "tcp", to), format!("{sees} peer {to}"), "{}", report());
        assert_eq!(in_cgroup(netns, cgroup, "udp", to), format!("{sees} from {to}"));
        let said = in_cgroup(netns, cgroup, "udp-connected", to);
        assert_eq!(said, format!("{sees} from {to} peer {to}"));
        let said = in_cgroup(&node.space.netns, cgroup, "tcp", to);
        assert!(said.starts_with("server sees ") && said.ends_with(&format!("peer {to}")), "{said}");
        let said = in_cgroup(&node.space.netns, cgroup, "udp", to);
        assert!(said.ends_with(&format!(" from {to}")), "{said}");
    }
    // Addresses that are no services are left alone.
    let direct = addr(server.ip, 8080);
    assert_eq!(in_cgroup(netns, cgroup, "tcp", direct), format!("{sees} peer {direct}"));
}

#[tokio::test]
async fn packets_are_translated_for_clients_no_hook_sees() {
    for overlay in [true, false] {
        let machine = Machine::new(2, overlay).await;
        let (client, _server) = client_and_server(&machine).await;
        let to = addr(VIP, 80);
        let sees = format!("server sees {}", client.ip);
        let report = || machine.nodes[0].report();
        let netns = &client.space.netns;
        assert_eq!(netns.run(|| tcp(to)).unwrap(), format!("{sees} peer {to}"), "{}", report());
        assert_eq!(netns.run(|| udp(to, 1)).unwrap(), format!("{sees} from {to}"));
        let said = netns.run(|| udp_connected(to)).unwrap();
        assert_eq!(said, format!("{sees} from {to} peer {to}"));
        let said = netns.run(|| udp(to, 4_000)).unwrap();
        assert_eq!(said, format!("{sees} from {to}"), "fragments {}", report());
    }
}

#[tokio::test]
async fn node_dns_answers_on_the_service_address() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    let dns = Ipv4Addr::new(10, 96, 0, 10);
    serve(&node.space.netns, node.network().gateway, 53, "dns");
    node.put(dns, 53, UDP, &[(node.network().gateway, 53)]);
    node.put(dns, 53, TCP, &[(node.network().gateway, 53)]);
    let to = addr(dns, 53);
    let sees = format!("dns sees {}", pod.ip);
    let (netns, cgroup) = (&pod.space.netns, &node.mounts.cgroup);
    assert_eq!(in_cgroup(netns, cgroup, "udp", to), format!("{sees} from {to}"));
    let said = in_cgroup(netns, cgroup, "udp-connected", to);
    assert_eq!(said, format!("{sees} from {to} peer {to}"));
    assert_eq!(in_cgroup(netns, cgroup, "tcp", to), format!("{sees} peer {to}"));
    // Packet by packet.
    assert_eq!(netns.run(|| udp(to, 1)).unwrap(), format!("{sees} from {to}"), "{}", node.report());
    assert_eq!(netns.run(|| tcp(to)).unwrap(), format!("{sees} peer {to}"));
    // Processes of the node.
    let said = in_cgroup(&node.space.netns, cgroup, "udp", to);
    assert!(said.ends_with(&format!("from {to}")), "{said}");
    let said = in_cgroup(&node.space.netns, cgroup, "udp-connected", to);
    assert!(said.ends_with(&format!("from {to} peer {to}")), "{said}");
}

#[tokio::test]
async fn a_pod_reaches_itself_through_its_service() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    serve(&pod.space.netns, pod.ip, 8080, "self");
    put_both(node, &[(pod.ip, 8080)]);
    let to = addr(VIP, 80);
    let netns = &pod.space.netns;
    let said = in_cgroup(netns, &node.mounts.cgroup, "tcp", to);
    assert_eq!(said, format!("self sees {} peer {to}", pod.ip));
    // Packet by packet the pod sees the hairpin address.
    let said = netns.run(|| tcp(to)).unwrap();
    assert_eq!(said, format!("self sees 169.254.77.77 peer {to}"), "{}", node.report());
    let said = netns.run(|| udp(to, 1)).unwrap();
    assert_eq!(said, format!("self sees 169.254.77.77 from {to}"), "{}", node.report());
}

#[tokio::test]
async fn a_service_without_backends_refuses_at_once() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    put_both(node, &[]);
    let to = addr(VIP, 80);
    for client in ["tcp", "udp", "udp-connected"] {
        let said = in_cgroup(&pod.space.netns, &node.mounts.cgroup, client, to);
        assert_eq!(said, "error ConnectionRefused", "{client}");
    }
    // Packet by packet.
    let netns = &pod.space.netns;
    assert_eq!(netns.run(|| tcp(to)).unwrap(), "error ConnectionRefused", "{}", node.report());
    assert_eq!(netns.run(|| udp_connected(to)).unwrap(), "error ConnectionRefused", "{}", node.report());
}

#[tokio::test]
async fn connections_spread_over_backends_and_follow_changes() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let client = node.pod("client").await;
    let (a, b, c) = (node.pod("a").await, node.pod("b").await, node.pod("c").await);
    for (pod, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        serve(&pod.space.netns, pod.ip, 8080, name);
    }
    let names = |rounds: usize| -> BTreeSet<String> {
        let ask = || client.space.netns.run(|| tcp(addr(VIP, 80))).unwrap();
        (0..rounds).map(|_| ask().split(' ').next().unwrap().to_owned()).collect()
    };
    put_both(node, &[(a.ip, 8080), (b.ip, 8080)]);
    assert_eq!(names(40), ["a", "b"].map(str::to_owned).into());
    put_both(node, &[(c.ip, 8080)]);
    assert_eq!(names(10), ["c"].map(str::to_owned).into());
}

#[tokio::test]
async fn session_affinity_binds_a_client_to_a_backend() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let client = node.pod("client").await;
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    for (pod, name) in [(&a, "a"), (&b, "b")] {
        serve(&pod.space.netns, pod.ip, 8080, name);
    }
    let mut service = crate::machine::service(VIP, 80, TCP, &[(a.ip, 8080), (b.ip, 8080)]);
    service.affinity = Some(std::time::Duration::from_secs(10_800));
    node.datapath().put_service(&service).unwrap();
    let to = addr(VIP, 80);
    let by_socket = || in_cgroup(&client.space.netns, &node.mounts.cgroup, "tcp", to);
    let by_packet = || client.space.netns.run(|| tcp(to)).unwrap();
    let first = by_socket();
    for _ in 0..10 {
        assert_eq!(by_socket(), first);
        assert_eq!(by_packet(), first, "socket hooks and packets agree");
    }
    // The backend goes away: the client is bound to the other, and stays there when it comes back.
    let (gone, other) = if first.starts_with("a ") { (&a, &b) } else { (&b, &a) };
    let all = service.backends.clone();
    service.backends.retain(|backend| backend.addr == other.ip);
    node.datapath().put_service(&service).unwrap();
    let second = by_socket();
    assert!(second.starts_with("a ") || second.starts_with("b "), "{second}");
    assert_ne!(second, first, "{} is gone", gone.ip);
    service.backends = all;
    node.datapath().put_service(&service).unwrap();
    for _ in 0..10 {
        assert_eq!(by_socket(), second);
    }
}

/// A client that keeps its socket, and so its flow, when the backend it got goes away.
#[tokio::test]
async fn a_udp_flow_to_a_backend_that_is_gone_finds_another() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let client = node.pod("client").await;
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    serve(&a.space.netns, a.ip, 8080, "a");
    serve(&b.space.netns, b.ip, 8080, "b");
    let socket = client.space.netns.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    let ask = || {
        socket.send_to(b"?", (VIP, 80)).unwrap();
        let mut buffer = [0; 100];
        let (_, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from, addr(VIP, 80));
        char::from(buffer[0])
    };
    put_both(node, &[(a.ip, 8080)]);
    assert_eq!(ask(), 'a');
    put_both(node, &[(b.ip, 8080)]);
    let collected = node.datapath().collect_stale().unwrap();
    assert_eq!(collected.stale, 1);
    assert_eq!(ask(), 'b');
    assert_eq!(node.datapath().collect_stale().unwrap().stale, 0);
}

/// The maps hold exactly what was put, whatever came before: the same services, other backends, moved frontends.
#[tokio::test]
async fn the_maps_hold_what_was_put() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let datapath = node.datapath();
    let backend = |last: u8| (Ipv4Addr::new(10, 244, 1, last), 8080);
    let vip = |last: u8| Ipv4Addr::new(10, 96, 1, last);
    let one = |last, backends: &[_]| crate::machine::service(vip(last), 80, TCP, backends);
    let check = |expected: &[(u8, &[u8])]| {
        let mut programmed = datapath.frontends().unwrap();
        programmed.sort_by_key(|programmed| programmed.frontend.key);
        let programmed: Vec<_> = programmed
            .iter()
            .map(|p| (p.frontend.key.addr, p.backends.iter().map(|b| (b.addr, b.port)).collect::<Vec<_>>()))
            .collect();
        let backends = |all: &[u8]| {
            let one = |last: &u8| (backend(*last).0.into(), backend(*last).1);
            all.iter().map(one).collect::<Vec<(IpAddr, u16)>>()
        };
        let expected: Vec<_> = expected.iter().map(|(last, all)| (vip(*last).into(), backends(all))).collect();
        assert_eq!(programmed, expected);
    };
    datapath.put_services(&[one(1, &[backend(1), backend(2)]), one(2, &[])]).unwrap();
    check(&[(1, &[1, 2]), (2, &[])]);
    // The same frontend twice in one call: the last state counts.
    datapath.put_services(&[one(1, &[backend(3)]), one(2, &[backend(4)]), one(1, &[backend(5)])]).unwrap();
    check(&[(1, &[5]), (2, &[4])]);
    // Both addresses become one service.
    let mut both = one(1, &[backend(6)]);
    both.frontends.extend(one(2, &[]).frontends);
    datapath.put_service(&both).unwrap();
    check(&[(1, &[6]), (2, &[6])]);
    assert!(datapath.remove_frontend(&both.frontends[0].key).unwrap());
    assert!(!datapath.remove_frontend(&both.frontends[0].key).unwrap());
    check(&[(2, &[6])]);
    node.stop_agent();
    node.start_agent();
    let datapath = node.datapath();
    datapath.put_service(&one(3, &[backend(7)])).unwrap();
    let ids: BTreeSet<_> = datapath.frontends().unwrap().iter().map(|p| p.service).collect();
    assert_eq!(ids.len(), 2, "a restarted agent gives out no id that is in use");
}

/// IPv6 between processes of the node: what its socket hooks do needs no pod network.
#[tokio::test]
async fn socket_hooks_translate_ipv6() {
    let machine = Machine::new(1, true).await;
    let node = &machine.nodes[0];
    let (netns, cgroup) = (&node.space.netns, &node.mounts.cgroup);
    let [vip, server]: [Ipv6Addr; 2] = ["fd96::50", "fd10::1"].map(|addr| addr.parse().unwrap());
    netns.run(|| own(server)).unwrap();
    serve(netns, server, 8080, "server");
    let backend = |addr: IpAddr| Backend { addr, port: 8080, local: true, terminating: false, weight: 0 };
    let put = |backends: &[Backend], flags| {
        for proto in [TCP, UDP] {
            let frontend = Frontend { key: FrontendKey::cluster_ip(vip.into(), 80, proto), flags };
            let service = Service { frontends: vec![frontend], backends: backends.to_vec(), ..Service::default() };
            node.datapath().put_service(&service).unwrap();
        }
    };
    put(&[backend(server.into())], frontend_flag::NODE_PORT);
    let direct = addr(server, 8080);
    assert_eq!(in_cgroup(netns, cgroup, "tcp", direct), format!("server sees {server} peer {direct}"));
    let to = addr(vip, 80);
    assert_eq!(in_cgroup(netns, cgroup, "tcp", to), format!("server sees {server} peer {to}"), "{}", node.report());
    assert_eq!(in_cgroup(netns, cgroup, "udp", to), format!("server sees {server} from {to}"));
    let said = in_cgroup(netns, cgroup, "udp-connected", to);
    assert_eq!(said, format!("server sees {server} from {to} peer {to}"));
    // What is a NodePort on an address cannot be bound there.
    netns.run(|| own(vip)).unwrap();
    assert_eq!(in_cgroup(netns, cgroup, "bind", to), "error AddrInUse");
    assert_eq!(in_cgroup(netns, cgroup, "bind", addr(vip, 81)), "bound");
    put(&[], 0);
    for client in ["tcp", "udp", "udp-connected"] {
        assert_eq!(in_cgroup(netns, cgroup, client, to), "error ConnectionRefused", "{client}");
    }
    // Both families have their own frontends and share ids.
    node.put(VIP, 80, TCP, &[]);
    let programmed = node.datapath().frontends().unwrap();
    assert_eq!(programmed.len(), 3);
    assert_eq!(programmed.iter().map(|p| p.service).collect::<BTreeSet<_>>().len(), 3);
    let mixed = Service {
        frontends: vec![Frontend { key: FrontendKey::cluster_ip(vip.into(), 81, TCP), flags: 0 }],
        backends: vec![backend(Ipv4Addr::LOCALHOST.into())],
        ..Service::default()
    };
    assert!(node.datapath().put_service(&mixed).is_err());
}

/// Gives this namespace an address, and waits until the kernel, which does it later, has made the route to it.
fn own(addr: Ipv6Addr) {
    let added = Command::new("ip").args(["addr", "add", &format!("{addr}/128"), "dev", "lo", "nodad"]).status();
    assert!(added.unwrap().success());
    let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while let Err(error) = socket.connect((addr, 9)) {
        assert!(std::time::Instant::now() < deadline, "{addr}: {error}");
        std::thread::yield_now();
    }
}
