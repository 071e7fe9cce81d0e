//! What a pod's claims need (`syncPod`).

use std::sync::Arc;
use xebec_types::core::Pod;
use xebec_types::device::{self, ResourceClaim};
use xebec_types::{annotation, object, pod};

/// What leaves room for five random characters in a name of 63.
const BASE_BYTES_MAX: usize = 57;
const CONSUMERS_MAX: usize = 256;

#[derive(Default, Debug)]
pub struct PodStep {
    /// Claims to make: their names in the pod, and their templates.
    pub make: Vec<(String, String)>,
    /// Claims that were made and that the pod was not told of: their names in the pod, and their own.
    pub found: Vec<(String, String)>,
    /// Allocated claims of a pod that somebody else than the scheduler has put on its node.
    pub reserve: Vec<Arc<ResourceClaim>>,
}

/// `owned`: claims that were made for the pod.
#[must_use]
pub fn step(pod: &Pod, owned: &[Arc<ResourceClaim>], claim: impl Fn(&str) -> Option<Arc<ResourceClaim>>) -> PodStep {
    let mut step = PodStep::default();
    if pod::is_terminating(pod) || device::is_done(pod) {
        return step;
    }
    for wanted in device::pod_claims(pod) {
        let known = device::claim_name(pod, wanted).and_then(&claim).filter(|known| is_usable(pod, wanted, known));
        match (known, &wanted.resource_claim_template_name) {
            (Some(known), _) => {
                let placed = !pod::node_name(pod).is_empty() && device::allocation(&known).is_some();
                let reserved = device::is_reserved_for(&known, object::uid(&pod.metadata));
                if placed && !reserved && device::reserved_for(&known).len() < CONSUMERS_MAX {
                    step.reserve.push(known);
                }
            }
            // Whoever uses a claim by its name makes it.
            (None, None) => {}
            (None, Some(_)) if device::is_not_needed(pod, wanted) => {}
            (None, Some(template)) => {
                let made = owned.iter().find(|claim| {
                    let of = object::annotation(&claim.metadata, annotation::POD_CLAIM_NAME);
                    of == Some(&wanted.name) && !object::is_being_deleted(&claim.metadata)
                });
                match made {
                    Some(made) => step.found.push((wanted.name.clone(), object::name(&made.metadata).to_owned())),
                    None => step.make.push((wanted.name.clone(), template.clone())),
                }
            }
        }
    }
    step
}

/// A claim that was made for another pod is none for this one.
fn is_usable(pod: &Pod, wanted: &xebec_types::core::PodResourceClaim, claim: &ResourceClaim) -> bool {
    wanted.resource_claim_template_name.is_none() || device::is_for_pod(claim, pod)
}

/// What the name of a claim begins with. Both parts are shortened where they are too long together, so that the end still tells.
#[must_use]
pub fn base_name(pod: &str, claim: &str) -> String {
    let length = pod.len() + claim.len() + 2;
    if length <= BASE_BYTES_MAX {
        return format!("{pod}-{claim}-");
    }
    let part = |text: &str| text[..text.len() * BASE_BYTES_MAX / length].to_owned();
    format!("{}-{}", part(pod), part(claim))
}

#[cfg(test)]
mod tests;
