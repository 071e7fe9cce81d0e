//! What a volume needs next.

use xebec_client::EventType;
use xebec_types::core::{PersistentVolume, PersistentVolumeClaim};
use xebec_types::{annotation, object};

#[derive(PartialEq, Debug)]
pub enum VolumeStep {
    Phase {
        phase: &'static str,
        message: String,
        event: Option<(EventType, &'static str)>,
    },
    /// Its claim took another volume.
    Unbind,
    /// The claim has the next word.
    Wait,
}

#[must_use]
pub fn step(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let phase = |phase| VolumeStep::Phase { phase, message: String::new(), event: None };
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else { return phase("Available") };
    let uid = reference.uid.as_deref().unwrap_or_default();
    if uid.is_empty() {
        return phase("Available");
    }
    let Some(claim) = claim.filter(|claim| object::uid(&claim.metadata) == uid) else { return released(volume) };
    match claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default() {
        "" => VolumeStep::Wait,
        name if name == object::name(&volume.metadata) => phase("Bound"),
        _ if object::annotation(&volume.metadata, annotation::BOUND_BY_CONTROLLER).is_some() => VolumeStep::Unbind,
        _ => VolumeStep::Wait,
    }
}

/// Its claim is gone. Nothing here can reach the data: what should be deleted is left to the provisioner that made it.
fn released(volume: &PersistentVolume) -> VolumeStep {
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain");
    let of_provisioner = object::annotation(&volume.metadata, annotation::PROVISIONED_BY).is_some();
    let failed = |reason, message: &str| VolumeStep::Phase {
        phase: "Failed",
        message: message.to_owned(),
        event: Some((EventType::Warning, reason)),
    };
    match (phase, policy) {
        (Some("Released" | "Failed"), "Delete") if !of_provisioner => {
            let name = object::name(&volume.metadata);
            let message = format!("error getting deleter volume plugin for volume {name:?}: no volume plugin matched");
            failed("VolumeFailedDelete", &message)
        }
        (Some("Released" | "Failed"), "Recycle") => {
            failed("VolumeFailedRecycle", "no recyclable volume plugin matched")
        }
        _ => VolumeStep::Phase { phase: "Released", message: String::new(), event: None },
    }
}

/// The volume without its claim; what its owner wrote stays.
pub(super) fn unbound(volume: &PersistentVolume) -> PersistentVolume {
    let mut volume = volume.clone();
    if let Some(annotations) = &mut volume.metadata.annotations {
        annotations.remove(annotation::BOUND_BY_CONTROLLER);
    }
    if let Some(spec) = &mut volume.spec {
        spec.claim_ref = None;
    }
    volume
}
