use std::sync::Arc;

use xebec_types::core::PersistentVolume;
use xebec_types::{label, volume};

use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::framework::{Filter, Verdict};

/// Labels that say where a volume is; each pair is the old and the present spelling of one.
const LABELS: [(&str, &str); 2] = [
    ("failure-domain.beta.kubernetes.io/zone", label::TOPOLOGY_ZONE),
    ("failure-domain.beta.kubernetes.io/region", label::TOPOLOGY_REGION),
];
/// Between the zones of a volume that is in several.
const SEPARATOR: &str = "__";

/// Volumes with labels of a zone or region are used there.
pub struct VolumeZone {
    volumes: Vec<Arc<PersistentVolume>>,
}

pub fn pre_filter(pod: &PodInfo, cluster: &Cluster) -> Option<VolumeZone> {
    let volumes = &cluster.volumes;
    let bound = pod.claims.iter().filter_map(|used| volumes.volume(volume::wanted(volumes.claim(&used.key)?)?));
    let somewhere = |volume: &&Arc<PersistentVolume>| LABELS.iter().any(|pair| place(volume, *pair).is_some());
    let volumes: Vec<_> = bound.filter(somewhere).cloned().collect();
    (!volumes.is_empty()).then_some(VolumeZone { volumes })
}

impl Filter for VolumeZone {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let of_node = |(old, present): (&str, &str)| node.label(present).or_else(|| node.label(old));
        // A node without any such label is in a cluster without zones.
        if LABELS.iter().all(|pair| of_node(*pair).is_none()) {
            return Ok(());
        }
        let fits = |volume: &PersistentVolume| {
            LABELS.iter().all(|pair| {
                let Some(places) = place(volume, *pair) else { return true };
                of_node(*pair).is_some_and(|here| places.split(SEPARATOR).any(|place| place == here))
            })
        };
        if self.volumes.iter().all(|volume| fits(volume)) {
            return Ok(());
        }
        Err("node(s) had no available volume zone".into())
    }
}

fn place<'a>(volume: &'a PersistentVolume, (old, present): (&str, &str)) -> Option<&'a str> {
    let labels = volume.metadata.labels.as_ref()?;
    labels.get(present).or_else(|| labels.get(old)).map(String::as_str)
}
