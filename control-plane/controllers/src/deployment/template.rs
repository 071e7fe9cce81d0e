//! From a pod template to a ReplicaSet, and back.

use crate::control;
use crate::deployment::view::View;
use std::collections::BTreeMap;
use xebec_types::apps::{Deployment, ReplicaSet, ReplicaSetSpec};
use xebec_types::core::PodTemplateSpec;
use xebec_types::{ObjectMeta, annotation, label, object};

/// Annotations of a Deployment that mean nothing on its ReplicaSets.
const NOT_COPIED: [&str; 6] = [
    annotation::LAST_APPLIED,
    annotation::REVISION,
    annotation::REVISION_HISTORY,
    annotation::DESIRED_REPLICAS,
    annotation::MAX_REPLICAS,
    annotation::DEPRECATED_ROLLBACK_TO,
];

/// Whether the set runs the Deployment's template.
pub(super) fn is_current(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let theirs = set.spec.as_ref().and_then(|s| s.template.as_ref());
    match (&deployment.spec, theirs) {
        (Some(spec), Some(theirs)) => without_hash(&spec.template) == without_hash(theirs),
        _ => false,
    }
}

/// The value of `pod-template-hash`. Collisions raise `collision_count`.
pub(super) fn hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    control::hash::encoded(&serde_json::to_vec(template).unwrap_or_default(), collision_count)
}

/// The set for the current template, with no replicas yet.
pub(super) fn new_set(view: &View<'_>, revision: i64) -> ReplicaSet {
    let deployment = view.deployment;
    let spec = view.spec();
    let collision_count = deployment.status.as_ref().and_then(|s| s.collision_count);
    let hash = hash(&spec.template, collision_count);
    let mut template = spec.template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().insert(label::POD_TEMPLATE_HASH.into(), hash.clone());
    let labels = meta.labels.clone();
    let mut selector = spec.selector.clone();
    let match_labels = selector.match_labels.get_or_insert_default();
    match_labels.insert(label::POD_TEMPLATE_HASH.into(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", object::name(&deployment.metadata))),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(annotations(view, BTreeMap::new(), revision)),
            owner_references: Some(vec![control::controller_ref(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// What the new set's annotations should be: the Deployment's, its revision, and the numbers that
/// proportional scaling needs. A set that becomes current again remembers its former revisions.
pub(super) fn annotations(
    view: &View<'_>,
    mut known: BTreeMap<String, String>,
    revision: i64,
) -> BTreeMap<String, String> {
    let ours = view.deployment.metadata.annotations.iter().flatten();
    let copied = ours.filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()));
    known.extend(copied.map(|(k, v)| (k.clone(), v.clone())));
    let before = known.get(annotation::REVISION).cloned().unwrap_or_default();
    if before.parse::<i64>().unwrap_or_default() < revision {
        if !before.is_empty() {
            let history = known.get(annotation::REVISION_HISTORY).filter(|h| !h.is_empty());
            let history = history.map_or(before.clone(), |h| format!("{h},{before}"));
            known.insert(annotation::REVISION_HISTORY.into(), history);
        }
        known.insert(annotation::REVISION.into(), revision.to_string());
    }
    known.extend(scale_annotations(view));
    known
}

pub(super) fn scale_annotations(view: &View<'_>) -> [(String, String); 2] {
    [
        (annotation::DESIRED_REPLICAS.into(), view.replicas().to_string()),
        (annotation::MAX_REPLICAS.into(), (view.replicas() + view.max_surge()).to_string()),
    ]
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(label::POD_TEMPLATE_HASH);
    }
    meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
    // The server may store `creationTimestamp: null` on one and not on the other.
    meta.creation_timestamp = None;
    template
}
