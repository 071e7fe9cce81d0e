//! Readers over claims of devices (`k8s.io/dynamic-resource-allocation/resourceclaim`).

pub use k8s_openapi::api::resource::v1::*;

use crate::core::{Pod, PodResourceClaim};
use crate::meta::OwnerReference;
use crate::{object, pod};

/// What a pod asks for.
#[must_use]
pub fn pod_claims(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default()
}

/// The name of the claim: the pod's own word, or that of the one that was made from a template; none before it is made.
#[must_use]
pub fn claim_name<'a>(pod: &'a Pod, claim: &'a PodResourceClaim) -> Option<&'a str> {
    if let Some(name) = claim.resource_claim_name.as_deref() {
        return Some(name);
    }
    status_of(pod, claim)?.resource_claim_name.as_deref()
}

/// Whether it was decided that the pod gets no claim for this entry.
#[must_use]
pub fn is_not_needed(pod: &Pod, claim: &PodResourceClaim) -> bool {
    status_of(pod, claim).is_some_and(|status| status.resource_claim_name.is_none())
}

fn status_of<'a>(pod: &'a Pod, claim: &PodResourceClaim) -> Option<&'a crate::core::PodResourceClaimStatus> {
    let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref());
    statuses.unwrap_or_default().iter().find(|status| status.name == claim.name)
}

/// The pod that the claim was made for.
#[must_use]
pub fn owning_pod(claim: &ResourceClaim) -> Option<&OwnerReference> {
    object::controller_of(&claim.metadata).filter(|owner| owner.api_version == "v1" && owner.kind == "Pod")
}

/// Upstream's `IsForPod`.
#[must_use]
pub fn is_for_pod(claim: &ResourceClaim, pod: &Pod) -> bool {
    owning_pod(claim).is_some_and(|owner| owner.uid == object::uid(&pod.metadata))
}

#[must_use]
pub fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

/// The devices that the claim has.
#[must_use]
pub fn results(claim: &ResourceClaim) -> &[DeviceRequestAllocationResult] {
    let devices = allocation(claim).and_then(|allocation| allocation.devices.as_ref());
    devices.and_then(|devices| devices.results.as_deref()).unwrap_or_default()
}

#[must_use]
pub fn reserved_for(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default()
}

#[must_use]
pub fn is_reserved_for(claim: &ResourceClaim, pod_uid: &str) -> bool {
    reserved_for(claim).iter().any(|consumer| consumer.uid == pod_uid)
}

/// A pod as a consumer.
#[must_use]
pub fn consumer(pod: &Pod) -> ResourceClaimConsumerReference {
    ResourceClaimConsumerReference {
        api_group: None,
        resource: "pods".into(),
        name: object::name(&pod.metadata).into(),
        uid: object::uid(&pod.metadata).into(),
    }
}

#[must_use]
pub fn is_pod(consumer: &ResourceClaimConsumerReference) -> bool {
    consumer.api_group.as_deref().unwrap_or_default().is_empty() && consumer.resource == "pods"
}

/// Whether it is certain that no container of the pod runs or ever will: upstream's `isPodDone`.
#[must_use]
pub fn is_done(pod: &Pod) -> bool {
    pod::is_terminal(pod) || (pod::is_terminating(pod) && pod::node_name(pod).is_empty())
}
