use std::sync::Arc;

use xebec_client::Key;
use xebec_types::core::{PersistentVolume, PersistentVolumeClaim};
use xebec_types::storage::StorageClass;
use xebec_types::{object, volume};

use crate::cluster::{Cluster, NodeInfo, Plan, PodInfo, Volumes};
use crate::framework::{Filter, Reason, Rejection, Verdict};

/// A class of this provisioner has only volumes that somebody made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Volumes that the pod's claims have, and those that they could get on a node.
pub struct VolumeBinding {
    /// None: the volume does not exist.
    bound: Vec<Option<Arc<PersistentVolume>>>,
    /// Claims that wait for a node, small requests first.
    waiting: Vec<Waiting>,
}

struct Waiting {
    key: Key,
    claim: Arc<PersistentVolumeClaim>,
    class: Arc<StorageClass>,
    /// The node for which its volume is being made.
    selected_node: Option<String>,
    meant: Option<Arc<PersistentVolume>>,
    candidates: Vec<Arc<PersistentVolume>>,
}

/// An error rules out every node.
pub fn pre_filter(pod: &PodInfo, cluster: &Cluster) -> Result<Option<VolumeBinding>, Reason> {
    if pod.claims.is_empty() {
        return Ok(None);
    }
    let volumes = &cluster.volumes;
    let mut state = VolumeBinding { bound: Vec::new(), waiting: Vec::new() };
    for used in &pod.claims {
        let name = &used.key.name;
        let Some(claim) = volumes.claim(&used.key) else {
            let text = if used.ephemeral {
                format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
            } else {
                format!("persistentvolumeclaim {name:?} not found")
            };
            return Err(Reason(text.into()));
        };
        if used.ephemeral && !object::is_controlled_by(&claim.metadata, &pod.uid) {
            let text = format!("PVC {} was not created for pod {} (pod is not owner)", used.key, pod.full_name());
            return Err(Reason(text.into()));
        }
        let wanted = volume::wanted(claim);
        if claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost") {
            let volume = wanted.unwrap_or_default();
            let text = format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}");
            return Err(Reason(text.into()));
        }
        if object::is_being_deleted(&claim.metadata) {
            return Err(Reason(format!("persistentvolumeclaim {name:?} is being deleted").into()));
        }
        match (wanted, volumes.class(claim).filter(|class| volume::waits_for_consumer(class))) {
            (Some(volume), _) if volume::is_bound(claim) => state.bound.push(volumes.volume(volume).cloned()),
            (None, Some(class)) => state.waiting.push(Waiting::new(&used.key, claim, class, volumes)),
            _ => return Err("pod has unbound immediate PersistentVolumeClaims".into()),
        }
    }
    state.waiting.sort_by_key(|waiting| volume::requested(&waiting.claim));
    Ok(Some(state))
}

impl Waiting {
    fn new(key: &Key, claim: &Arc<PersistentVolumeClaim>, class: &Arc<StorageClass>, volumes: &Volumes) -> Self {
        // What suits does not depend on the node: only what is left is asked for each.
        let candidates = volumes.free().filter(|v| volume::smallest(claim, std::iter::once(*v), |_| true).is_some());
        Self {
            key: key.clone(),
            claim: claim.clone(),
            class: class.clone(),
            selected_node: volumes.selected_node(key, claim).map(str::to_owned),
            meant: volumes.meant(key, claim).cloned(),
            candidates: candidates.cloned().collect(),
        }
    }

    /// Whether the class makes volumes that the node can use.
    fn can_be_provisioned(&self, node: &NodeInfo) -> bool {
        let terms = self.class.allowed_topologies.as_deref().unwrap_or_default();
        let allowed = terms.is_empty()
            || terms.iter().any(|term| {
                let mut expressions = term.match_label_expressions.iter().flatten();
                expressions.all(|e| node.label(&e.key).is_some_and(|label| e.values.iter().any(|v| v == label)))
            });
        !["", NO_PROVISIONER].contains(&self.class.provisioner.as_str()) && allowed
    }
}

impl VolumeBinding {
    /// What binding to this node takes; None if volumes are missing there.
    pub fn plan(&self, node: &NodeInfo) -> Option<Plan> {
        let mut plan = Plan { node: node.name().clone(), bindings: Vec::new(), provisions: Vec::new() };
        for waiting in &self.waiting {
            if let Some(selected) = &waiting.selected_node {
                if **selected != **node.name() {
                    return None;
                }
                plan.provisions.push(waiting.key.clone());
                continue;
            }
            let chosen = |volume: &PersistentVolume| {
                plan.bindings.iter().any(|(_, name)| name == object::name(&volume.metadata))
            };
            let reaches = |v: &PersistentVolume| reaches(v, node) && !chosen(v);
            let found = match &waiting.meant {
                Some(meant) => Some(meant).filter(|meant| reaches(meant)),
                None => volume::smallest(&waiting.claim, waiting.candidates.iter(), reaches),
            };
            match found.map(|volume| object::name(&volume.metadata).to_owned()) {
                Some(name) => plan.bindings.push((waiting.key.clone(), name)),
                None if waiting.can_be_provisioned(node) => plan.provisions.push(waiting.key.clone()),
                None => return None,
            }
        }
        Some(plan)
    }
}

impl Filter for VolumeBinding {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let mut reasons: Vec<Reason> = Vec::new();
        if self.bound.iter().any(Option::is_none) {
            reasons.push("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)".into());
        }
        if !self.bound.iter().flatten().all(|volume| reaches(volume, node)) {
            reasons.push("node(s) didn't match PersistentVolume's node affinity".into());
        }
        if self.plan(node).is_none() {
            reasons.push("node(s) didn't find available persistent volumes to bind".into());
        }
        if reasons.is_empty() { Ok(()) } else { Err(Rejection { reasons }) }
    }
}

fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    volume::reaches(volume, node.name(), |key| node.label(key))
}
