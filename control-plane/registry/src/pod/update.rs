//! What an update may change in a pod: `ValidatePodUpdate`, `ValidatePodStatusUpdate`.

use serde_json::Value;
use xebec_machinery::field::Path;

use super::resource_claim;
use crate::errors::Errors;
use crate::names::{is_ip, subdomain};
use crate::value::{at, integer, is_set, items, items_mut, keep, remove, same, string};

const FORBIDDEN: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const DIFFERENCES_MAX: usize = 20;

/// The update of the spec, which came through `ValidatePodSpec` before.
pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (path, new, old) = (Path::new("spec"), at(new, "spec"), at(old, "spec"));
    for kind in ["containers", "initContainers"] {
        if items(new, kind).len() != items(old, kind).len() {
            errors.forbidden(&path.child(kind), "pod updates may not add or remove containers");
            return;
        }
    }
    deadline(new, old, &path.child("activeDeadlineSeconds"), errors);
    tolerations(items(new, "tolerations"), items(old, "tolerations"), &path.child("tolerations"), errors);
    scheduling_gates(new, old, &path.child("schedulingGates"), errors);
    let mut munged = new.clone();
    for kind in ["containers", "initContainers"] {
        for (container, before) in items_mut(&mut munged, kind).zip(items(old, kind)) {
            keep(container, before, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        keep(&mut munged, old, field);
    }
    if integer(old, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
        && integer(new, "terminationGracePeriodSeconds") == Some(1)
    {
        keep(&mut munged, old, "terminationGracePeriodSeconds");
    }
    if !items(old, "schedulingGates").is_empty() {
        // A gated pod may still be told where to run (KEP-3838): its node selector may only narrow.
        narrowed_node_selector(new, old, &mut munged, &path.child("nodeSelector"), errors);
    }
    if !same(&munged, old) {
        let mut lines = Vec::new();
        differences(&munged, old, "", &mut lines);
        errors.forbidden(&path, format!("{FORBIDDEN}\n{}", lines.join("\n")));
    }
}

/// The update of the status.
pub fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    if string(new, "spec.nodeName") != string(old, "spec.nodeName") {
        errors.forbidden(&path.child("nodeName"), "may not be changed directly");
    }
    let nominated = string(new, "status.nominatedNodeName");
    if !nominated.is_empty() {
        subdomain(&path.child("nominatedNodeName"), nominated, errors);
    }
    let policy = string(old, "spec.restartPolicy");
    for kind in ["containerStatuses", "initContainerStatuses"] {
        transitions(new, old, kind, policy, &path.child(kind), errors);
    }
    resource_claim::statuses(new, &path.child("resourceClaimStatuses"), errors);
    for (index, ip) in items(new, "status.podIPs").iter().enumerate() {
        let ip = string(ip, "ip");
        if !is_ip(ip) {
            errors.invalid(
                &path.child("podIPs").index(index),
                ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
    }
}

fn deadline(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    const FIELD: &str = "activeDeadlineSeconds";
    match (integer(new, FIELD), integer(old, FIELD)) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.invalid(path, new, "must be between 0 and 2147483647, inclusive");
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(path, new, "must be less than or equal to previous value")
        }
        (None, Some(_)) => errors.invalid(path, Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

/// `validateOnlyAddedTolerations`: an existing one may only change its seconds.
fn tolerations(new: &[Value], old: &[Value], path: &Path, errors: &mut Errors) {
    let key = |toleration: &Value| {
        let mut toleration = toleration.clone();
        remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    if old.iter().any(|old| !new.iter().any(|new| same(&key(new), &key(old)))) {
        errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    }
}

fn scheduling_gates(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let old: Vec<&str> = items(old, "schedulingGates").iter().map(|gate| string(gate, "name")).collect();
    for gate in items(new, "schedulingGates").iter().map(|gate| string(gate, "name")).filter(|gate| !old.contains(gate))
    {
        errors.forbidden(path, format!("only deletion is allowed, but found new scheduling gate '{gate}'"));
    }
}

fn narrowed_node_selector(new: &Value, old: &Value, munged: &mut Value, path: &Path, errors: &mut Errors) {
    let kept = |(key, value): (&String, &Value)| at(new, "nodeSelector").get(key) == Some(value);
    if !crate::value::entries(old, "nodeSelector").all(kept) {
        errors.invalid(path, at(new, "nodeSelector").clone(), "only additions are allowed (no mutations or deletions)");
    }
    keep(munged, old, "nodeSelector");
}

/// `ValidateContainerStateTransition`: what ended stays ended unless the restart policy says otherwise.
fn transitions(new: &Value, old: &Value, kind: &str, policy: &str, path: &Path, errors: &mut Errors) {
    if policy == "Always" {
        return;
    }
    for before in items(at(old, "status"), kind) {
        let ended = at(before, "state.terminated");
        if ended.is_null() || (policy == "OnFailure" && integer(ended, "exitCode") != Some(0)) {
            continue;
        }
        // A sidecar restarts whatever the pod's policy is.
        let name = string(before, "name");
        if items(old, "spec.initContainers")
            .iter()
            .any(|c| string(c, "name") == name && string(c, "restartPolicy") == "Always")
        {
            continue;
        }
        let after =
            items(at(new, "status"), kind).iter().enumerate().find(|(_, status)| string(status, "name") == name);
        if let Some((index, _)) = after.filter(|(_, status)| !is_set(status, "state.terminated")) {
            errors.forbidden(&path.index(index).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

/// The leaves that differ, as `-old` and `+new` lines.
fn differences(new: &Value, old: &Value, at_path: &str, lines: &mut Vec<String>) {
    if lines.len() >= DIFFERENCES_MAX || same(new, old) {
        return;
    }
    match (new, old) {
        (Value::Object(x), Value::Object(y)) => {
            let mut keys: Vec<&String> = x.keys().chain(y.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if at_path.is_empty() { key.clone() } else { format!("{at_path}.{key}") };
                differences(x.get(key).unwrap_or(&Value::Null), y.get(key).unwrap_or(&Value::Null), &path, lines);
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (index, (x, y)) in x.iter().zip(y).enumerate() {
                differences(x, y, &format!("{at_path}[{index}]"), lines);
            }
        }
        _ => {
            lines.push(format!("- {at_path}: {old}"));
            lines.push(format!("+ {at_path}: {new}"));
        }
    }
}
