//! What an agent is told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use xebec_client::bootstrap::Token;
use xebec_datapath::{Capacity, TableSize, XdpMode};
use xebec_kubelet::eviction::Thresholds;
use xebec_services::{Forwarding, NodePortAddresses};

#[derive(Clone, Debug)]
pub struct Config {
    pub servers: Vec<String>,
    pub token: Option<Token>,
    pub ca_file: Option<PathBuf>,
    pub node_name: String,
    /// One of each family that the node has, the cluster's primary first.
    pub node_ips: Vec<IpAddr>,
    /// Interfaces that lead to other nodes and outside, besides those with `node_ips`.
    pub uplinks: Vec<String>,
    /// Certificates, address records, pods, logs: kept over restarts.
    pub data_dir: PathBuf,
    /// Sockets and pid files.
    pub run_dir: PathBuf,
    pub container_runtime_endpoint: PathBuf,
    pub cni_bin_dir: PathBuf,
    pub cni_conf_dir: PathBuf,
    /// A mounted bpf filesystem.
    pub bpffs: PathBuf,
    /// Where cgroup2 is mounted.
    pub cgroup_mount: PathBuf,
    /// The node's cgroup below every hierarchy's root, such as `/xebec/node-1`.
    pub cgroup_root: String,
    pub routing: Routing,
    /// Ports of the node's addresses that flows take which leave from there.
    pub snat_ports: RangeInclusive<u16>,
    pub load_balancer: LoadBalancer,
    /// Sizes of the datapath's maps.
    pub capacity: Capacity,
    /// Of each family that pods have.
    pub cluster_cidrs: Vec<IpNet>,
    /// Of each family that Services have.
    pub service_cidrs: Vec<IpNet>,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    /// Where DNS sends what is not of the cluster's domain; empty: the machine's /etc/resolv.conf.
    pub dns_upstreams: Vec<String>,
    pub kubelet_port: u16,
    pub max_pods: u32,
    pub eviction_hard: Thresholds,
    pub image_gc_high_threshold: u64,
    pub image_gc_low_threshold: u64,
}

/// How services are answered from outside.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LoadBalancer {
    /// Entries of a Maglev table; the same on every node.
    pub maglev_table_size: TableSize,
    /// Where the node has NodePorts.
    pub nodeport_addresses: NodePortAddresses,
    /// How clients outside reach backends on other nodes, of Services that do not say.
    pub forwarding: Forwarding,
    /// How uplinks run `xdp_netdev`, if they do.
    pub xdp: Option<XdpMode>,
    /// The same of single uplinks, by name.
    pub xdp_of: BTreeMap<String, XdpMode>,
}

/// How pods on other nodes are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Routing {
    Vxlan,
    Native,
}

impl Config {
    pub fn identity_dir(&self) -> PathBuf {
        self.data_dir.join("pki")
    }

    pub fn cni_socket(&self) -> PathBuf {
        self.run_dir.join("cni.sock")
    }
}
