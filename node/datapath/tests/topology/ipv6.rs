//! The same for packets of IPv6, on machines of both families.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr, UdpSocket},
    process::Command,
    time::Duration,
};

use xebec_abi::{
    DropReason,
    lb::{frontend_flag, scope},
};
use xebec_datapath::{Backend, Counter, Datapath, DriftKind, Frontend, FrontendKey, Service, programs};
use xebec_netlink::{Handle, LinkSpec, Netns, Peer};

use crate::{
    machine::{Machine, Node, OUTSIDE6, Space, service},
    tool::{addr, in_cgroup, serve, tcp, udp, udp_connected},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
pub const NODE_PORT: u16 = 30_080;
pub const INGRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 10);
const VIP: Ipv6Addr = Ipv6Addr::new(0xfd96, 0xdb8, 0, 0, 0, 0, 0, 0x50);

pub fn counted(node: &Node, counter: Counter) -> u64 {
    let counters = node.datapath().counters().unwrap();
    counters.iter().find(|(c, _)| *c == counter).unwrap().1.packets
}

pub fn dropped(node: &Node, reason: DropReason) -> u64 {
    let drops = node.datapath().drops().unwrap();
    drops.iter().find(|(known, _)| *known == reason).map_or(0, |(_, traffic)| traffic.packets)
}

fn ip(netns: &Netns, arguments: &str) {
    let status = netns.run(|| Command::new("ip").args(arguments.split(' ')).status().unwrap()).unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// By every protocol and size.
#[track_caller]
pub fn check(netns: &Netns, node: &Node, to: (Ipv6Addr, u16), expected: &str) {
    let to = addr(to.0, to.1);
    for round in 0..3 {
        let said = netns.run(|| tcp(to)).unwrap();
        assert_eq!(said, format!("{expected} peer {to}"), "round {round} {}", node.report());
        let said = netns.run(|| udp(to, 1)).unwrap();
        assert_eq!(said, format!("{expected} from {to}"), "round {round} {}", node.report());
    }
    let said = netns.run(|| udp(to, 4_000)).unwrap();
    assert_eq!(said, format!("{expected} from {to}"), "fragments {}", node.report());
}

#[tokio::test]
async fn pods_of_a_node_reach_each_other_past_the_host_stack() {
    let machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    serve(&b.space.netns, b.ip6(), 80, "b");
    check(&a.space.netns, node, (b.ip6(), 80), &format!("b sees {}", a.ip6()));
    assert!(counted(node, Counter::ToPod) >= 30, "{}", node.report());
    // And the other family's are as they were.
    serve(&b.space.netns, b.ip, 80, "b");
    let said = a.space.netns.run(|| tcp(addr(b.ip, 80))).unwrap();
    assert!(said.starts_with(&format!("b sees {} ", a.ip)), "{said} {}", node.report());
    assert_eq!(node.datapath().drops().unwrap(), []);
}

async fn pods_of_two_nodes(overlay: bool) {
    let machine = Machine::dual(2, overlay).await;
    let (one, two) = (&machine.nodes[0], &machine.nodes[1]);
    let (a, b) = (one.pod("a").await, two.pod("b").await);
    serve(&b.space.netns, b.ip6(), 80, "b");
    check(&a.space.netns, one, (b.ip6(), 80), &format!("b sees {}", a.ip6()));
    let way = if overlay { Counter::ToOverlay } else { Counter::ToNode };
    assert!(counted(one, way) >= 10, "{}", one.report());
    assert_eq!((one.datapath().drops().unwrap(), two.datapath().drops().unwrap()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn pods_of_two_nodes_reach_each_other_by_native_routes() {
    pods_of_two_nodes(false).await;
}

#[tokio::test]
async fn pods_of_two_nodes_reach_each_other_through_the_overlay() {
    pods_of_two_nodes(true).await;
}

#[tokio::test]
async fn the_node_and_its_pods_reach_each_other() {
    let machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let a = node.pod("a").await;
    let gateway = node.network6().gateway;
    serve(&a.space.netns, a.ip6(), 80, "a");
    serve(&node.space.netns, gateway, 53, "gateway");
    serve(&node.space.netns, node.ip6(), 10_250, "node");
    check(&a.space.netns, node, (gateway, 53), &format!("gateway sees {}", a.ip6()));
    check(&a.space.netns, node, (node.ip6(), 10_250), &format!("node sees {}", a.ip6()));
    check(&node.space.netns, node, (a.ip6(), 80), &format!("a sees {gateway}"));
    assert_eq!(node.datapath().drops().unwrap(), []);
}

/// A process that binds to the node's address, which is not a pod's: the answer must find its way back.
#[tokio::test]
async fn a_node_reaches_pods_of_another_from_its_own_address() {
    for overlay in [false, true] {
        let machine = Machine::dual(2, overlay).await;
        let (one, two) = (&machine.nodes[0], &machine.nodes[1]);
        let b = two.pod("b").await;
        serve(&b.space.netns, b.ip6(), 80, "b");
        let said = one.space.netns.run(|| {
            let socket = UdpSocket::bind((one.ip6(), 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.send_to(b"?", (b.ip6(), 80)).unwrap();
            let mut buffer = [0; 100];
            let received = socket.recv_from(&mut buffer);
            received.map(|(len, _)| String::from_utf8_lossy(&buffer[..len]).trim().to_owned())
        });
        let said = said.unwrap().unwrap_or_else(|error| format!("{error} {} {}", one.report(), two.report()));
        assert_eq!(said, format!("b sees {}", one.ip6()), "overlay {overlay}");
        // From whatever address the kernel chooses.
        let to = addr(b.ip6(), 80);
        let said = one.space.netns.run(|| tcp(to)).unwrap();
        assert!(said.starts_with("b sees "), "{said} overlay {overlay} {}", one.report());
    }
}

#[tokio::test]
async fn a_pod_sends_from_its_own_address_alone() {
    let machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    serve(&b.space.netns, b.ip6(), 80, "b");
    ip(&a.space.netns, "address add fd10:db8:0:1::77/128 dev eth0 nodad");
    let said = a.space.netns.run(|| {
        let socket = UdpSocket::bind(("fd10:db8:0:1::77", 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.send_to(b"?", (b.ip6(), 80)).unwrap();
        socket.recv_from(&mut [0; 100]).map(drop)
    });
    assert!(said.unwrap().is_err());
    assert_ne!(dropped(node, DropReason::InvalidSource), 0, "{}", node.report());
}

#[tokio::test]
async fn a_service_is_dialled_packet_by_packet() {
    let machine = Machine::dual(2, false).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let (client, here, there) = (node.pod("client").await, node.pod("here").await, other.pod("there").await);
    serve(&here.space.netns, here.ip6(), 8080, "here");
    serve(&there.space.netns, there.ip6(), 8080, "there");
    let put = |backends: &[(Ipv6Addr, u16)]| {
        let services = [TCP, UDP].map(|proto| service(VIP, 80, proto, backends));
        node.datapath().put_services(&services).unwrap();
    };
    for (name, pod) in [("here", &here), ("there", &there)] {
        put(&[(pod.ip6(), 8080)]);
        check(&client.space.netns, node, (VIP, 80), &format!("{name} sees {}", client.ip6()));
    }
    assert!(counted(node, Counter::PacketLb) >= 8, "{}", node.report());
    // A pod that is its own backend.
    put(&[(here.ip6(), 8080)]);
    let said = here.space.netns.run(|| tcp(addr(VIP, 80))).unwrap();
    assert!(said.starts_with("here sees fd78:6562:6563::4d4d "), "{said} {}", node.report());
    put(&[]);
    for ask in [tcp, udp_connected] {
        let said = client.space.netns.run(|| ask(addr(VIP, 80))).unwrap();
        assert_eq!(said, "error ConnectionRefused", "{}", node.report());
    }
}

/// What a Service of type LoadBalancer is to a node. `flags` are for clients outside.
pub fn put(node: &Node, backends: &[(Ipv6Addr, u16)], flags: u16, change: impl Fn(&mut Service)) {
    let local = |ip: Ipv6Addr| ip == node.ip6() || node.network6().pod_cidr.contains(&ip);
    let backend = |&(addr, port): &(Ipv6Addr, u16)| Backend {
        addr: addr.into(),
        port,
        local: local(addr),
        terminating: false,
        weight: 0,
    };
    for proto in [TCP, UDP] {
        for (scope, flags) in [(scope::INTERNAL, 0), (scope::EXTERNAL, flags)] {
            let at = |addr: Ipv6Addr, port| {
                let key = FrontendKey { addr: addr.into(), port, proto, scope };
                Frontend { key, flags }
            };
            let frontends = vec![at(node.ip6(), NODE_PORT), at(INGRESS, 80)];
            let backends = backends.iter().map(backend).collect();
            let mut service = Service { frontends, backends, ..Service::default() };
            change(&mut service);
            node.datapath().put_service(&service).unwrap();
        }
    }
}

/// Outside, the load balancer's address is behind a node.
pub fn announce(machine: &Machine, node: &Node) {
    ip(&machine.outside.netns, &format!("-6 route replace {INGRESS}/128 via {}", node.ip6()));
}

#[track_caller]
fn check_outside(machine: &Machine, node: &Node, expected: &str) {
    for to in [(node.ip6(), NODE_PORT), (INGRESS, 80)] {
        check(&machine.outside.netns, node, to, expected);
    }
}

#[tokio::test]
async fn a_backend_of_the_node_sees_the_client_outside() {
    for overlay in [false, true] {
        let machine = Machine::dual(1, overlay).await;
        let node = &machine.nodes[0];
        let pod = node.pod("pod").await;
        serve(&pod.space.netns, pod.ip6(), 8080, "pod");
        put(node, &[(pod.ip6(), 8080)], 0, |_| ());
        announce(&machine, node);
        check_outside(&machine, node, &format!("pod sees {OUTSIDE6}"));
    }
}

#[tokio::test]
async fn a_backend_of_another_node_is_reached() {
    for overlay in [false, true] {
        let machine = Machine::dual(2, overlay).await;
        let node = &machine.nodes[0];
        let pod = machine.nodes[1].pod("pod").await;
        serve(&pod.space.netns, pod.ip6(), 8080, "pod");
        put(node, &[(pod.ip6(), 8080)], 0, |_| ());
        announce(&machine, node);
        check_outside(&machine, node, &format!("pod sees {}", node.ip6()));
    }
}

#[tokio::test]
async fn processes_of_nodes_are_backends() {
    let machine = Machine::dual(2, false).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    announce(&machine, node);
    serve(&node.space.netns, node.ip6(), 8080, "here");
    put(node, &[(node.ip6(), 8080)], 0, |_| ());
    check_outside(&machine, node, &format!("here sees {OUTSIDE6}"));
    serve(&other.space.netns, other.ip6(), 8080, "there");
    put(node, &[(other.ip6(), 8080)], 0, |_| ());
    check_outside(&machine, node, &format!("there sees {}", node.ip6()));
}

#[tokio::test]
async fn a_client_outside_is_refused_or_kept_out() {
    let machine = Machine::dual(2, false).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let (here, there) = (node.pod("here").await, other.pod("there").await);
    serve(&here.space.netns, here.ip6(), 8080, "here");
    serve(&there.space.netns, there.ip6(), 8080, "there");
    announce(&machine, node);
    put(node, &[], frontend_flag::LOAD_BALANCER, |_| ());
    let outside = &machine.outside.netns;
    for to in [addr(node.ip6(), NODE_PORT), addr(INGRESS, 80)] {
        assert_eq!(outside.run(|| tcp(to)).unwrap(), "error ConnectionRefused", "{}", node.report());
        assert_eq!(outside.run(|| udp_connected(to)).unwrap(), "error ConnectionRefused", "{}", node.report());
    }
    put(node, &[(here.ip6(), 8080), (there.ip6(), 8080)], frontend_flag::LOCAL_ONLY, |_| ());
    check_outside(&machine, node, &format!("here sees {OUTSIDE6}"));
    put(node, &[(there.ip6(), 8080)], frontend_flag::LOCAL_ONLY, |_| ());
    assert_eq!(outside.run(|| tcp(addr(INGRESS, 80))).unwrap(), "error TimedOut");
    assert_ne!(dropped(node, DropReason::NoLocalBackend), 0, "{}", node.report());
    let ranged = |range: &str| {
        let range = range.parse().unwrap();
        put(node, &[(here.ip6(), 8080)], frontend_flag::SOURCE_RANGES, |service| service.source_ranges = vec![range]);
    };
    ranged("2001:db8::/64");
    check_outside(&machine, node, &format!("here sees {OUTSIDE6}"));
    ranged("2001:db8:5::/64");
    assert_eq!(outside.run(|| tcp(addr(INGRESS, 80))).unwrap(), "error TimedOut");
    assert_ne!(dropped(node, DropReason::SourceRange), 0, "{}", node.report());
}

#[tokio::test]
async fn a_client_outside_keeps_its_backend() {
    let machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let (a, b) = (node.pod("a").await, node.pod("b").await);
    serve(&a.space.netns, a.ip6(), 8080, "a");
    serve(&b.space.netns, b.ip6(), 8080, "b");
    let ask = || machine.outside.netns.run(|| tcp(addr(node.ip6(), NODE_PORT))).unwrap();
    put(node, &[(a.ip6(), 8080), (b.ip6(), 8080)], 0, |_| ());
    assert_eq!((0..30).map(|_| ask()).collect::<BTreeSet<_>>().len(), 2);
    put(node, &[(a.ip6(), 8080), (b.ip6(), 8080)], 0, |service| service.affinity = Some(Duration::from_secs(10_800)));
    assert_eq!((0..30).map(|_| ask()).collect::<BTreeSet<_>>().len(), 1);
}

#[tokio::test]
async fn clients_inside_use_the_addresses_for_clients_outside() {
    let machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let (client, pod) = (node.pod("client").await, node.pod("pod").await);
    serve(&pod.space.netns, pod.ip6(), 8080, "pod");
    put(node, &[(pod.ip6(), 8080)], 0, |_| ());
    for to in [(node.ip6(), NODE_PORT), (INGRESS, 80)] {
        check(&client.space.netns, node, to, &format!("pod sees {}", client.ip6()));
        let to = addr(to.0, to.1);
        let said = in_cgroup(&client.space.netns, &node.mounts.cgroup, "tcp", to);
        assert_eq!(said, format!("pod sees {} peer {to}", client.ip6()));
    }
}

/// What a connected socket learns of a port that nobody has.
fn error_from(netns: &Netns, to: (Ipv6Addr, u16)) -> std::io::ErrorKind {
    let error = netns.run(|| {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.connect(to).unwrap();
        socket.send(b"?").unwrap();
        socket.recv(&mut [0; 10]).unwrap_err()
    });
    error.unwrap().kind()
}

#[tokio::test]
async fn an_error_about_a_service_reaches_its_client() {
    let machine = Machine::dual(2, false).await;
    let node = &machine.nodes[0];
    for pod in [node.pod("here").await, machine.nodes[1].pod("there").await] {
        // Nobody listens.
        put(node, &[(pod.ip6(), 9)], 0, |_| ());
        node.datapath().collect_stale().unwrap();
        let error = error_from(&machine.outside.netns, (node.ip6(), NODE_PORT));
        assert_eq!(error, std::io::ErrorKind::ConnectionRefused, "{}", node.report());
    }
}

#[tokio::test]
async fn pods_reach_the_outside_from_the_nodes_address() {
    let machine = Machine::dual(2, false).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let pod = node.pod("pod").await;
    serve(&machine.outside.netns, OUTSIDE6, 80, "outside");
    serve(&other.space.netns, other.ip6(), 6443, "other");
    let netns = &pod.space.netns;
    check(netns, node, (OUTSIDE6, 80), &format!("outside sees {}", node.ip6()));
    check(netns, node, (other.ip6(), 6443), &format!("other sees {}", node.ip6()));
    assert!(counted(node, Counter::Masquerade) >= 14, "{}", node.report());
    let ping = || Command::new("busybox").args(["ping", "-c", "2", "-W", "1", &OUTSIDE6.to_string()]).output().unwrap();
    let output = netns.run(ping).unwrap();
    assert!(output.status.success(), "{output:?} {}", node.report());
    let error = error_from(netns, (OUTSIDE6, 9));
    assert_eq!(error, std::io::ErrorKind::ConnectionRefused, "{}", node.report());
}

#[tokio::test]
async fn a_flow_from_outside_to_a_pod_keeps_the_pods_address() {
    let machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    serve(&pod.space.netns, pod.ip6(), 80, "pod");
    ip(&machine.outside.netns, &format!("-6 route add fd10:db8:0:1::/64 via {}", node.ip6()));
    check(&machine.outside.netns, node, (pod.ip6(), 80), &format!("pod sees {OUTSIDE6}"));
}

/// A host behind a router, whose link takes shorter packets than the nodes' links.
async fn narrow(machine: &Machine, node: &Node) -> (Space, Ipv6Addr) {
    let far = Space::new("far");
    let outside = Handle::in_netns(&machine.outside.netns).unwrap();
    outside.link_add(&LinkSpec::veth("narrow", Peer::new("eth0").netns(&far.netns)).up()).await.unwrap();
    for (netns, device, address) in
        [(&machine.outside.netns, "narrow", "2001:db8:7::1/64"), (&far.netns, "eth0", "2001:db8:7::7/64")]
    {
        ip(netns, &format!("link set {device} mtu 1300 up"));
        ip(netns, &format!("address add {address} dev {device} nodad"));
    }
    machine.outside.netns.sysctl("ipv6/conf/all/forwarding", "1").unwrap();
    ip(&far.netns, "-6 route add default via 2001:db8:7::1");
    ip(&node.space.netns, &format!("-6 route add 2001:db8:7::/64 via {OUTSIDE6}"));
    (far, "2001:db8:7::7".parse().unwrap())
}

/// A datagram that is too long is lost, and its sender told: the next ones come in pieces that fit.
#[tokio::test]
async fn a_sender_learns_the_mtu_of_a_path_that_is_translated() {
    let machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let pod = node.pod("pod").await;
    let (far, address) = narrow(&machine, node).await;
    let ask = |netns: &Netns, to, bytes| {
        let said: Vec<_> = (0..3).map(|_| netns.run(|| udp(to, bytes)).unwrap()).collect();
        assert!(said.iter().any(|said| !said.starts_with("error")), "{said:?} {}", node.report());
        said.last().unwrap().clone()
    };
    serve(&far.netns, address, 80, "far");
    let to = addr(address, 80);
    assert_eq!(ask(&pod.space.netns, to, 1_400), format!("far sees {} from {to}", node.ip6()));
    let translated = counted(node, Counter::IcmpError);
    assert_ne!(translated, 0, "{}", node.report());
    // What a backend answers to a client there.
    serve(&pod.space.netns, pod.ip6(), 8080, "pod");
    put(node, &[(pod.ip6(), 8080)], 0, |_| ());
    ip(&pod.space.netns, "-6 route flush cache");
    let to = addr(node.ip6(), NODE_PORT);
    assert_eq!(ask(&far.netns, to, 1_600), format!("pod sees {address} from {to}"));
    assert!(counted(node, Counter::IcmpError) > translated, "{}", node.report());
}

#[tokio::test]
async fn an_announced_address_is_found_by_neighbours_and_moves() {
    let machine = Machine::dual(2, false).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let ingress: Ipv6Addr = "2001:db8::240".parse().unwrap();
    for (node, name) in [(node, "one"), (other, "two")] {
        let pod = node.pod(name).await;
        serve(&pod.space.netns, pod.ip6(), 8080, name);
        put(node, &[(pod.ip6(), 8080)], frontend_flag::LOAD_BALANCER, |service| {
            for frontend in service.frontends.iter_mut().filter(|frontend| frontend.key.addr == INGRESS) {
                frontend.key.addr = ingress.into();
            }
        });
    }
    let announce = |node: &Node, addresses: &[Ipv6Addr]| {
        let addresses = addresses.iter().copied().map(IpAddr::V6).collect();
        node.space.netns.run(|| node.datapath().announce(&addresses)).unwrap().unwrap();
    };
    let ask = |port| machine.outside.netns.run(|| tcp(addr(ingress, port))).unwrap();
    announce(node, &[ingress]);
    assert!(ask(80).starts_with("one sees "), "{}", node.report());
    announce(node, &[]);
    announce(other, &[ingress]);
    assert!(ask(80).starts_with("two sees "), "{} {}", node.report(), other.report());
    // Any other port is nobody's.
    assert_eq!(ask(81), "error TimedOut");
    assert_ne!(dropped(other, DropReason::NoService), 0, "{}", other.report());
}

/// Flows go on while the agent is away, and with the programs of the next, also by filters of clsact.
#[tokio::test]
async fn another_agent_takes_over() {
    for clsact in [false, true] {
        let open = if clsact { Datapath::open_with_clsact } else { Datapath::open };
        let machine = Machine::dual(2, false).await;
        let node = &machine.nodes[0];
        let (a, b) = (node.pod("a").await, machine.nodes[1].pod("b").await);
        serve(&b.space.netns, b.ip6(), 80, "b");
        serve(&machine.outside.netns, OUTSIDE6, 80, "outside");
        let expect = || {
            check(&a.space.netns, node, (b.ip6(), 80), &format!("b sees {}", a.ip6()));
            check(&a.space.netns, node, (OUTSIDE6, 80), &format!("outside sees {}", node.ip6()));
        };
        expect();
        node.stop_agent();
        if clsact {
            // As on a kernel without TCX from the start.
            let links = node.mounts.bpffs.path().join("xebec/node1/v1/links");
            std::fs::remove_dir_all(links).unwrap();
        }
        node.start_agent_with(open);
        expect();
        node.stop_agent();
        node.start_agent_with(open);
        expect();
    }
}

/// Programs that others took away are put back; a node that loses a family loses its programs.
#[tokio::test]
async fn programs_are_repaired_and_go_with_their_family() {
    let mut machine = Machine::dual(1, false).await;
    let node = &machine.nodes[0];
    let _pod = node.pod("pod").await;
    let running = |node: &Node| programs(&node.config.bpffs, &node.config.node_name).unwrap();
    let of_ipv6 = |links: &BTreeMap<String, u32>| {
        let mut names: Vec<String> =
            links.keys().filter_map(|link| Some(link.rsplit_once('-')?.1.to_owned())).collect();
        names.retain(|name| ["from_pod6", "to_pod6", "from_netdev6", "to_netdev6"].contains(&name.as_str()));
        names.sort();
        names
    };
    let all = ["from_netdev6", "from_pod6", "to_netdev6", "to_pod6"];
    assert_eq!(of_ipv6(&running(node)), all);
    let links = node.config.bpffs.join("xebec/node1/v1/links");
    for link in running(node).keys().filter(|link| link.ends_with("6") && !link.contains("sock")) {
        std::fs::remove_file(links.join(link)).unwrap();
    }
    assert_eq!(of_ipv6(&running(node)), [""; 0]);
    let mut found = node.space.netns.run(|| node.datapath().repair()).unwrap().unwrap();
    found.retain(|drift| drift.kind == DriftKind::Program);
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(of_ipv6(&running(node)), all);
    node.stop_agent();
    machine.nodes[0].config.ipv6 = None;
    let node = &machine.nodes[0];
    node.start_agent();
    // The pod is adopted with both addresses, and has the programs of one family.
    assert_eq!(of_ipv6(&running(node)), [""; 0]);
    assert!(running(node).keys().any(|link| link.ends_with("-from_pod")));
}
