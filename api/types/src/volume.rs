//! Which volume suits a claim (`component-helpers/storage/volume`).

use std::sync::Arc;

use crate::core::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use crate::storage::StorageClass;
use crate::{annotation, node, object, resource};

/// The value of the annotations that the binder writes.
pub const YES: &str = "yes";

/// The class that a claim asks for, if any.
#[must_use]
pub fn class(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotated = object::annotation(&claim.metadata, annotation::BETA_STORAGE_CLASS);
    let named = annotated.or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref());
    named.filter(|name| !name.is_empty())
}

/// Whether claims of the class wait until a pod that uses them has a node.
#[must_use]
pub fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// The volume that the claim names, bound or not.
#[must_use]
pub fn wanted(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether the binder has finished with the claim: upstream's `isPVCFullyBound`.
#[must_use]
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    wanted(claim).is_some() && object::annotation(&claim.metadata, annotation::BIND_COMPLETED).is_some()
}

/// What the claim requests, in bytes.
#[must_use]
pub fn requested(claim: &PersistentVolumeClaim) -> i64 {
    let resources = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
    let requested = resources.and_then(|r| r.requests.as_ref()).and_then(|r| r.get("storage"));
    requested.and_then(resource::value).unwrap_or(0)
}

/// Whether the volume names this claim: this one, or any of its name.
#[must_use]
pub fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else { return false };
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || uid == object::uid(&claim.metadata))
}

/// Makes the volume this claim's; whether that changed it.
pub fn refer(volume: &mut PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let uid = Some(object::uid(&claim.metadata));
    let known = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    if known.is_some_and(|r| r.uid.as_deref() == uid) {
        return false;
    }
    let by_user = known.is_some();
    volume.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        name: claim.metadata.name.clone(),
        namespace: claim.metadata.namespace.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        uid: claim.metadata.uid.clone(),
        field_path: None,
    });
    if !by_user {
        volume.metadata.annotations.get_or_insert_default().insert(annotation::BOUND_BY_CONTROLLER.into(), YES.into());
    }
    true
}

/// The smallest free volume that suits and that `reaches` lets through.
pub fn smallest<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl Iterator<Item = &'a Arc<PersistentVolume>>,
    reaches: impl Fn(&PersistentVolume) -> bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let free = |volume: &&Arc<PersistentVolume>| {
        let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
        let unclaimed = volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_none());
        unclaimed && phase == Some("Available") && suits(claim, volume) && selected(claim, volume) && reaches(volume)
    };
    volumes.filter(free).min_by_key(|volume| (capacity(volume), object::name(&volume.metadata)))
}

/// Whether the volume could be bound to the claim, were it free.
#[must_use]
pub fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    !object::is_being_deleted(&volume.metadata) && mismatch(claim, volume).is_none()
}

/// Why a volume cannot serve a claim, in upstream's words.
#[must_use]
pub fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<&'static str> {
    let (Some(wants), Some(has)) = (&claim.spec, &volume.spec) else { return Some("incomplete") };
    if capacity(volume) < requested(claim) {
        return Some("requested PV is too small");
    }
    if has.storage_class_name.as_deref().unwrap_or_default() != class(claim).unwrap_or_default() {
        return Some("storageClassName does not match");
    }
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    if mode(&wants.volume_mode) != mode(&has.volume_mode) {
        return Some("incompatible volumeMode");
    }
    let offered = has.access_modes.as_deref().unwrap_or_default();
    if !wants.access_modes.iter().flatten().all(|mode| offered.contains(mode)) {
        return Some("incompatible accessMode");
    }
    if wants.volume_attributes_class_name.as_deref().unwrap_or_default()
        != has.volume_attributes_class_name.as_deref().unwrap_or_default()
    {
        return Some("volumeAttributesClassName does not match");
    }
    None
}

fn capacity(volume: &PersistentVolume) -> i64 {
    let capacity = volume.spec.as_ref().and_then(|s| s.capacity.as_ref()).and_then(|c| c.get("storage"));
    capacity.and_then(resource::value).unwrap_or(0)
}

fn selected(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    selector.is_none_or(|selector| object::selects(selector, volume.metadata.labels.as_ref()))
}

/// Whether the volume can be used on the node that has this name and these labels.
#[must_use]
pub fn reaches<'n>(volume: &PersistentVolume, name: &'n str, label: impl Fn(&str) -> Option<&'n str>) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()).and_then(|a| a.required.as_ref());
    affinity
        .is_none_or(|required| required.node_selector_terms.iter().any(|term| node::term_selects(term, name, &label)))
}
