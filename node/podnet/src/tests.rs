//! A node and its pods in network namespaces, as root. Traffic goes through the kernel's own forwarding: no datapath.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use xebec_netlink::{Handle, LinkSpec, Neighbour, Netns, Peer};

use super::*;

static COUNTER: AtomicU32 = AtomicU32::new(0);

pub struct TestNetns {
    pub name: String,
    pub netns: Netns,
}

impl TestNetns {
    pub fn new(role: &str) -> Self {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xbtest-pn-{}-{count}-{role}", std::process::id());
        let netns = Netns::create(&name).expect("a network namespace (these tests need root)");
        netns.loopback_up().unwrap();
        Self { name, netns }
    }
}

impl Drop for TestNetns {
    fn drop(&mut self) {
        Netns::delete(&self.name).unwrap();
    }
}

/// What the datapath would know.
#[derive(Default)]
pub struct FakeDatapath {
    pub pods: Mutex<BTreeSet<IpAddr>>,
    pub broken: AtomicBool,
}

#[async_trait]
impl Endpoints for FakeDatapath {
    async fn attach(&self, endpoint: &EndpointInfo) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if self.broken.load(Ordering::Relaxed) {
            return Err("map full".into());
        }
        self.pods.lock().unwrap().extend(&endpoint.ips);
        Ok(())
    }

    async fn detach(&self, ip: IpAddr) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.pods.lock().unwrap().remove(&ip);
        Ok(())
    }
}

pub struct TestNode {
    pub netns: TestNetns,
    pub dir: tempfile::TempDir,
    pub datapath: Arc<FakeDatapath>,
    pub config: Config,
}

impl TestNode {
    /// Two nodes whose uplinks are the ends of one cable.
    pub async fn pair(routing: Routing) -> [Self; 2] {
        let nodes = [1, 2].map(|n| {
            let netns = TestNetns::new(&format!("n{n}"));
            // Neighbours are asked for from the link-local address, which the kernel tests for a second.
            netns.netns.sysctl("ipv6/conf/default/accept_dad", "0").unwrap();
            let dir = tempfile::tempdir().unwrap();
            let config = Config {
                netns: netns.netns.clone(),
                state_dir: dir.path().to_owned(),
                networks: vec![
                    Network {
                        node_ip: Ipv4Addr::new(172, 30, 0, 10 + n).into(),
                        pod_cidr: format!("10.244.{n}.0/24").parse().unwrap(),
                    },
                    Network {
                        node_ip: Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, u16::from(n)).into(),
                        pod_cidr: format!("fd00:244:{n}::/64").parse().unwrap(),
                    },
                ],
                routing,
            };
            Self { netns, dir, datapath: Arc::default(), config }
        });
        let handles = [0, 1].map(|i| Handle::in_netns(&nodes[i].netns.netns).unwrap());
        let peer = Peer::new("eth0").netns(&nodes[1].netns.netns);
        handles[0].link_add(&LinkSpec::veth("eth0", peer).up()).await.unwrap();
        handles[1].link_set_up("eth0").await.unwrap();
        for (node, handle) in nodes.iter().zip(&handles) {
            let index = handle.link("eth0").await.unwrap().index;
            for (network, prefix) in node.config.networks.iter().zip([24, 64]) {
                handle.addr_add(index, ipnet::IpNet::new(network.node_ip, prefix).unwrap()).await.unwrap();
            }
            assert!(handle.link_wait_operational("eth0", Duration::from_secs(5)).await.unwrap());
        }
        nodes
    }

    /// This node as the other sees it.
    pub fn remotes(&self) -> Vec<Remote> {
        let [four, six] = [self.config.networks[0], self.config.networks[1]];
        let overlay = matches!(self.config.routing, Routing::Vxlan { .. });
        let far = if overlay { four.node_ip } else { six.node_ip };
        vec![Remote { pod_cidr: four.pod_cidr, node_ip: four.node_ip }, Remote { pod_cidr: six.pod_cidr, node_ip: far }]
    }

    pub async fn open(&self) -> PodNetwork {
        let node = Node::prepare(&self.config).await.unwrap();
        PodNetwork::open(node, &self.config.state_dir, self.datapath.clone()).await.unwrap()
    }
}

pub fn request(container: &str, netns: &TestNetns) -> PodRequest {
    PodRequest {
        container: container.to_owned(),
        ifname: "eth0".to_owned(),
        netns: netns.netns.path().to_owned(),
        namespace: "default".to_owned(),
        name: container.to_owned(),
        uid: "uid".to_owned(),
    }
}

/// A datagram from one namespace to an address in another, and the source address it arrived with. It is sent again for
/// five seconds: where the neighbour is asked for too early after its device came up, the next question is a second later.
#[track_caller]
fn reaches(from: &Netns, to: &Netns, ip: IpAddr) -> Option<IpAddr> {
    let server = to.run(|| UdpSocket::bind((ip, 0)).unwrap()).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let any = if ip.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let client = from.run(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
    (0..50).find_map(|_| {
        client.send_to(b"hello", (ip, server.local_addr().unwrap().port())).unwrap();
        Some(server.recv_from(&mut [0; 16]).ok()?.1.ip())
    })
}

pub const NATIVE: Routing = Routing::Native { tunnel: None };
const VXLAN: Routing = Routing::Vxlan { port: VXLAN_PORT };

#[tokio::test]
async fn pods_of_a_node_and_the_node_reach_each_other() {
    let [node, _other] = TestNode::pair(VXLAN).await;
    let network = node.open().await;
    let (a, b) = (TestNetns::new("a"), TestNetns::new("b"));
    let first = network.add(&request("a", &a)).await.unwrap();
    let second = network.add(&request("b", &b)).await.unwrap();
    assert_eq!(first.mtu, 1450);
    let gateways: Vec<String> = first.addresses.iter().map(|(_, gateway)| gateway.to_string()).collect();
    assert_eq!(gateways, ["10.244.1.1", "fd00:244:1::1"]);
    assert_eq!(first.endpoint.netns_cookie, a.netns.cookie().unwrap().unwrap());
    let all = first.endpoint.ips.iter().chain(&second.endpoint.ips).copied().collect();
    assert_eq!(*node.datapath.pods.lock().unwrap(), all);

    for ((ip, gateway), (other, _)) in first.addresses.iter().zip(&second.addresses) {
        assert_eq!(reaches(&a.netns, &b.netns, *other), Some(*ip));
        assert!(reaches(&node.netns.netns, &b.netns, *other).is_some());
        assert_eq!(reaches(&b.netns, &node.netns.netns, *gateway), Some(*other));
    }
    network.check("a", "eth0").await.unwrap();

    network.del("a", "eth0").await.unwrap();
    network.del("a", "eth0").await.unwrap();
    assert_eq!(*node.datapath.pods.lock().unwrap(), second.endpoint.ips.iter().copied().collect());
    assert_eq!(network.check("a", "eth0").await.unwrap_err().to_string(), "container a has no eth0");
    assert_eq!(Handle::in_netns(&a.netns).unwrap().link_by_name("eth0").await.unwrap(), None);
}

#[tokio::test]
async fn native_routes_reach_pods_of_other_nodes() {
    let nodes = TestNode::pair(NATIVE).await;
    let (left, right) = (nodes[0].open().await, nodes[1].open().await);
    let remotes: Vec<Remote> = nodes.iter().flat_map(TestNode::remotes).collect();
    left.node().ensure_remotes(&remotes).await.unwrap();
    right.node().ensure_remotes(&remotes).await.unwrap();
    left.node().ensure_remotes(&remotes).await.unwrap();
    let (a, b) = (TestNetns::new("a"), TestNetns::new("b"));
    let first = left.add(&request("a", &a)).await.unwrap();
    let second = right.add(&request("b", &b)).await.unwrap();
    assert_eq!(first.mtu, 1500);
    for ((ip, gateway), (other, _)) in first.addresses.iter().zip(&second.addresses) {
        assert_eq!(reaches(&a.netns, &b.netns, *other), Some(*ip));
        // The node itself is seen by its address in the pod network.
        assert_eq!(reaches(&nodes[0].netns.netns, &b.netns, *other), Some(*gateway));
    }
    left.node().ensure_remotes(&[]).await.unwrap();
    let routes = left.node().handle.route_list().await.unwrap();
    let far = ["10.244.2.0/24", "fd00:244:2::/64"].map(|net| net.parse().unwrap());
    assert!(!routes.iter().any(|route| far.contains(&route.dst)), "{routes:?}");
}

#[tokio::test]
async fn native_routes_may_have_a_tunnel_beside_them() {
    let nodes = TestNode::pair(Routing::Native { tunnel: Some(VXLAN_PORT) }).await;
    let node = nodes[0].open().await;
    let (node, far) = (node.node(), nodes[1].remotes());
    let tunnel = node.tunnel.clone().unwrap();
    assert_eq!((tunnel.mtu, tunnel.up, node.pod_mtu, &node.vxlan), (1450, true, 1500, &None));
    node.ensure_remotes(&far).await.unwrap();
    let routes = node.handle.route_list().await.unwrap();
    let dev = |remote: &Remote| routes.iter().find(|route| route.dst == remote.pod_cidr).and_then(|route| route.dev);
    let uplinks: Vec<_> = node.uplinks.iter().map(|uplink| Some(uplink.index)).collect();
    assert_eq!(far.iter().map(dev).collect::<Vec<_>>(), uplinks);
    assert_eq!(node.repair().await.unwrap(), []);
    node.handle.link_del(VXLAN_DEVICE).await.unwrap();
    assert_eq!(node.repair().await.unwrap()[0], Drift::new(DriftKind::Device, VXLAN_DEVICE));
    assert_eq!(node.handle.link(VXLAN_DEVICE).await.unwrap().index, tunnel.index);
    let without = Node::prepare(&Config { routing: NATIVE, ..nodes[0].config.clone() }).await.unwrap();
    assert_eq!((&without.tunnel, without.handle.link_by_name(VXLAN_DEVICE).await.unwrap()), (&None, None));
}

#[tokio::test]
async fn overlay_routes_lead_to_the_vxlan_device_of_the_other_node() {
    let nodes = TestNode::pair(VXLAN).await;
    let network = nodes[0].open().await;
    let far = nodes[1].remotes();
    network.node().ensure_remotes(&far).await.unwrap();
    let node = network.node();
    let vxlan = node.vxlan.as_ref().unwrap();
    assert_eq!((vxlan.mtu, vxlan.up), (1450, true));
    let other = nodes[1].open().await;
    let neighbours = node.handle.neigh_list().await.unwrap();
    for network in &other.node().networks {
        assert!(neighbours.iter().any(|n| n.dev == vxlan.index
            && n.ip == network.gateway()
            && Some(n.mac) == other.node().vxlan.as_ref().unwrap().mac));
    }
    // A second run changes nothing: the same devices, addresses and routes.
    let (routes, again) = (node.handle.route_list().await.unwrap(), nodes[0].open().await);
    assert_eq!(again.node().vxlan, node.vxlan);
    assert_eq!(again.node().host, node.host);
    again.node().ensure_remotes(&far).await.unwrap();
    assert_eq!(again.node().handle.route_list().await.unwrap(), routes);

    let removed = Node::remove(&nodes[0].netns.netns).await.unwrap();
    assert!(removed.contains(&"device xb_vxlan".to_owned()) && removed.len() > 2, "{removed:?}");
    assert_eq!(Node::remove(&nodes[0].netns.netns).await.unwrap(), [""; 0]);
    let left: Vec<String> = node.handle.links().await.unwrap().into_iter().map(|link| link.name).collect();
    assert!(!left.iter().any(|name| name.starts_with("xb")), "{left:?}");
    assert!(node.handle.route_list().await.unwrap().iter().all(|route| route.protocol != ROUTE_PROTOCOL));
}

/// Its headers are longer, and its packets have no UDP checksum, which IPv6 allows a device that is told so alone.
#[tokio::test]
async fn without_ipv4_the_overlay_runs_over_ipv6() {
    let mut nodes = TestNode::pair(VXLAN).await;
    nodes.iter_mut().for_each(|node| node.config.networks.retain(|network| network.node_ip.is_ipv6()));
    let (network, other) = (nodes[0].open().await, nodes[1].open().await);
    let (node, other) = (network.node(), other.node());
    let vxlan = node.vxlan.clone().unwrap();
    assert_eq!((vxlan.mtu, node.pod_mtu), (1430, 1430));
    let Network { node_ip, pod_cidr } = nodes[1].config.networks[0];
    let far = [Remote { pod_cidr, node_ip }];
    node.ensure_remotes(&far).await.unwrap();
    let (ip, mac) = (other.gateways()[0].addr(), other.vxlan.as_ref().and_then(|vxlan| vxlan.mac).unwrap());
    assert!(node.handle.neigh_list().await.unwrap().contains(&Neighbour { dev: vxlan.index, ip, mac }));
    let show = || Command::new("ip").args(["-details", "link", "show", VXLAN_DEVICE]).output().unwrap();
    let takes_no_checksum = || String::from_utf8(node.handle.netns().run(show).unwrap().stdout).unwrap();
    assert!(takes_no_checksum().contains(" udp6zerocsumrx "), "{}", takes_no_checksum());
    assert_eq!(node.repair().await.unwrap(), []);
    node.handle.link_del(VXLAN_DEVICE).await.unwrap();
    assert_eq!(node.repair().await.unwrap(), [Drift::new(DriftKind::Device, VXLAN_DEVICE)]);
    assert!(takes_no_checksum().contains(" udp6zerocsumrx "), "{}", takes_no_checksum());
    assert_eq!(node.handle.link(VXLAN_DEVICE).await.unwrap().index, vxlan.index, "the datapath knows it by this");
    let kinds: Vec<_> = node.ensure_remotes(&far).await.unwrap().into_iter().map(|drift| drift.kind).collect();
    assert_eq!(kinds, [DriftKind::Neighbour, DriftKind::Route]);
}

#[tokio::test]
async fn a_restart_attaches_pods_again_and_collects_what_is_gone() {
    let [node, _other] = TestNode::pair(VXLAN).await;
    let (a, b) = (TestNetns::new("a"), TestNetns::new("b"));
    let network = node.open().await;
    let kept = network.add(&request("a", &a)).await.unwrap().endpoint;
    network.add(&request("b", &b)).await.unwrap();
    drop(network);
    // A device whose record was never written, and one that is not ours.
    let handle = Handle::in_netns(&node.netns.netns).unwrap();
    handle.link_add_bridge("xb0123456789ab").await.unwrap();
    handle.link_add_bridge("xbridge").await.unwrap();
    node.datapath.pods.lock().unwrap().clear();

    let network = node.open().await;
    assert_eq!(node.datapath.pods.lock().unwrap().len(), 4);
    let listed_at = Instant::now();
    let c = TestNetns::new("c");
    let newer = network.add(&request("c", &c)).await.unwrap().endpoint;
    let live = HashSet::from(["a".to_owned()]);
    assert_eq!(network.collect_garbage(&live, listed_at).await.unwrap(), 1);
    assert_eq!(network.collect_garbage(&live, listed_at).await.unwrap(), 0);
    assert_eq!(*node.datapath.pods.lock().unwrap(), kept.ips.into_iter().chain(newer.ips).collect());
    assert!(handle.link_by_name("xbridge").await.unwrap().is_some());
    assert!(handle.link_by_name("xb0123456789ab").await.unwrap().is_none());
    network.check("a", "eth0").await.unwrap();

    // As after a reboot: namespaces and devices are gone, the records are not.
    drop((network, a));
    handle.link_del(&host_device("a", "eth0")).await.unwrap();
    let records = node.open().await.records();
    assert_eq!(records.iter().map(|record| record.container.as_str()).collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn a_failed_attachment_leaves_nothing_and_a_repeated_one_keeps_the_address() {
    let [node, _other] = TestNode::pair(VXLAN).await;
    let network = node.open().await;
    let a = TestNetns::new("a");
    node.datapath.broken.store(true, Ordering::Relaxed);
    let error = network.add(&request("a", &a)).await.unwrap_err();
    assert_eq!(error::chain(&error), "attach pod default/a in the datapath: map full");
    assert_eq!(network.records(), []);
    assert_eq!(Handle::in_netns(&a.netns).unwrap().link_by_name("eth0").await.unwrap(), None);
    node.datapath.broken.store(false, Ordering::Relaxed);

    let first = network.add(&request("a", &a)).await.unwrap().endpoint;
    let again = network.add(&request("a", &a)).await.unwrap().endpoint;
    assert_eq!(first.ips, again.ips);
    network.check("a", "eth0").await.unwrap();

    let gone = PodRequest { netns: "/run/netns/xbtest-gone".into(), ..request("z", &a) };
    let error = network.add(&gone).await.unwrap_err();
    assert!(
        error::chain(&error).starts_with(
            "set up the network of pod default/z: open network namespace /run/netns/xbtest-gone: No such file"
        ),
        "{}",
        error::chain(&error)
    );
    assert_eq!(network.records().len(), 1);

    // The pod's namespace is gone with everything in it: DEL still succeeds.
    drop(a);
    network.del("a", "eth0").await.unwrap();
    assert_eq!(network.records(), []);
}

#[tokio::test]
async fn check_names_what_is_missing() {
    let [node, _other] = TestNode::pair(VXLAN).await;
    let network = node.open().await;
    let a = TestNetns::new("a");
    network.add(&request("a", &a)).await.unwrap();
    let inside = Handle::in_netns(&a.netns).unwrap();
    inside.link_set_down("eth0").await.unwrap();
    let error = network.check("a", "eth0").await.unwrap_err();
    // Its IPv6 address goes with it.
    assert_eq!(error.to_string(), "the address of pod default/a is gone or differs");
    inside.link_del("eth0").await.unwrap();
    let error = network.check("a", "eth0").await.unwrap_err();
    assert_eq!(error.to_string(), "the host device of pod default/a is gone or differs");
}

#[test]
fn device_names_are_stable_short_and_recognised() {
    let name = host_device("0123456789abcdef", "eth0");
    assert_eq!(name, host_device("0123456789abcdef", "eth0"));
    assert_ne!(name, host_device("0123456789abcdef", "eth1"));
    assert!(name.len() <= 15 && names::is_host_device(&name), "{name}");
    for other in [HOST_DEVICE, VXLAN_DEVICE, "xb", "xbridge", "xb0123456789AB", "eth0"] {
        assert!(!names::is_host_device(other), "{other}");
    }
}

#[test]
fn the_pod_mtu_leaves_room_for_the_overlay() {
    let (ipv4, ipv6) = ("172.30.0.11".parse().unwrap(), "2001:db8::11".parse().unwrap());
    assert_eq!(pod_mtu(VXLAN, ipv4, 1500), 1450);
    assert_eq!(pod_mtu(VXLAN, ipv4, 9000), 8950);
    assert_eq!(pod_mtu(VXLAN, ipv6, 1500), 1430);
    assert_eq!(pod_mtu(NATIVE, ipv6, 1500), 1500);
}

/// Prints what the CNI part of a pod's start and end costs (`--no-capture`); asserts nothing about time.
#[tokio::test]
async fn pods_come_and_go_in_a_row() {
    let [node, _other] = TestNode::pair(VXLAN).await;
    let network = node.open().await;
    let pods: Vec<TestNetns> = (0..40).map(|_| TestNetns::new("p")).collect();
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    for (i, pod) in pods.iter().enumerate() {
        let started = Instant::now();
        network.add(&request(&format!("c{i}"), pod)).await.unwrap();
        adds.push(started.elapsed());
    }
    for i in 0..pods.len() {
        let started = Instant::now();
        network.del(&format!("c{i}"), "eth0").await.unwrap();
        dels.push(started.elapsed());
    }
    adds.sort();
    dels.sort();
    println!("ADD p50 {:?} p95 {:?}, DEL p50 {:?} p95 {:?}", adds[20], adds[38], dels[20], dels[38]);
    assert_eq!(network.records(), []);
}
