//! What a claim needs next.

use std::sync::Arc;
use xebec_client::EventType;
use xebec_types::core::{Node, PersistentVolume, PersistentVolumeClaim};
use xebec_types::storage::StorageClass;
use xebec_types::volume::{self, YES, is_for, mismatch};
use xebec_types::{annotation, object};

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
    let volume = volume::wanted(claim).map(|name| volumes.iter().find(|v| object::name(&v.metadata) == name));
    if object::annotation(&claim.metadata, annotation::BIND_COMPLETED).is_some() {
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
    let waits = class.is_some_and(volume::waits_for_consumer)
        && object::annotation(&claim.metadata, annotation::SELECTED_NODE).is_none();
    if let Some(volume) = best(claim, volumes, node, waits) {
        return ClaimStep::Bind(Arc::clone(volume));
    }
    if waits {
        let message = "waiting for first consumer to be created before binding";
        return pending(Some((EventType::Normal, "WaitForFirstConsumer", message.into())));
    }
    let Some(name) = volume::class(claim) else {
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

fn is_free(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_none())
}

/// A volume that somebody meant for this claim, else the smallest that suits. `waits`: only one that is meant.
pub(super) fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    node: Option<&Node>,
    waits: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let meant = volumes.iter().find(|volume| is_for(volume, claim) && volume::suits(claim, volume));
    if meant.is_some() || waits {
        return meant;
    }
    // Where no node was chosen, every volume will do.
    let reaches = |volume: &PersistentVolume| {
        node.is_none_or(|node| {
            let labels = node.metadata.labels.as_ref();
            volume::reaches(volume, object::name(&node.metadata), |key| labels?.get(key).map(String::as_str))
        })
    };
    volume::smallest(claim, volumes.iter(), reaches)
}

/// Makes the claim name the volume; whether that changed it.
pub(super) fn take(claim: &mut PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let name = volume.metadata.name.clone();
    let spec = claim.spec.get_or_insert_default();
    let named = spec.volume_name == name;
    let annotations = claim.metadata.annotations.get_or_insert_default();
    if !named {
        spec.volume_name = name;
        annotations.insert(annotation::BOUND_BY_CONTROLLER.into(), YES.into());
    }
    annotations.insert(annotation::BIND_COMPLETED.into(), YES.into()).is_none() || !named
}
