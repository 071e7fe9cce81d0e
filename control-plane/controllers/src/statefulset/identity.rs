//! What a member of a StatefulSet is called, and what is made for it.

use crate::control;
use crate::statefulset::retention;
use std::collections::BTreeMap;
use xebec_types::apps::StatefulSet;
use xebec_types::core::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use xebec_types::{ObjectMeta, label, object};

/// The ordinal of a pod that is called as a member of the set is.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, ordinal) = object::name(&pod.metadata).rsplit_once('-')?;
    let is_number = !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit());
    (is_number && parent == object::name(&set.metadata)).then(|| ordinal.parse().ok())?
}

pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", object::name(&set.metadata))
}

pub(super) fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", object::name(&template.metadata), object::name(&set.metadata))
}

pub(super) fn claim_templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|s| s.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// The labels that name a member; `kubectl` and Services select by them.
pub(super) fn labels(set: &StatefulSet, ordinal: i32) -> [(String, String); 2] {
    [(label::STATEFULSET_POD_NAME.into(), pod_name(set, ordinal)), (label::POD_INDEX.into(), ordinal.to_string())]
}

pub(super) fn is_identified(set: &StatefulSet, ordinal: i32, pod: &Pod) -> bool {
    labels(set, ordinal).iter().all(|(key, value)| object::label(&pod.metadata, key) == Some(value))
}

/// The revision that a pod was made from.
pub(super) fn revision(pod: &Pod) -> &str {
    object::label(&pod.metadata, label::CONTROLLER_REVISION_HASH).unwrap_or_default()
}

/// The pod with this ordinal.
pub(super) fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = control::pod_from_template(template, object::name(&set.metadata), control::controller_ref(set));
    let name = pod_name(set, ordinal);
    let labels_of = pod.metadata.labels.get_or_insert_default();
    labels_of.extend(labels(set, ordinal));
    labels_of.insert(label::CONTROLLER_REVISION_HASH.into(), revision.into());
    pod.metadata.name = Some(name.clone());
    pod.metadata.namespace = set.metadata.namespace.clone();
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|s| s.service_name.clone()).filter(|s| !s.is_empty());
    let templates = claim_templates(set);
    let claimed = |name: &str| templates.iter().any(|t| object::name(&t.metadata) == name);
    let mut volumes: Vec<Volume> = templates.iter().map(|template| volume(set, template, ordinal)).collect();
    // A template's volume of the same name gives way to the claim.
    volumes.extend(spec.volumes.take().into_iter().flatten().filter(|v| !claimed(&v.name)));
    spec.volumes = Some(volumes).filter(|v| !v.is_empty());
    pod
}

/// The claims that the pod with this ordinal needs.
pub(super) fn new_claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let matching = set.spec.as_ref().and_then(|s| s.selector.match_labels.clone()).unwrap_or_default();
    let claim = |template: &PersistentVolumeClaim| {
        let mut labels: BTreeMap<_, _> = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(matching.clone());
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim_name(set, template, ordinal)),
                namespace: set.metadata.namespace.clone(),
                labels: Some(labels).filter(|l| !l.is_empty()),
                annotations: template.metadata.annotations.clone(),
                owner_references: retention::first_owners(set),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    };
    claim_templates(set).iter().map(claim).collect()
}

fn volume(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> Volume {
    Volume {
        name: object::name(&template.metadata).into(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, template, ordinal),
            read_only: None,
        }),
        ..Volume::default()
    }
}
