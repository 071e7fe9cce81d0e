use xebec_client::Key;

use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::framework::{Filter, Verdict};

/// A claim with `ReadWriteOncePod` serves one pod.
pub struct VolumeRestrictions {
    /// How many pods use such claims of this pod, on all nodes. Preemption takes them off one at a time.
    users: u32,
}

pub fn pre_filter(pod: &PodInfo, cluster: &Cluster) -> Option<VolumeRestrictions> {
    let once = |key: &&Key| {
        let modes = cluster.volumes.claim(key)?.spec.as_ref()?.access_modes.as_ref()?;
        modes.iter().any(|mode| mode == "ReadWriteOncePod").then_some(())
    };
    let claims: Vec<&Key> = pod.claims.iter().map(|used| &used.key).filter(|key| once(key).is_some()).collect();
    let nodes = || cluster.nodes().iter().map(|index| cluster.node(*index));
    let users = claims.iter().flat_map(|key| nodes().map(move |node| node.users(key))).sum();
    (!claims.is_empty()).then_some(VolumeRestrictions { users })
}

impl Filter for VolumeRestrictions {
    fn filter(&self, _: &NodeInfo) -> Verdict {
        if self.users == 0 {
            return Ok(());
        }
        Err("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode".into())
    }
}
