//! Where everything of one cluster is, and what it is called.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The underlay of every cluster: it lives in namespaces of its own, so clusters do not meet.
pub const UNDERLAY_PREFIX: u8 = 24;
pub const SERVER_IP: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);
pub const OUTSIDE_IP: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 200);
/// The API server's port on the underlay.
pub const SERVER_PORT: u16 = 6443;
/// Nodes take 172.30.0.11 to 172.30.0.110.
pub const NODES_MAX: u32 = 100;

/// A node of the cluster, numbered from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeNumber(pub u32);

impl NodeNumber {
    /// The Kubernetes name of the node.
    pub fn name(self) -> String {
        format!("node-{}", self.0)
    }

    /// The node's address on the underlay.
    pub fn ip(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 30, 0, 10)) + self.0)
    }
}

/// The directory of a cluster and every name that follows from it.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
    id: String,
}

impl Layout {
    /// The layout of the cluster in `dir`, which need not exist.
    ///
    /// # Errors
    /// When the current directory is unknown and `dir` is relative.
    pub fn new(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).with_context(|| format!("resolve {}", dir.display()))?;
        let dir = dir.canonicalize().unwrap_or(dir);
        let id = format!("{:06x}", fnv1a(dir.as_os_str().as_encoded_bytes()) & 0xff_ffff);
        Ok(Self { dir, id })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Six hexadecimal digits that tell this cluster from others on the machine.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn spec(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    pub fn server_dir(&self) -> PathBuf {
        self.dir.join("server")
    }

    pub fn etcd_dir(&self) -> PathBuf {
        self.dir.join("etcd")
    }

    pub fn join_token(&self) -> PathBuf {
        self.server_dir().join("join-token")
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// What dies with the processes: pid files, sockets, pinned mount namespaces.
    pub fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub fn supervisor_lock(&self) -> PathBuf {
        self.run().join("supervisor.pid")
    }

    pub fn node_dir(&self, node: NodeNumber) -> PathBuf {
        self.dir.join(node.name())
    }

    pub fn node_run(&self, node: NodeNumber) -> PathBuf {
        self.run().join(node.name())
    }

    pub fn containerd_socket(&self, node: NodeNumber) -> PathBuf {
        self.node_run(node).join("containerd.sock")
    }

    /// The file that keeps a node's mount namespace alive.
    pub fn mount_namespace(&self, node: NodeNumber) -> PathBuf {
        self.node_run(node).join("mnt")
    }

    /// The network namespace of `role`: `switch`, `server`, `outside` or a node's name.
    pub fn netns(&self, role: &str) -> String {
        format!("xb-{}-{role}", self.id)
    }

    /// The cgroup of `role`, relative to each hierarchy's root.
    pub fn cgroup(&self, role: &str) -> String {
        format!("xebec/{}-{role}", self.id)
    }
}

/// FNV-1a: stable across versions, so that a newer binary takes down what an older one made.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
