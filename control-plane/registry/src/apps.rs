//! Workloads: Deployments, ReplicaSets and the revisions of others.

pub mod controller_revision;
pub mod daemon_set;
pub mod deployment;
pub mod replica_set;
pub mod stateful_set;

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::selector::LabelSelector;

use crate::errors::Errors;
use crate::meta;
use crate::names::not_negative;
use crate::pod;
use crate::strategy::Column;
use crate::value::{at, at_mut, entries, integer, is_set, items, string};

/// Defaults of `spec.template`.
pub(crate) fn default_template(object: &mut Value) {
    if let Some(spec) = at_mut(object, "spec.template.spec") {
        pod::defaults::spec(spec);
    }
}

/// `spec.selector` and `spec.template`, and that the one matches the other.
fn validate_selector_and_template(object: &Value, kind: &str, errors: &mut Errors) {
    let (spec, path) = (at(object, "spec"), Path::new("spec"));
    let (selector, selector_path) = (at(spec, "selector"), path.child("selector"));
    let is_empty = is_empty_selector(selector);
    if selector.is_null() {
        errors.required(&selector_path, "");
    } else {
        meta::label_selector(selector, &selector_path, errors);
        if is_empty {
            errors.invalid(&selector_path, selector.clone(), format!("empty selector is invalid for {kind}"));
        }
    }
    let (template, path) = (at(spec, "template"), path.child("template"));
    if template.is_null() {
        errors.required(&path, "");
        return;
    }
    match LabelSelector::from_object(selector) {
        Err(_) => errors.invalid(&selector_path, selector.clone(), "invalid label selector"),
        Ok(parsed) if !is_empty => {
            let labels = at(template, "metadata.labels");
            if !parsed.matches_object(template) {
                errors.invalid(
                    &path.child("metadata").child("labels"),
                    labels.clone(),
                    "`selector` does not match template `labels`",
                );
            }
        }
        Ok(_) => {}
    }
    pod::template(template, &path, errors);
    let policy = string(template, "spec.restartPolicy");
    if policy != "Always" {
        errors.not_supported(&path.child("spec").child("restartPolicy"), policy, &["Always"]);
    }
    if is_set(template, "spec.activeDeadlineSeconds") {
        let path = path.child("spec").child("activeDeadlineSeconds");
        errors.forbidden(&path, "activeDeadlineSeconds in ReplicaSet is not Supported");
    }
}

fn is_empty_selector(selector: &Value) -> bool {
    entries(selector, "matchLabels").next().is_none() && items(selector, "matchExpressions").is_empty()
}

/// Counts of a status that must not be negative.
pub(crate) fn status_counts(status: &Value, counts: &[&str], errors: &mut Errors) {
    for field in counts {
        not_negative(status, field, &Path::new("status"), errors);
    }
}

/// A count that cannot exceed another: `(which, at most, as upstream calls that)`.
pub(crate) fn status_order(status: &Value, pairs: &[(&str, &str, &str)], errors: &mut Errors) {
    let count = |field| integer(status, field).unwrap_or(0);
    for (field, most, name) in pairs {
        if count(field) > count(most) {
            let path = Path::new("status").child(field);
            errors.invalid(&path, count(field), format!("cannot be greater than {name}"));
        }
    }
}

/// `ValidateReplicaSetStatus`, which is `ValidateReplicationControllerStatus` too.
pub(crate) fn replica_status(object: &Value, errors: &mut Errors) {
    let status = at(object, "status");
    let counts = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
    status_counts(status, &counts, errors);
    let all = "status.replicas";
    let pairs = [
        ("fullyLabeledReplicas", "replicas", all),
        ("readyReplicas", "replicas", all),
        ("availableReplicas", "replicas", all),
        ("availableReplicas", "readyReplicas", "readyReplicas"),
    ];
    status_order(status, &pairs, errors);
}

/// `IsDecremented`, for the count of name collisions.
fn collision_count(new: &Value, old: &Value, errors: &mut Errors) {
    let count = |object| integer(object, "status.collisionCount");
    if count(old).is_some_and(|before| count(new).is_none_or(|after| after < before)) {
        let path = Path::new("status").child("collisionCount");
        errors.invalid(&path, count(new).unwrap_or(0), "cannot be decremented");
    }
}

/// Whether a workload's template leaves its warnings to be told: only on create, or when it changed.
pub(crate) fn template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let template = at(new, "spec.template");
    if old.is_some_and(|old| at(old, "spec.template") == template) {
        return Vec::new();
    }
    pod::template_warnings(template, &Path::new("spec").child("template"))
}

/// The cells Containers, Images and Selector.
pub(crate) fn container_cells(object: &Value) -> [Value; 3] {
    let [names, images] = layout(at(object, "spec.template"));
    [names, images, json!(meta::format_selector(at(object, "spec.selector")))]
}

/// Names and images of a template's containers (`layoutContainerCells`).
pub(crate) fn layout(template: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| {
        let containers = items(template, "spec.containers").iter();
        json!(containers.map(|container| string(container, field)).collect::<Vec<_>>().join(","))
    })
}

/// The columns that go with [`container_cells`].
pub(crate) const CONTAINERS: Column = Column::wide("Containers", "The names of the containers in the template.");
pub(crate) const IMAGES: Column = Column::wide("Images", "The images of the containers in the template.");
pub(crate) const SELECTOR: Column = Column::wide("Selector", "The labels of the pods.");

#[cfg(test)]
mod tests;
