//! Which volume suits a claim (`component-helpers/storage/volume`).

use super::claim;
use std::sync::Arc;
use xebec_types::core::{Node, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim};
use xebec_types::{LabelSelector, LabelSelectorRequirement, object, resource};

/// The smallest volume that suits, before all one that somebody meant for this claim. `waits`: only such a one.
pub fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    node: Option<&Node>,
    waits: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let suits = |volume: &&Arc<PersistentVolume>| {
        !object::is_being_deleted(&volume.metadata) && mismatch(claim, volume).is_none()
    };
    let meant = volumes.iter().find(|volume| claim::is_for(volume, claim) && suits(volume));
    if meant.is_some() || waits {
        return meant;
    }
    let free = |volume: &&Arc<PersistentVolume>| {
        let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
        let unclaimed = volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_none());
        unclaimed && phase == Some("Available") && selected(claim, volume) && reaches(volume, node)
    };
    let size = |volume: &&Arc<PersistentVolume>| (capacity(volume), object::name(&volume.metadata).to_owned());
    volumes.iter().filter(free).filter(suits).min_by_key(size)
}

/// Why a volume cannot serve a claim, in upstream's words.
pub fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<&'static str> {
    let (Some(wants), Some(has)) = (&claim.spec, &volume.spec) else { return Some("incomplete") };
    let requested = wants.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|r| r.get("storage"));
    if capacity(volume) < requested.and_then(resource::value).unwrap_or(0) {
        return Some("requested PV is too small");
    }
    if has.storage_class_name.as_deref().unwrap_or_default() != claim::class(claim).unwrap_or_default() {
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

/// Whether the volume can be used on the node that was chosen, if one was.
fn reaches(volume: &PersistentVolume, node: Option<&Node>) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()).and_then(|a| a.required.as_ref());
    let (Some(required), Some(node)) = (affinity, node) else { return true };
    required.node_selector_terms.iter().any(|term| term_matches(term, node))
}

fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let requirement = |r: &NodeSelectorRequirement| LabelSelectorRequirement {
        key: r.key.clone(),
        operator: r.operator.clone(),
        values: r.values.clone(),
    };
    let selector = LabelSelector {
        match_expressions: Some(expressions.iter().map(requirement).collect()),
        ..LabelSelector::default()
    };
    !expressions.is_empty() && object::selects(&selector, node.metadata.labels.as_ref())
}
