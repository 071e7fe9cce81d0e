//! What becomes of a claim when those who used it are done (`syncClaim`).

use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use xebec_types::core::Pod;
use xebec_types::device::{self, ResourceClaim};
use xebec_types::{finalizer, object};

#[derive(Default, PartialEq, Debug)]
pub struct ClaimStep {
    /// A merge patch of the status.
    pub status: Option<Value>,
    /// What the claim has after that.
    pub finalizers: Option<Vec<String>>,
    /// It was made for a pod that needs it no longer.
    pub delete: bool,
}

/// `gone`: uids of consumers that do not exist.
#[must_use]
pub fn step(claim: &ResourceClaim, gone: &HashSet<String>, pod: impl Fn(&str) -> Option<Arc<Pod>>) -> ClaimStep {
    let mut step = ClaimStep::default();
    let before = device::reserved_for(claim);
    let keeps = |consumer: &&device::ResourceClaimConsumerReference| {
        let replaced = |pod: Arc<Pod>| object::uid(&pod.metadata) != consumer.uid || device::is_done(&pod);
        !device::is_pod(consumer) || (!gone.contains(&consumer.uid) && !pod(&consumer.name).is_some_and(replaced))
    };
    let valid: Vec<_> = before.iter().filter(keeps).collect();
    let deleted = object::is_being_deleted(&claim.metadata);
    let protected = object::has_finalizer(&claim.metadata, finalizer::DELETE_PROTECTION);
    let mut allocated = device::allocation(claim).is_some();
    if valid.len() < before.len() {
        let mut status = json!({"reservedFor": valid});
        if valid.is_empty() {
            status["reservedFor"] = Value::Null;
            // The next consumer may then get devices elsewhere, and others these.
            if protected {
                status["allocation"] = Value::Null;
                allocated = false;
            }
        }
        step.status = Some(status);
    } else if deleted && protected && valid.is_empty() && allocated {
        step.status = Some(json!({"allocation": null}));
        allocated = false;
    }
    let may_let_go = deleted || step.status.is_some();
    if protected && may_let_go && valid.is_empty() && !allocated {
        let kept = claim.metadata.finalizers.iter().flatten().filter(|f| *f != finalizer::DELETE_PROTECTION);
        step.finalizers = Some(kept.cloned().collect());
    }
    if valid.is_empty() && !deleted {
        let owner = device::owning_pod(claim).and_then(|owner| Some((owner, pod(&owner.name)?)));
        step.delete =
            owner.is_some_and(|(owner, pod)| object::uid(&pod.metadata) != owner.uid || device::is_done(&pod));
    }
    step
}

#[cfg(test)]
mod tests;
