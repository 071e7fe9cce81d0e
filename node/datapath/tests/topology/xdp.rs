//! Services dialled from outside, with `xdp_netdev` on the uplink. A kernel without XDP serves them too.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    process::Command,
    time::Duration,
};

use aya::programs::Program;
use xebec_datapath::{Counter, Datapath, DriftKind, XdpMode, cost, testing};
use xebec_netlink::{Handle, compute_checksums};

use crate::{
    drift,
    external::{NODE_PORT, put_with},
    ipv6,
    machine::{Machine, Node, OUTSIDE, OUTSIDE6, Pod, Space},
    mtu,
    tool::{addr, serve, tcp, udp},
};

/// The other end of the uplink receives what XDP sends only with a program of its own.
pub async fn receive_what_xdp_sends(switch: &Space) {
    let program = xebec_datapath::xdp_pass().unwrap();
    Handle::in_netns(&switch.netns).unwrap().link_set_xdp("p1", program.as_fd()).await.unwrap();
}

pub fn has_xdp() -> bool {
    testing::has_xdp().unwrap()
}

/// A machine whose first node has the program on its uplink, and whose wires are as wires are: veth's shortcuts hand
/// on checksums that nobody has computed.
async fn machine(overlay: bool, mode: XdpMode) -> Machine {
    let mut machine = Machine::dual(2, overlay).await;
    machine.outside.netns.run(|| compute_checksums("eth0")).unwrap().unwrap();
    receive_what_xdp_sends(&machine.switch).await;
    let node = &mut machine.nodes[0];
    node.stop_agent();
    node.config.load_balancer.xdp = [(node.config.uplinks[0], mode)].into();
    node.start_agent();
    machine
}

fn put(node: &Node, backends: &[(Ipv4Addr, u16)]) {
    put_with(node, backends, 0, |_| ());
}

fn counted(node: &Node, counter: Counter) -> u64 {
    let counters = node.datapath().counters().unwrap();
    counters.iter().find(|(known, _)| *known == counter).map_or(0, |(_, traffic)| traffic.packets)
}

/// What `ip` says of the uplink.
fn link(node: &Node) -> String {
    let show = || Command::new("ip").args(["-details", "link", "show", "dev", "eth0"]).output().unwrap();
    String::from_utf8_lossy(&node.space.netns.run(show).unwrap().stdout).into_owned()
}

async fn balances(overlay: bool, mode: XdpMode) {
    let machine = machine(overlay, mode).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let (here, there) = (node.pod("here").await, other.pod("there").await);
    there.space.netns.run(|| compute_checksums("eth0")).unwrap().unwrap();
    let way = Way { machine: &machine, early: if overlay { Counter::XdpOverlay } else { Counter::XdpForward } };
    let put4 = |ip| put(node, &[(ip, 8080)]);
    way.check((node.ip().into(), OUTSIDE.into()), &here, &there, |pod| pod.ip.into(), |pod| put4(pod.ip));
    let put6 = |ip| ipv6::put(node, &[(ip, 8080)], 0, |_| ());
    way.check((node.ip6().into(), OUTSIDE6.into()), &here, &there, |pod| pod.ip6().into(), |pod| put6(pod.ip6()));
}

struct Way<'a> {
    machine: &'a Machine,
    /// What the program counts.
    early: Counter,
}

impl Way<'_> {
    /// Dials the first node's NodePort, whose backend is a pod that `put` puts there.
    fn check(
        &self,
        (node_ip, client): (IpAddr, IpAddr),
        here: &Pod,
        there: &Pod,
        ip: impl Fn(&Pod) -> IpAddr,
        put: impl Fn(&Pod),
    ) {
        let (node, outside) = (&self.machine.nodes[0], &self.machine.outside.netns);
        serve(&here.space.netns, ip(here), 8080, "here");
        serve(&there.space.netns, ip(there), 8080, "there");
        let to = addr(node_ip, NODE_PORT);
        put(there);
        let before = counted(node, self.early);
        for _ in 0..3 {
            let said = outside.run(|| tcp(to)).unwrap();
            assert_eq!(said, format!("there sees {node_ip} peer {to}"), "{}", node.report());
            let said = outside.run(|| udp(to, 1)).unwrap();
            assert_eq!(said, format!("there sees {node_ip} from {to}"), "{}", node.report());
        }
        // The first packet of all may wait for a neighbour's address; a connection has four or more each way.
        assert_eq!(counted(node, self.early) >= before + 12, has_xdp(), "{}", node.report());
        // Fragments are the slower path's, in the same flow.
        let said = outside.run(|| udp(to, 4_000)).unwrap();
        assert_eq!(said, format!("there sees {node_ip} from {to}"), "{}", node.report());
        // A backend here is too, and sees its client.
        put(here);
        let said = outside.run(|| tcp(to)).unwrap();
        assert_eq!(said, format!("here sees {client} peer {to}"), "{}", node.report());
    }
}

#[tokio::test]
async fn a_driver_balances_through_the_overlay() {
    balances(true, XdpMode::Native).await;
}

#[tokio::test]
async fn a_driver_balances_by_routes() {
    balances(false, XdpMode::Native).await;
}

#[tokio::test]
async fn generic_xdp_balances_too() {
    balances(true, XdpMode::Generic).await;
}

/// The program leaves it to `from_netdev`, which answers.
#[tokio::test]
async fn a_packet_that_is_too_long_is_answered() {
    let machine = machine(true, XdpMode::Native).await;
    let node = &machine.nodes[0];
    let there = machine.nodes[1].pod("there").await;
    there.space.netns.run(|| compute_checksums("eth0")).unwrap().unwrap();
    serve(&there.space.netns, there.ip, 8080, "there");
    put(node, &[(there.ip, 8080)]);
    let send = |bytes| mtu::send(&machine.outside.netns, addr(node.ip(), NODE_PORT), bytes);
    assert_eq!(send(1_500), mtu::Fate::Learnt(1_450), "{}", node.report());
    assert_eq!(counted(node, Counter::TooBigAnswered), 1, "{}", node.report());
    let before = counted(node, Counter::XdpOverlay);
    // The first one may wait for a neighbour's address.
    for _ in 0..2 {
        assert_eq!(send(1_450), mtu::Fate::Answered, "{}", node.report());
    }
    assert_eq!(counted(node, Counter::XdpOverlay) > before, has_xdp(), "{}", node.report());
}

fn ip(space: &Space, args: &str) {
    let run = || Command::new("ip").args(args.split(' ')).status().unwrap();
    assert!(space.netns.run(run).unwrap().success(), "ip {args}");
}

#[tokio::test]
async fn a_next_hop_that_moves_is_followed() {
    let machine = machine(false, XdpMode::Native).await;
    let (node, other) = (&machine.nodes[0], &machine.nodes[1]);
    let there = other.pod("there").await;
    there.space.netns.run(|| compute_checksums("eth0")).unwrap().unwrap();
    serve(&there.space.netns, there.ip, 8080, "there");
    put(node, &[(there.ip, 8080)]);
    let exchange = || machine.outside.netns.run(|| tcp(addr(node.ip(), NODE_PORT))).unwrap();
    let said = exchange();
    assert!(said.starts_with("there sees "), "{said}");
    // The client has another network card.
    ip(&machine.outside, "link set eth0 address 02:00:00:00:00:77");
    ip(&node.space, &format!("neigh replace {OUTSIDE} lladdr 02:00:00:00:00:77 dev eth0"));
    let before = counted(node, Counter::XdpForward);
    // The first answers may go to the old one: they are sent again.
    let said = exchange();
    assert!(said.starts_with("there sees "), "{said}: {}", node.report());
    assert_eq!(counted(node, Counter::XdpForward) > before, has_xdp(), "{}", node.report());
}

#[tokio::test]
async fn the_program_comes_and_goes_with_the_configuration() {
    let mut machine = machine(true, XdpMode::Native).await;
    let node = &mut machine.nodes[0];
    let uplink = node.config.uplinks[0];
    let device = node.datapath().xdp().remove(0);
    assert_eq!((device.ifindex, device.name.as_str(), device.wanted), (uplink, "eth0", XdpMode::Native));
    if !has_xdp() {
        assert!(device.fault.is_some_and(|fault| fault.starts_with("the kernel refused the program: ")));
        return;
    }
    assert_eq!(device.fault, None);
    assert!(link(node).contains("prog/xdp"), "{}", link(node));
    let metric = "xebec_datapath_xdp_attached{device=\"eth0\",mode=\"native\"} 1\n";
    assert!(node.datapath().metrics().contains(metric));
    // It stays while no agent runs, and is replaced by the next.
    node.stop_agent();
    let before = link(node);
    assert!(before.contains("prog/xdp"), "{before}");
    node.start_agent();
    assert!(link(node).contains("prog/xdp") && link(node) != before, "another program: {}", link(node));
    // Another mode, none.
    node.stop_agent();
    node.config.load_balancer.xdp = [(uplink, XdpMode::Generic)].into();
    node.start_agent();
    assert!(link(node).contains("xdpgeneric"), "{}", link(node));
    node.stop_agent();
    node.config.load_balancer.xdp.clear();
    node.start_agent();
    assert!(!link(node).contains("xdp"), "{}", link(node));
    // It goes with everything else.
    node.stop_agent();
    node.config.load_balancer.xdp = [(uplink, XdpMode::Native)].into();
    node.start_agent();
    node.stop_agent();
    let remove = || Datapath::remove(&node.config.bpffs, &node.config.node_name);
    node.space.netns.run(remove).unwrap().unwrap();
    assert!(!link(node).contains("xdp"), "{}", link(node));
}

#[tokio::test]
async fn the_program_comes_back() {
    let machine = machine(true, XdpMode::Native).await;
    if !has_xdp() {
        return;
    }
    let node = &machine.nodes[0];
    let fault = || node.datapath().xdp().remove(0).fault;
    let links = drift::links(node);
    drift::check(node, &[]);
    drift::detach(&links, "xdp_netdev");
    drift::check(node, &[(DriftKind::Program, "xdp_netdev")]);
    assert!(link(node).contains("prog/xdp"), "{}", link(node));
    // Others put a program of theirs in its place: it stays, and `from_netdev` goes on alone.
    drift::detach(&links, "xdp_netdev");
    let theirs = || {
        let mut ebpf = testing::load_with_xdp(&testing::config()).unwrap();
        let Some(Program::Xdp(program)) = ebpf.program_mut("xdp_netdev") else { panic!("no program") };
        // The link detaches a moment after its pin is gone.
        std::thread::sleep(Duration::from_millis(100));
        program.attach("eth0", aya::programs::XdpMode::Driver).unwrap();
        ebpf
    };
    let theirs = node.space.netns.run(theirs).unwrap();
    drift::check(node, &[]);
    assert!(fault().is_some_and(|fault| fault.contains("busy")), "{:?}", fault());
    // What has refused is asked again when the programs are loaded again.
    drop(theirs);
    drift::check(node, &[]);
    assert!(fault().is_some());
    node.space.netns.run(|| node.datapath().reload()).unwrap().unwrap();
    assert_eq!(fault(), None);
    drift::check(node, &[]);
}

#[tokio::test]
async fn a_device_that_cannot_take_the_program_is_balanced_without() {
    let mut machine = Machine::new(1, true).await;
    let node = &mut machine.nodes[0];
    let pod = node.pod("pod").await;
    serve(&pod.space.netns, pod.ip, 8080, "pod");
    // A bridge has no XDP of its own.
    let bridge = || {
        let add = Command::new("ip").args(["link", "add", "xbr", "type", "bridge"]).status().unwrap();
        assert!(add.success());
        nix::net::if_::if_nametoindex("xbr").unwrap()
    };
    let index = node.space.netns.run(bridge).unwrap();
    node.stop_agent();
    node.config.load_balancer.xdp = [(index, XdpMode::Native)].into();
    node.start_agent();
    let device = node.datapath().xdp().remove(0);
    assert_eq!((device.name.as_str(), device.wanted), ("xbr", XdpMode::Native));
    let fault = device.fault.unwrap();
    assert!(fault.contains("Operation not supported") || !has_xdp(), "{fault}");
    assert!(node.datapath().metrics().contains("xebec_datapath_xdp_attached{device=\"xbr\",mode=\"native\"} 0\n"));
    put(node, &[(pod.ip, 8080)]);
    let said = machine.outside.netns.run(|| tcp(addr(machine.nodes[0].ip(), NODE_PORT))).unwrap();
    assert!(said.starts_with("pod sees "), "{said}");
}

#[tokio::test]
async fn packets_of_the_benchmark_are_sent() {
    let space = Space::new("bench");
    ip(&space, "link add eth0 type veth peer name far");
    ip(&space, "link set far up");
    ip(&space, "link set eth0 up");
    ip(&space, &format!("address add {}/24 dev eth0", testing::NODE_IP));
    ip(&space, "neighbour add 172.30.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
    ip(&space, "route add default via 172.30.0.1");
    ip(&space, &format!("address add {}/64 dev eth0", testing::NODE_IP6));
    ip(&space, "neighbour add 2001:db8::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
    ip(&space, "route add default via 2001:db8::1");
    space.netns.sysctl("ipv4/ip_forward", "1").unwrap();
    space.netns.sysctl("ipv6/conf/all/forwarding", "1").unwrap();
    let uplink = Handle::in_netns(&space.netns).unwrap().link("eth0").await.unwrap().index;
    let measured = space.netns.run(|| cost::early(uplink, 2)).unwrap();
    if has_xdp() {
        let names: Vec<_> = measured.unwrap().iter().map(|cost| cost.name).collect();
        assert_eq!(names, ["xdp_established", "xdp_new_flow", "xdp6_established", "xdp6_new_flow"]);
    } else {
        measured.expect_err("a kernel without XDP");
    }
}
