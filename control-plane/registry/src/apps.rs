//! Workloads: Deployments, ReplicaSets and the revisions of others.

pub mod controller_revision;
pub mod deployment;
pub mod replica_set;

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::selector::LabelSelector;

use crate::errors::Errors;
use crate::meta;
use crate::pod;
use crate::value::{at, at_mut, entries, is_set, items, string};

/// Defaults of `spec.template`.
fn default_template(object: &mut Value) {
    if let Some(spec) = at_mut(object, "spec.template.spec") {
        pod::defaults::spec(spec);
    }
}

/// `spec.selector` and `spec.template`, and that the one matches the other.
fn validate_selector_and_template(object: &Value, kind: &str, errors: &mut Errors) {
    let (spec, path) = (at(object, "spec"), Path::new("spec"));
    let (selector, selector_path) = (at(spec, "selector"), path.child("selector"));
    let is_empty = entries(selector, "matchLabels").next().is_none() && items(selector, "matchExpressions").is_empty();
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

/// Whether a workload's template leaves its warnings to be told: only on create, or when it changed.
fn template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let template = at(new, "spec.template");
    if old.is_some_and(|old| at(old, "spec.template") == template) {
        return Vec::new();
    }
    pod::template_warnings(template, &Path::new("spec").child("template"))
}

/// The cells Containers, Images and Selector (`layoutContainerCells`).
fn container_cells(object: &Value) -> [Value; 3] {
    let list = |field| {
        let containers = items(object, "spec.template.spec.containers").iter();
        json!(containers.map(|container| string(container, field)).collect::<Vec<_>>().join(","))
    };
    [list("name"), list("image"), json!(meta::format_selector(at(object, "spec.selector")))]
}

#[cfg(test)]
mod tests;
