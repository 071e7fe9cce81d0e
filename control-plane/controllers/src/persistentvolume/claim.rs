//! What a claim needs next.

use super::{BIND_COMPLETED, BOUND_BY_CONTROLLER, SELECTED_NODE, YES, best, mismatch};
use std::sync::Arc;
use xebec_client::EventType;
use xebec_types::core::{Node, ObjectReference, PersistentVolume, PersistentVolumeClaim};
use xebec_types::object;
use xebec_types::storage::StorageClass;

type Event = (EventType, &'static str, String);

#[derive(Debug)]
pub enum ClaimStep {
    Bind(Arc<PersistentVolume>),
    Phase {
        phase: &'static str,
        event: Option<Event>,
    },
    /// Somebody outside makes the volume.
    Provision {
        provisioner: String,
        message: String,
    },
}

#[must_use]
pub fn step(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    class: Option<&StorageClass>,
    node: Option<&Node>,
) -> ClaimStep {
    let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).filter(|name| !name.is_empty());
    let volume = name.map(|name| volumes.iter().find(|v| object::name(&v.metadata) == name));
    if object::annotation(&claim.metadata, BIND_COMPLETED).is_some() {
        return bound(claim, volume);
    }
    match volume {
        None => unbound(claim, volumes, class, node),
        Some(None) => pending(None),
        Some(Some(volume)) => wanted(claim, volume),
    }
}

fn pending(event: Option<Event>) -> ClaimStep {
    ClaimStep::Phase { phase: "Pending", event }
}

/// It had a volume once.
fn bound(claim: &PersistentVolumeClaim, volume: Option<Option<&Arc<PersistentVolume>>>) -> ClaimStep {
    let lost = |reason, message: &str| ClaimStep::Phase {
        phase: "Lost",
        event: Some((EventType::Warning, reason, message.to_owned())),
    };
    match volume {
        None => lost("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"),
        Some(None) => lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
        Some(Some(volume)) if is_free(volume) || is_for(volume, claim) => ClaimStep::Bind(Arc::clone(volume)),
        Some(Some(_)) => {
            lost("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
        }
    }
}

/// It asks for a certain volume.
fn wanted(claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> ClaimStep {
    let name = object::name(&volume.metadata);
    if !is_free(volume) && !is_for(volume, claim) {
        let message = format!("volume {name:?} already bound to a different claim.");
        return pending(Some((EventType::Warning, "FailedBinding", message)));
    }
    match mismatch(claim, volume) {
        None => ClaimStep::Bind(Arc::clone(volume)),
        Some(why) => {
            let message = format!("Cannot bind to requested volume {name:?}: {why}");
            pending(Some((EventType::Warning, "VolumeMismatch", message)))
        }
    }
}

/// It takes any volume that suits.
fn unbound(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    class: Option<&StorageClass>,
    node: Option<&Node>,
) -> ClaimStep {
    let mode = class.and_then(|c| c.volume_binding_mode.as_deref());
    let waits = mode == Some("WaitForFirstConsumer") && object::annotation(&claim.metadata, SELECTED_NODE).is_none();
    if let Some(volume) = best(claim, volumes, node, waits) {
        return ClaimStep::Bind(Arc::clone(volume));
    }
    if waits {
        let message = "waiting for first consumer to be created before binding";
        return pending(Some((EventType::Normal, "WaitForFirstConsumer", message.into())));
    }
    let Some(name) = self::class(claim) else {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return pending(Some((EventType::Normal, "FailedBinding", message.into())));
    };
    let Some(class) = class else {
        let message = format!("storageclass.storage.k8s.io {name:?} not found");
        return pending(Some((EventType::Warning, "ProvisioningFailed", message)));
    };
    let provisioner = class.provisioner.clone();
    if provisioner.starts_with("kubernetes.io/") {
        let message = format!("no volume plugin matched name: {provisioner}");
        return pending(Some((EventType::Warning, "ProvisioningFailed", message)));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    ClaimStep::Provision { provisioner, message }
}

/// The claim's class; `None` if it wants none.
pub(super) fn class(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotated = object::annotation(&claim.metadata, "volume.beta.kubernetes.io/storage-class");
    let named = annotated.or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref());
    named.filter(|name| !name.is_empty())
}

fn is_free(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_none())
}

/// Whether the volume names this claim: this one, or any of its name.
pub(super) fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else { return false };
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || uid == object::uid(&claim.metadata))
}

/// Makes the volume this claim's; whether that changed it.
pub(super) fn refer(volume: &mut PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
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
        volume.metadata.annotations.get_or_insert_default().insert(BOUND_BY_CONTROLLER.into(), YES.into());
    }
    true
}

/// Makes the claim name the volume; whether that changed it.
pub(super) fn take(claim: &mut PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let name = volume.metadata.name.clone();
    let spec = claim.spec.get_or_insert_default();
    let named = spec.volume_name == name;
    let annotations = claim.metadata.annotations.get_or_insert_default();
    if !named {
        spec.volume_name = name;
        annotations.insert(BOUND_BY_CONTROLLER.into(), YES.into());
    }
    annotations.insert(BIND_COMPLETED.into(), YES.into()).is_none() || !named
}
