use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xebec_client::Key;
use xebec_types::volume;

use crate::cluster::{Cluster, NodeInfo, PodInfo, Volumes};
use crate::framework::{Filter, Verdict};

/// CSI drivers attach so many volumes to a node (`CSINode.spec.drivers[].allocatable.count`).
pub struct NodeVolumeLimits {
    volumes: Arc<Volumes>,
    /// By driver: the pod's.
    wanted: BTreeMap<String, BTreeSet<String>>,
}

pub fn pre_filter(pod: &PodInfo, cluster: &Cluster) -> Option<NodeVolumeLimits> {
    let volumes = &cluster.volumes;
    let wanted = by_driver(pod.claims.iter().map(|used| &used.key), volumes);
    (!wanted.is_empty()).then(|| NodeVolumeLimits { volumes: volumes.clone(), wanted })
}

impl Filter for NodeVolumeLimits {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let limited = |driver: &str| self.volumes.limit(node.name(), driver);
        if !self.wanted.keys().any(|driver| limited(driver).is_some()) {
            return Ok(());
        }
        let mut attached = by_driver(node.claims(), &self.volumes);
        for (driver, wanted) in &self.wanted {
            let on_node = attached.entry(driver.clone()).or_default();
            let before = on_node.len();
            on_node.extend(wanted.iter().cloned());
            // A volume that is there costs nothing more, even beyond the limit.
            if on_node.len() > before && limited(driver).is_some_and(|limit| on_node.len() > limit) {
                return Err("node(s) exceed max volume count".into());
            }
        }
        Ok(())
    }
}

/// The volumes of CSI drivers behind claims; a claim without a volume stands for the one that will be made.
fn by_driver<'a>(claims: impl Iterator<Item = &'a Key>, volumes: &Volumes) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for key in claims {
        let Some(claim) = volumes.claim(key) else { continue };
        let bound = volume::wanted(claim).and_then(|name| volumes.volume(name)).and_then(|v| v.spec.as_ref());
        let (driver, handle) = match bound {
            Some(spec) => {
                let Some(csi) = &spec.csi else { continue };
                (csi.driver.clone(), csi.volume_handle.clone())
            }
            None => {
                let Some(class) = volumes.class(claim) else { continue };
                (class.provisioner.clone(), key.to_string())
            }
        };
        all.entry(driver).or_default().insert(handle);
    }
    all
}
