//! Binding a pod to a node: `pkg/registry/core/pod/storage` BindingREST.

use serde_json::{Value, json};
use xebec_machinery::field::{Error, Path};

use super::set_condition;
use crate::errors::Errors;
use crate::names::required;
use crate::value::{at, entries, is_set, items, object_mut, set, string};

/// `ValidatePodBinding`.
pub fn validate(binding: &Value) -> Vec<Error> {
    let mut errors = Errors::default();
    let path = Path::new("target");
    let kind = string(binding, "target.kind");
    if !["", "Node"].contains(&kind) {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    required(at(binding, "target"), "name", &path, &mut errors);
    errors.0
}

/// Assigns the pod to the binding's node, or says why it cannot be (the message of a Conflict on `pods/binding`).
pub fn apply(pod: &mut Value, binding: &Value, now_rfc3339: &str) -> Result<(), String> {
    let name = crate::meta::name(pod).to_owned();
    if is_set(pod, "metadata.deletionTimestamp") {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = string(pod, "spec.nodeName");
    if !node.is_empty() {
        return Err(format!("pod {name} is already assigned to node {node:?}"));
    }
    if !items(pod, "spec.schedulingGates").is_empty() {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    for map in ["annotations", "labels"] {
        let found: Vec<(String, Value)> =
            entries(at(binding, "metadata"), map).map(|(k, v)| (k.clone(), v.clone())).collect();
        if !found.is_empty() {
            object_mut(pod, &format!("metadata.{map}")).extend(found);
        }
    }
    set(pod, "spec.nodeName", string(binding, "target.name"));
    set_condition(pod, json!({"type": "PodScheduled", "status": "True"}), now_rfc3339);
    Ok(())
}
