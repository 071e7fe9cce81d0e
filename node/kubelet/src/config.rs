//! What a kubelet is told by the agent.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use xebec_clock::Clock;
use xebec_types::core::Taint;

use crate::eviction::Thresholds;
use crate::pod::PodRef;

/// Upstream's option names where upstream has one.
#[derive(Clone)]
pub struct Config {
    pub node_name: String,
    /// One of each family that the node has, the primary first; see [`Config::node_ip`].
    pub node_ips: Vec<IpAddr>,
    /// containerd's socket.
    pub container_runtime_endpoint: PathBuf,
    /// Pod directories, volumes, logs: everything a kubelet keeps on disk.
    pub root_dir: PathBuf,
    /// Of the form `/xebec/<node>/kubepods`, below every cgroup hierarchy's root.
    pub cgroup_root: String,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The resolver file of pods with `dnsPolicy: Default`.
    pub resolv_conf: PathBuf,
    /// Where the server listens; port 0 takes any, and the Node says which.
    pub address: IpAddr,
    pub port: u16,
    pub max_pods: u32,
    pub node_labels: BTreeMap<String, String>,
    pub register_with_taints: Vec<Taint>,
    /// Subtracted from capacity to give allocatable: `cpu`, `memory`.
    pub reserved_milli_cpu: i64,
    pub reserved_memory_bytes: i64,
    /// A share of the machine: several nodes may live on one. `None` is all of it.
    pub capacity_milli_cpu: Option<i64>,
    pub capacity_memory_bytes: Option<i64>,
    /// Below these the node is under pressure, and pods are evicted.
    pub eviction_hard: Thresholds,
    /// Used percentages of the images' filesystem: above the first unused images go, down to the second; 100 is never.
    pub image_gc_high_threshold: u64,
    pub image_gc_low_threshold: u64,
    /// The image of every sandbox, which is in use without a container.
    pub sandbox_image: Option<String>,
    pub tls: Tls,
    /// True once pods can have addresses; the node is NotReady until then.
    pub network_ready: watch::Receiver<bool>,
    /// Conditions of the Node that other parts of the agent know about.
    pub node_conditions: Option<watch::Receiver<Vec<NodeVerdict>>>,
    /// Asked before a pod's containers get SIGTERM.
    pub withdraw: Option<Arc<dyn Withdraw>>,
    /// The longest the kubelet waits for `withdraw`.
    pub withdraw_timeout: Duration,
    /// The version of the EndpointSlices that this node's datapath has: what other nodes ask for.
    pub applied_slices: Option<watch::Receiver<u64>>,
    /// What other parts of the agent add to `/metrics`, in the Prometheus text format.
    pub metrics: Vec<MetricsText>,
}

/// A condition of the Node, without its times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeVerdict {
    pub kind: &'static str,
    pub status: bool,
    pub reason: &'static str,
    pub message: String,
}

pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// The server's side of TLS.
#[derive(Clone)]
pub struct Tls {
    /// Answers with the current serving certificate, so that rotation needs no restart.
    pub cert_resolver: Arc<dyn rustls::server::ResolvesServerCert>,
    /// Client certificates must be signed by one of these (PEM).
    pub client_ca_pem: Vec<u8>,
    /// By which certificates and tokens are good.
    pub clock: Clock,
}

/// Takes a pod out of every node's load balancing before it is told to stop.
///
/// Called once per pod, after its deletion was seen and before preStop hooks and SIGTERM. It returns before `limit`
/// (`Config::withdraw_timeout`) is over, and the kubelet goes on in any case.
#[async_trait]
pub trait Withdraw: Send + Sync + 'static {
    async fn withdraw(&self, pod: &PodRef, limit: Duration) -> Withdrawal;
}

/// What became of a withdrawal; a condition of the pod says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// No Service offers the pod.
    NotServed,
    /// No node sends new connections to it.
    Acknowledged,
    /// The wait was over first; why, for people.
    TimedOut(String),
}

impl Config {
    /// A kubelet with upstream's defaults.
    pub fn new(
        node_name: &str,
        node_ips: Vec<IpAddr>,
        root_dir: PathBuf,
        tls: Tls,
        network_ready: watch::Receiver<bool>,
    ) -> Self {
        Self {
            node_name: node_name.to_owned(),
            address: primary(&node_ips),
            node_ips,
            container_runtime_endpoint: "/run/containerd/containerd.sock".into(),
            root_dir,
            cgroup_root: format!("/xebec/{node_name}/kubepods"),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: "/etc/resolv.conf".into(),
            port: 10250,
            max_pods: 110,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            reserved_milli_cpu: 0,
            reserved_memory_bytes: 0,
            capacity_milli_cpu: None,
            capacity_memory_bytes: None,
            eviction_hard: Thresholds::default(),
            image_gc_high_threshold: 85,
            image_gc_low_threshold: 80,
            sandbox_image: None,
            tls,
            network_ready,
            node_conditions: None,
            withdraw: None,
            withdraw_timeout: Duration::from_secs(2),
            applied_slices: None,
            metrics: Vec::new(),
        }
    }

    /// The node's first address.
    pub fn node_ip(&self) -> IpAddr {
        primary(&self.node_ips)
    }

    /// A pod's addresses as the API shows them: those of the node's primary family first, whatever order the runtime
    /// has them in.
    pub fn primary_first(&self, pod_ips: &[IpAddr]) -> Vec<IpAddr> {
        let is_primary = |ip: &&IpAddr| ip.is_ipv4() == self.node_ip().is_ipv4();
        let (first, rest): (Vec<_>, Vec<_>) = pod_ips.iter().partition(is_primary);
        [first, rest].concat()
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    pub fn pods_dir(&self) -> PathBuf {
        self.root_dir.join("pods")
    }

    /// The logs of one pod, named as upstream names `/var/log/pods`.
    pub fn log_dir(&self, pod: &PodRef) -> PathBuf {
        self.logs_dir().join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
    }

    pub fn logs_dir(&self) -> PathBuf {
        self.root_dir.join("logs")
    }
}

fn primary(node_ips: &[IpAddr]) -> IpAddr {
    node_ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}
