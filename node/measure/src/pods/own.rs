//! Two nodes of ours: podnet and the datapath, without a kubelet.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use xebec_abi::lb::{frontend_flag, scope};
use xebec_abi::proto;
use xebec_datapath::{
    Backend, Capacity, Config, Datapath, Dsr, Frontend, FrontendKey, LoadBalancer, MapLayout, PodEndpoint, Service,
};
use xebec_podnet::{EndpointInfo, Endpoints, Network, Node, PodNetwork, PodRequest, Remote, Routing};

use crate::netns::{Scratch, Switch};
use crate::run::{Cgroup, Directory};

/// Of the overlay.
const VNI: u32 = 1;
pub const NODES: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 31, 1, 1), Ipv4Addr::new(172, 31, 1, 2)];

/// Two nodes on a bridge: two pods on the first, one on the second.
pub struct Cluster {
    pub nodes: [NodeUnderTest; 2],
}

pub struct NodeUnderTest {
    pub pods: Vec<Pod>,
    // Dropped in this order: programs first, then what they are attached to.
    _network: PodNetwork,
    datapath: Arc<Datapath>,
    _scratch: Scratch,
    _state: Directory,
    _bpffs: Directory,
    _cgroup: Cgroup,
}

pub struct Pod {
    pub scratch: Scratch,
    pub ip: Ipv4Addr,
}

pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl Cluster {
    pub async fn new(switch: &Switch, routing: Routing) -> Result<Self, AnyError> {
        let (one, two) = (Scratch::new()?, Scratch::new()?);
        switch.plug(&one, NODES[0]).await?;
        switch.plug(&two, NODES[1]).await?;
        let one = NodeUnderTest::new(one, 0, routing, 2).await?;
        let two = NodeUnderTest::new(two, 1, routing, 1).await?;
        Ok(Self { nodes: [one, two] })
    }

    /// A NodePort on both nodes for clients outside, whose backend is on the second.
    pub fn expose(&self, port: u16, backend: SocketAddrV4, is_direct: bool) -> xebec_datapath::Result<()> {
        let flags = frontend_flag::NODE_PORT | if is_direct { frontend_flag::DSR } else { 0 };
        for (index, node) in self.nodes.iter().enumerate() {
            // What another node passes on has its address.
            let addresses = [Some(NODES[index]), is_direct.then_some(Ipv4Addr::UNSPECIFIED)];
            let at = |addr: Ipv4Addr| Frontend {
                key: FrontendKey { addr: addr.into(), port, proto: proto::TCP, scope: scope::EXTERNAL },
                flags,
            };
            let (addr, port) = ((*backend.ip()).into(), backend.port());
            let backends = vec![Backend { addr, port, local: index == 1, terminating: false, weight: 0 }];
            let frontends = addresses.into_iter().flatten().map(at).collect();
            node.datapath.put_service(&Service { frontends, backends, ..Service::default() })?;
        }
        Ok(())
    }
}

fn pod_cidr(index: usize) -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 244, index as u8 + 1, 0), 24)
}

impl NodeUnderTest {
    async fn new(scratch: Scratch, index: usize, routing: Routing, pods: usize) -> Result<Self, AnyError> {
        let (state, bpffs, cgroup) = (Directory::new()?, Directory::bpffs()?, Cgroup::new()?);
        let node = Node::prepare(&xebec_podnet::Config {
            netns: scratch.netns.clone(),
            state_dir: state.path().to_path_buf(),
            networks: vec![Network { node_ip: NODES[index].into(), pod_cidr: pod_cidr(index).into() }],
            routing,
        })
        .await?;
        let config = Config {
            node_name: format!("bench-{index}"),
            bpffs: bpffs.path().to_path_buf(),
            cgroup_pods: cgroup.path().to_owned(),
            cgroup_node: cgroup.path().to_owned(),
            ipv4: Some(xebec_datapath::Network {
                node_ip: NODES[index],
                pod_cidr: pod_cidr(index),
                cluster_cidr: "10.244.0.0/16".parse()?,
                service_cidr: "10.96.0.0/12".parse()?,
                gateway: Ipv4Addr::new(10, 244, index as u8 + 1, 1),
            }),
            ipv6: None,
            routing: match &node.vxlan {
                Some(device) => xebec_datapath::Routing::Vxlan { ifindex: device.index, vni: VNI },
                None => xebec_datapath::Routing::Native,
            },
            pod_mtu: node.pod_mtu,
            uplinks: node.uplinks.iter().map(|uplink| uplink.index).collect(),
            netns_cookie: 0,
            // Clients reset connections, by thousands a second, and a port of one that a client outside has reset is not
            // free at once.
            snat_ports: 1_024..=65_535,
            load_balancer: LoadBalancer {
                dsr: node.tunnel.as_ref().map(|device| Dsr { ifindex: device.index, vni: VNI }),
                ..LoadBalancer::default()
            },
            capacity: Capacity::default(),
            map_layout: MapLayout::default(),
        };
        let datapath = Arc::new(scratch.netns.run(|| Datapath::open(config))??);
        let other = 1 - index;
        let far = Remote { pod_cidr: pod_cidr(other).into(), node_ip: NODES[other].into() };
        datapath.put_remote(far.pod_cidr, far.node_ip)?;
        // Its end of the tunnel of direct server return.
        datapath.put_remote(far.node_ip.into(), far.node_ip)?;
        node.ensure_remotes(&[far]).await?;
        let endpoints = Arc::new(Attach(Arc::clone(&datapath), scratch.netns.clone()));
        let network = PodNetwork::open(node, state.path(), endpoints).await?;
        let mut made = Vec::new();
        for number in 0..pods {
            let pod = Scratch::new()?;
            let request = PodRequest {
                container: format!("bench-{index}-{number}"),
                ifname: "eth0".to_owned(),
                netns: pod.netns.path().to_path_buf(),
                namespace: "bench".to_owned(),
                name: format!("pod-{number}"),
                uid: format!("{index}-{number}"),
            };
            let attachment = network.add(&request).await?;
            made.push(Pod { scratch: pod, ip: ipv4(attachment.endpoint.ips[0])? });
        }
        Ok(Self {
            pods: made,
            _network: network,
            datapath,
            _scratch: scratch,
            _state: state,
            _bpffs: bpffs,
            _cgroup: cgroup,
        })
    }
}

/// These pods have one address.
fn ipv4(ip: IpAddr) -> Result<Ipv4Addr, AnyError> {
    match ip {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(format!("{ip} is not an IPv4 address").into()),
    }
}

struct Attach(Arc<Datapath>, xebec_netlink::Netns);

#[async_trait::async_trait]
impl Endpoints for Attach {
    async fn attach(&self, endpoint: &EndpointInfo) -> Result<(), AnyError> {
        let pod = PodEndpoint {
            ip: endpoint.ips[0],
            host_ifindex: endpoint.host_ifindex,
            pod_mac: endpoint.pod_mac.0,
            host_mac: endpoint.host_mac.0,
            netns_cookie: endpoint.netns_cookie,
        };
        Ok(self.1.run(|| self.0.attach_pod(&pod))??)
    }

    async fn detach(&self, ip: IpAddr) -> Result<(), AnyError> {
        self.0.detach_pod(ip)?;
        Ok(())
    }
}
