//! A machine with a switch, nodes on it, pods on the nodes, and a host outside the cluster.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;
use xebec_datapath::{
    Backend, Capacity, Config, Datapath, Dsr, Frontend, FrontendKey, LoadBalancer, MapLayout, Network, Network4,
    Network6, PodEndpoint, Routing, Service,
};
use xebec_netlink::{Handle, LinkSpec, Netns, Peer};
use xebec_podnet::{EndpointInfo, Endpoints, PodNetwork, PodRequest, Remote, VXLAN_PORT};

static COUNTER: AtomicU32 = AtomicU32::new(0);

pub const VNI: u32 = 7;
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 200);
pub const OUTSIDE6: Ipv6Addr = switched6(200);
/// IPv6 addresses at the switch.
const fn switched6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

/// A network namespace that is gone when the test is.
pub struct Space {
    pub name: String,
    pub netns: Netns,
}

impl Space {
    pub fn new(role: &str) -> Self {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xbtest-dp-{}-{count}-{role}", std::process::id());
        let netns = Netns::create(&name).expect("a network namespace (these tests need root)");
        netns.loopback_up().unwrap();
        // Addresses serve at once.
        netns.sysctl("ipv6/conf/default/accept_dad", "0").unwrap();
        Self { name, netns }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = Netns::delete(&self.name);
    }
}

/// A bpf filesystem and a cgroup.
pub struct Mounts {
    pub bpffs: TempDir,
    pub cgroup: PathBuf,
}

impl Mounts {
    fn new(node: &str) -> Self {
        let bpffs = tempfile::tempdir().unwrap();
        mount(Some("bpf"), bpffs.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        let cgroup = cgroup2().join(node);
        fs::create_dir_all(&cgroup).unwrap();
        Self { bpffs, cgroup }
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = umount2(self.bpffs.path(), MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    PathBuf::from(line.expect("a cgroup2 mount").split(' ').nth(1).unwrap())
}

pub struct Node {
    pub space: Space,
    pub mounts: Mounts,
    pub config: Config,
    pub datapath: Arc<Attached>,
    network: PodNetwork,
    _state: TempDir,
}

/// The datapath of a node, which must be called in the node's namespace.
pub struct Attached {
    netns: Netns,
    pub datapath: std::sync::RwLock<Option<Arc<Datapath>>>,
}

impl Attached {
    pub fn get(&self) -> Arc<Datapath> {
        self.datapath.read().unwrap().clone().expect("an agent")
    }
}

#[async_trait]
impl Endpoints for Attached {
    async fn attach(&self, endpoint: &EndpointInfo) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for ip in &endpoint.ips {
            let pod = PodEndpoint {
                ip: *ip,
                host_ifindex: endpoint.host_ifindex,
                pod_mac: endpoint.pod_mac.0,
                host_mac: endpoint.host_mac.0,
                netns_cookie: endpoint.netns_cookie,
            };
            self.netns.run(|| self.get().attach_pod(&pod))??;
        }
        Ok(())
    }

    async fn detach(&self, ip: IpAddr) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.netns.run(|| self.get().detach_pod(ip))??;
        Ok(())
    }
}

pub struct Pod {
    pub space: Space,
    /// Unspecified on a machine of IPv6 alone.
    pub ip: Ipv4Addr,
    /// On a machine of both families.
    pub ip6: Option<Ipv6Addr>,
}

impl Pod {
    pub fn ip6(&self) -> Ipv6Addr {
        self.ip6.expect("a pod with IPv6")
    }
}

/// How nodes are connected.
#[derive(Clone, Copy)]
struct Wiring {
    overlay: bool,
    ipv4: bool,
    ipv6: bool,
    /// For direct server return, which an overlay has in any case.
    tunnel: bool,
}

pub struct Machine {
    pub nodes: Vec<Node>,
    pub outside: Space,
    pub switch: Space,
}

impl Machine {
    /// Of IPv4 alone.
    pub async fn new(nodes: u8, overlay: bool) -> Self {
        Self::wired(nodes, Wiring { overlay, ipv4: true, ipv6: false, tunnel: false }).await
    }

    /// Of both families.
    pub async fn dual(nodes: u8, overlay: bool) -> Self {
        Self::wired(nodes, Wiring { overlay, ipv4: true, ipv6: true, tunnel: false }).await
    }

    /// The same, with a tunnel beside native routes.
    pub async fn dual_with_tunnel(nodes: u8, overlay: bool) -> Self {
        Self::wired(nodes, Wiring { overlay, ipv4: true, ipv6: true, tunnel: true }).await
    }

    /// Of IPv6 alone, with a tunnel in any case.
    pub async fn ipv6(nodes: u8, overlay: bool) -> Self {
        Self::wired(nodes, Wiring { overlay, ipv4: false, ipv6: true, tunnel: true }).await
    }

    async fn wired(nodes: u8, wiring: Wiring) -> Self {
        let switch = Space::new("switch");
        let ports = Handle::in_netns(&switch.netns).unwrap();
        ports.link_add(&LinkSpec::bridge("br0").up()).await.unwrap();
        let outside = Space::new("outside");
        plug(&ports, &switch, &outside, [OUTSIDE.into(), OUTSIDE6.into()], 0).await;
        let mut all = Vec::new();
        for number in 1..=nodes {
            all.push(Node::new(number, wiring, &ports, &switch).await);
        }
        let remotes: Vec<Remote> = all.iter().flat_map(Node::remotes).collect();
        for node in &all {
            node.network.node().ensure_remotes(&remotes).await.unwrap();
            let own = node.remotes();
            for remote in remotes.iter().filter(|remote| !own.contains(remote)) {
                node.datapath.get().put_remote(remote.pod_cidr, remote.node_ip).unwrap();
            }
            let has_tunnel = node.config.load_balancer.dsr.is_some();
            for other in all.iter().filter(|other| has_tunnel && other.end() != node.end()) {
                for (network, end) in other.ends() {
                    node.datapath.get().put_remote(network, end).unwrap();
                }
            }
        }
        Self { nodes: all, outside, switch }
    }
}

impl Node {
    async fn new(number: u8, wiring: Wiring, ports: &Handle, switch: &Space) -> Self {
        let space = Space::new(&format!("n{number}"));
        let ipv6 = wiring.ipv6.then(|| network6(number));
        let ipv4 = wiring.ipv4.then(|| network4(number));
        let ip6 = IpAddr::from(switched6(10 + u16::from(number)));
        plug(ports, switch, &space, ipv4.map(|ipv4| ipv4.node_ip.into()).into_iter().chain([ip6]), number).await;
        let state = tempfile::tempdir().unwrap();
        let routing = match wiring.overlay {
            true => xebec_podnet::Routing::Vxlan { port: VXLAN_PORT },
            false => xebec_podnet::Routing::Native { tunnel: wiring.tunnel.then_some(VXLAN_PORT) },
        };
        let node =
            xebec_podnet::Node::prepare(&xebec_podnet::Config {
                netns: space.netns.clone(),
                state_dir: state.path().to_owned(),
                networks: ipv4
                    .map(|ipv4| xebec_podnet::Network { node_ip: ipv4.node_ip.into(), pod_cidr: ipv4.pod_cidr.into() })
                    .into_iter()
                    .chain(ipv6.map(|ipv6| xebec_podnet::Network {
                        node_ip: ipv6.node_ip.into(),
                        pod_cidr: ipv6.pod_cidr.into(),
                    }))
                    .collect(),
                routing,
            })
            .await
            .unwrap();
        let mounts = Mounts::new(&space.name);
        let config = Config {
            node_name: format!("node{number}"),
            bpffs: mounts.bpffs.path().to_owned(),
            cgroup_pods: mounts.cgroup.clone(),
            cgroup_node: mounts.cgroup.clone(),
            ipv4,
            ipv6,
            routing: match &node.vxlan {
                Some(link) => Routing::Vxlan { ifindex: link.index, vni: VNI },
                None => Routing::Native,
            },
            pod_mtu: node.pod_mtu,
            uplinks: vec![node.uplinks[0].index],
            netns_cookie: space.netns.cookie().unwrap().unwrap_or_default(),
            snat_ports: Config::SNAT_PORTS,
            load_balancer: LoadBalancer {
                dsr: node.tunnel.as_ref().map(|link| Dsr { ifindex: link.index, vni: VNI }),
                ..LoadBalancer::default()
            },
            capacity: Capacity::default(),
            map_layout: MapLayout::default(),
        };
        let datapath = open(&space.netns, &config);
        let attached = Arc::new(Attached { netns: space.netns.clone(), datapath: Some(Arc::new(datapath)).into() });
        let network = PodNetwork::open(node, state.path(), attached.clone()).await.unwrap();
        Self { space, mounts, config, datapath: attached, network, _state: state }
    }

    pub fn datapath(&self) -> Arc<Datapath> {
        self.datapath.get()
    }

    /// The agent dies; what is pinned stays.
    pub fn stop_agent(&self) {
        *self.datapath.datapath.write().unwrap() = None;
    }

    pub fn start_agent(&self) {
        self.start_agent_with(Datapath::open);
    }

    pub fn start_agent_with(&self, open: impl FnOnce(Config) -> xebec_datapath::Result<Datapath> + Send) {
        let opened = self.space.netns.run(|| open(self.config.clone())).unwrap();
        let datapath = opened.unwrap_or_else(|error| panic!("{}", chain(&error)));
        *self.datapath.datapath.write().unwrap() = Some(Arc::new(datapath));
    }

    pub async fn pod(&self, name: &str) -> Pod {
        let space = Space::new(name);
        let request = PodRequest {
            container: space.name.clone(),
            ifname: "eth0".to_owned(),
            netns: space.netns.path().to_owned(),
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
        };
        let ips = self.network.add(&request).await.unwrap().endpoint.ips;
        let ip6 = ips.iter().find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
        let ip = ips.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        Pod { space, ip: ip.unwrap_or(Ipv4Addr::UNSPECIFIED), ip6 }
    }

    pub async fn remove(&self, pod: Pod) {
        self.network.del(&pod.space.name, "eth0").await.unwrap();
    }

    /// Limits what the pod sends; true if it was otherwise.
    pub async fn shape(&self, pod: &Pod, bytes_per_s: Option<u64>) -> bool {
        let records = self.network.records();
        let record = records.iter().find(|record| record.container == pod.space.name).unwrap();
        self.network.shape(record, bytes_per_s).await.unwrap()
    }

    pub fn put(&self, vip: Ipv4Addr, port: u16, proto: u8, backends: &[(Ipv4Addr, u16)]) {
        self.datapath().put_service(&service(vip, port, proto, backends)).unwrap();
    }

    pub fn network(&self) -> Network4 {
        self.config.ipv4.expect("nodes have IPv4")
    }

    /// The node's IPv4 address.
    pub fn ip(&self) -> Ipv4Addr {
        self.network().node_ip
    }

    pub fn network6(&self) -> Network6 {
        self.config.ipv6.expect("a node with IPv6")
    }

    pub fn ip6(&self) -> Ipv6Addr {
        self.network6().node_ip
    }

    /// Where its tunnel ends: at an IPv4 address, if it has one.
    fn end(&self) -> IpAddr {
        self.config.node_ips().next().expect("an address")
    }

    /// Its pods' addresses, and where they are reached: over the overlay at its end in any case.
    fn remotes(&self) -> Vec<Remote> {
        let remote = |pod_cidr, node_ip| Remote {
            pod_cidr,
            node_ip: if self.config.routing == Routing::Native { node_ip } else { self.end() },
        };
        let ipv4 = self.config.ipv4.map(|ipv4| remote(ipv4.pod_cidr.into(), ipv4.node_ip.into()));
        let ipv6 = self.config.ipv6.map(|ipv6| remote(ipv6.pod_cidr.into(), ipv6.node_ip.into()));
        ipv4.into_iter().chain(ipv6).collect()
    }

    /// Its own addresses, and its pods' of IPv6, with the address at which its tunnel ends.
    fn ends(&self) -> Vec<(IpNet, IpAddr)> {
        let own = self.config.ipv4.iter().flat_map(|ipv4| {
            [IpNet::from(IpAddr::from(ipv4.node_ip)), IpNet::from(IpAddr::from(ipv4.node_ip.to_ipv6_mapped()))]
        });
        let ipv6 = self.config.ipv6.iter().flat_map(|ipv6| [IpAddr::from(ipv6.node_ip).into(), ipv6.pod_cidr.into()]);
        own.chain(ipv6).map(|network| (network, self.end())).collect()
    }

    pub fn report(&self) -> String {
        let datapath = self.datapath();
        format!("drops {:?} counters {:?}", datapath.drops(), datapath.counters())
    }
}

pub fn service<A: Copy + Into<IpAddr>>(vip: A, port: u16, proto: u8, backends: &[(A, u16)]) -> Service {
    let backend = |(addr, port): &(A, u16)| Backend {
        addr: (*addr).into(),
        port: *port,
        local: false,
        terminating: false,
        weight: 0,
    };
    Service {
        frontends: vec![Frontend { key: FrontendKey::cluster_ip(vip.into(), port, proto), flags: 0 }],
        backends: backends.iter().map(backend).collect(),
        ..Service::default()
    }
}

fn open(netns: &Netns, config: &Config) -> Datapath {
    let opened = netns.run(|| Datapath::open(config.clone())).unwrap();
    opened.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn network4(number: u8) -> Network4 {
    Network {
        node_ip: Ipv4Addr::new(172, 30, 0, 10 + number),
        pod_cidr: Ipv4Net::new(Ipv4Addr::new(10, 244, number, 0), 24).unwrap(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        service_cidr: "10.96.0.0/12".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 244, number, 1),
    }
}

fn network6(number: u8) -> Network6 {
    let number = u16::from(number);
    let of_pods = |last| Ipv6Addr::new(0xfd10, 0xdb8, 0, number, 0, 0, 0, last);
    Network {
        node_ip: switched6(10 + number),
        pod_cidr: Ipv6Net::new(of_pods(0), 64).unwrap(),
        cluster_cidr: "fd10:db8::/48".parse().unwrap(),
        service_cidr: "fd96:db8::/112".parse().unwrap(),
        gateway: of_pods(1),
    }
}

async fn plug(ports: &Handle, switch: &Space, space: &Space, ips: impl IntoIterator<Item = IpAddr>, port: u8) {
    let inside = Handle::in_netns(&space.netns).unwrap();
    let name = format!("p{port}");
    let peer = Peer::new(&name).netns(&switch.netns);
    inside.link_add(&LinkSpec::veth("eth0", peer).up()).await.unwrap();
    ports.link_set_master(&name, Some("br0")).await.unwrap();
    ports.link_set_up(&name).await.unwrap();
    let index = inside.link("eth0").await.unwrap().index;
    for ip in ips {
        let prefix_len = if ip.is_ipv4() { 24 } else { 64 };
        inside.addr_add(index, IpNet::new(ip, prefix_len).unwrap()).await.unwrap();
    }
}

/// Joins a cgroup, for a process that is told to by its parent.
pub fn join_cgroup(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.procs"), "0")
}
