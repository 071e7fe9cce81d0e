//! What an agent leaves on its host, for the host that leaves the cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::migration::REHEARSAL;

pub use crate::canary::LEAF as CANARY_CGROUP;
pub use crate::dns::end as end_dns;
pub use crate::plugin::uninstall as uninstall_plugin;
pub use xebec_kubelet::reset::Ended;

/// In an agent's data directory.
pub const DATA: [&str; 6] = ["kubelet", "podnet", "pki", "pod-cidr", "dns.json", "dns.log"];
/// In an agent's run directory, besides the file that it locks.
pub const RUN: [&str; 4] = ["cni.sock", "dns.pid", "status.json", REHEARSAL];
/// The file in its run directory that an agent locks while it runs.
pub const LOCK: &str = "agent.pid";

/// As [`xebec_kubelet::reset::remove_pods`], with containerd at `endpoint`, of the node with the cgroup `cgroup_root`.
///
/// # Errors
/// When containerd does not answer.
pub async fn remove_pods(endpoint: PathBuf, cgroup_root: &Path, grace: Duration) -> xebec_cri::Result<Vec<Ended>> {
    let runtime = xebec_kubelet::runtime::Containerd::new(endpoint, PathBuf::new());
    xebec_kubelet::reset::remove_pods(&*runtime, &cgroup_root.join("kubepods"), grace).await
}
