//! Dynamic resource allocation (`resource.k8s.io`, KEP-4381): what its kinds may say, which devices a selector means, and which devices a claim gets.
//!
//! Pure: JSON in, JSON and errors out. The API server asks for the [`strategy`] of a kind, the scheduler for an allocation. Facts are those of Kubernetes
//! 1.36: `pkg/apis/resource/validation`, `pkg/registry/resource`, `k8s.io/dynamic-resource-allocation`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin_access;
pub mod allocator;
pub mod limits;
pub mod selector;

mod device_class;
mod gate;
mod name;
mod request;
mod resource_claim;
mod resource_claim_template;
mod resource_slice;
mod set;
mod taint;

use xebec_machinery::GroupResource;
use xebec_registry::Strategy;

pub const GROUP: &str = "resource.k8s.io";

/// The strategy of a resource of the group; none for other groups.
pub fn strategy(resource: &GroupResource) -> Option<&'static dyn Strategy> {
    match (&*resource.group, &*resource.resource) {
        (GROUP, "deviceclasses") => Some(&device_class::DeviceClass),
        (GROUP, "resourceclaims") => Some(&resource_claim::ResourceClaim),
        (GROUP, "resourceclaimtemplates") => Some(&resource_claim_template::ResourceClaimTemplate),
        (GROUP, "resourceslices") => Some(&resource_slice::ResourceSlice),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
