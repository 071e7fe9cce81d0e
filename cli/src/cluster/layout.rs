//! Where everything of one cluster is, and what it is called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The underlay of every cluster: it lives in namespaces of its own, so clusters do not meet.
pub const SERVER: Host = Host(2);
pub const OUTSIDE: Host = Host(200);
/// Prefix lengths of IPv4 and IPv6.
pub const UNDERLAY_PREFIXES: (u8, u8) = (24, 64);
/// The API server's port on the underlay.
pub const SERVER_PORT: u16 = 6443;
/// Nodes take 172.30.0.11 to 172.30.0.110, and the same numbers of fd00:172:30::/64.
pub const NODES_MAX: u32 = 100;

/// A place on the underlay, by the last part of its addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host(u8);

impl Host {
    pub fn ipv4(self) -> IpAddr {
        Ipv4Addr::new(172, 30, 0, self.0).into()
    }

    /// The last part reads as in the IPv4 address: fd00:172:30::11 is 172.30.0.11's twin.
    pub fn ipv6(self) -> IpAddr {
        let digits = |n: u16| ((n / 100) << 8) | ((n / 10 % 10) << 4) | (n % 10);
        Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, digits(u16::from(self.0))).into()
    }
}

/// A node of the cluster, numbered from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeNumber(pub u32);

impl NodeNumber {
    /// The Kubernetes name of the node.
    pub fn name(self) -> String {
        format!("node-{}", self.0)
    }

    pub fn host(self) -> Host {
        // There are at most [`NODES_MAX`].
        Host(u8::try_from(self.0).unwrap_or(u8::MAX).saturating_add(10))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_twin_addresses() {
        let check = |host: Host, ipv4: &str, ipv6: &str| {
            assert_eq!((host.ipv4().to_string(), host.ipv6().to_string()), (ipv4.to_owned(), ipv6.to_owned()));
        };
        check(SERVER, "172.30.0.2", "fd00:172:30::2");
        check(OUTSIDE, "172.30.0.200", "fd00:172:30::200");
        check(NodeNumber(1).host(), "172.30.0.11", "fd00:172:30::11");
        check(NodeNumber(NODES_MAX).host(), "172.30.0.110", "fd00:172:30::110");
    }
}
