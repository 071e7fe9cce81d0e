use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use ipnet::{Ipv4Net, Ipv6Net};
use xebec_abi::{VERSION, config::dsr_vni};

use crate::{
    Capacity, MapLayout, TableSize, XdpMode,
    error::{Error, Result},
};

/// What the datapath of a node needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    pub node_name: String,
    /// A mounted bpf filesystem, such as `/sys/fs/bpf`.
    pub bpffs: PathBuf,
    /// Cgroup (unified hierarchy) of the node's pods.
    pub cgroup_pods: PathBuf,
    /// Cgroup (unified hierarchy) of the node's own processes; usually an ancestor of `cgroup_pods`.
    pub cgroup_node: PathBuf,
    /// `None` for a node without IPv4. A node has at least one family.
    pub ipv4: Option<Network4>,
    pub ipv6: Option<Network6>,
    pub routing: Routing,
    /// What the pods' network takes: with an overlay, what fits it; else what fits every uplink.
    pub pod_mtu: u32,
    /// Interfaces (by index) that lead to other nodes and outside.
    pub uplinks: Vec<u32>,
    /// Cookie of the network namespace that the node's own processes are in, 0 if unknown: NodePorts are then not
    /// served on 127.0.0.1.
    pub netns_cookie: u64,
    /// Source ports for masquerading; must not overlap [`Config::NODE_PORTS`]. They are reserved: the kernel gives none of
    /// them to a socket that does not ask for it.
    pub snat_ports: RangeInclusive<u16>,
    pub load_balancer: LoadBalancer,
    pub capacity: Capacity,
    pub map_layout: MapLayout,
}

/// How services are answered from outside.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LoadBalancer {
    /// Entries of a Maglev table; the same on every node.
    pub maglev_table_size: TableSize,
    /// The tunnel through which clients of a backend elsewhere get to it as they are, if there is one.
    pub dsr: Option<Dsr>,
    /// Uplinks (by index) that run `xdp_netdev`, and how.
    pub xdp: BTreeMap<u32, XdpMode>,
}

/// A VXLAN device in collect-metadata mode, between the IPv4 addresses of nodes, or their IPv6 ones if they have no others:
/// the overlay's, where there is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dsr {
    pub ifindex: u32,
    /// The cluster's; packets for services have others, derived from it ([`xebec_abi::config::dsr_vni`]).
    pub vni: u32,
}

/// What a node has of one IP family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network<A, N> {
    pub node_ip: A,
    pub pod_cidr: N,
    /// Pods of every node. Traffic from a pod to anywhere else is masqueraded.
    pub cluster_cidr: N,
    pub service_cidr: N,
    /// The node's own address in `pod_cidr`.
    pub gateway: A,
}

pub type Network4 = Network<Ipv4Addr, Ipv4Net>;
pub type Network6 = Network<Ipv6Addr, Ipv6Net>;

impl Config {
    /// kube-apiserver's default for `--service-node-port-range`.
    pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

    /// The default range for [`Config::snat_ports`].
    pub const SNAT_PORTS: RangeInclusive<u16> = xebec_abi::config::SNAT_PORTS;

    /// The node's addresses, IPv4 first.
    pub fn node_ips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let ipv4 = self.ipv4.map(|network| IpAddr::V4(network.node_ip));
        ipv4.into_iter().chain(self.ipv6.map(|network| IpAddr::V6(network.node_ip)))
    }

    /// The VXLAN device, for whatever it is.
    pub(crate) fn tunnel(&self) -> Option<u32> {
        match self.routing {
            Routing::Vxlan { ifindex, .. } => Some(ifindex),
            Routing::Native => self.load_balancer.dsr.map(|dsr| dsr.ifindex),
        }
    }

    /// Every network identifier that the node is to use, once.
    pub(crate) fn check_vnis(&self) -> Result<()> {
        let overlay = match self.routing {
            Routing::Vxlan { vni, .. } => Some(vni),
            Routing::Native => None,
        };
        let dsr = self.load_balancer.dsr.map(|dsr| dsr.vni);
        match overlay.into_iter().chain(dsr).find(|vni| dsr_vni(*vni).is_none()) {
            Some(vni) => Err(Error::Vni { vni }),
            None => Ok(()),
        }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        version_directory(&self.bpffs, &self.node_name)
    }
}

/// How pods of other nodes are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Routing {
    /// Through a VXLAN device in collect-metadata mode, between the IPv4 addresses of nodes, or their IPv6 ones if pods have
    /// no IPv4.
    Vxlan { ifindex: u32, vni: u32 },
    /// The network routes pod addresses: the host's FIB knows the next hop.
    Native,
}

/// Where the pins of every node of the machine are, below its bpf filesystem.
pub(crate) const PINS: &str = "xebec";

pub(crate) fn node_directory(bpffs: &Path, node: &str) -> PathBuf {
    bpffs.join(PINS).join(node)
}

pub(crate) fn version_directory(bpffs: &Path, node: &str) -> PathBuf {
    node_directory(bpffs, node).join(format!("v{VERSION}"))
}
