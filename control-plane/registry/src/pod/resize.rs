//! `pods/resize`: CPU and memory of containers, changed while they run (KEP-1287).

use serde_json::Value;
use xebec_machinery::field::Path;

use super::{qos, resources};
use crate::errors::Errors;
use crate::meta;
use crate::strategy::Scope;
use crate::value::{at, entries, is_set, items, items_mut, keep, remove, same, string};

const LISTS: [&str; 2] = ["containers", "initContainers"];
const MUTABLE: [&str; 2] = ["cpu", "memory"];

/// Of what was sent only the resources of containers count (`dropNonResizeUpdates`).
pub fn prepare(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    keep(&mut kept, new, "metadata.managedFields");
    for list in LISTS {
        for container in items_mut(&mut kept, &format!("spec.{list}")) {
            let mut sent = items(at(new, "spec"), list).iter();
            if let Some(sent) = sent.find(|sent| string(sent, "name") == string(container, "name")) {
                keep(container, sent, "resources");
            }
        }
    }
    *new = kept;
}

/// `ValidatePodResize`
pub fn validate(new: &Value, old: &Value) -> Vec<xebec_machinery::field::Error> {
    let mut errors = Errors::default();
    meta::validate_update(new, old, Scope::Namespaced, &mut errors);
    let path = Path::new("spec");
    for list in LISTS {
        let pairs = items(at(new, "spec"), list).iter().zip(items(at(old, "spec"), list)).enumerate();
        for (index, (new, old)) in pairs {
            container(new, old, list, &path.child(list).index(index).child("resources"), &mut errors);
        }
    }
    if qos::class(new) != qos::class(old) {
        errors.invalid(&path, qos::class(new), "Pod QOS Class may not change as a result of resizing");
    }
    if string(new, "spec.os.name") == "windows" {
        errors.forbidden(&path, "windows pods cannot be resized");
    }
    errors.0
}

fn container(new: &Value, old: &Value, list: &str, path: &Path, errors: &mut Errors) {
    let (wanted, had) = (at(new, "resources"), at(old, "resources"));
    if same(wanted, had) {
        return;
    }
    if list == "initContainers" && string(new, "restartPolicy") != "Always" {
        errors.forbidden(path, "resources for non-sidecar init containers are immutable");
        return;
    }
    resources::validate(wanted, path, errors);
    for part in ["requests", "limits"] {
        for name in MUTABLE {
            if is_set(at(had, part), name) && !is_set(at(wanted, part), name) {
                errors.forbidden(&path.child(part), format!("resource {part} cannot be removed"));
            }
        }
    }
    if !same(&without_mutable(wanted), &without_mutable(had)) {
        errors.forbidden(path, "only cpu and memory resources are mutable");
    }
}

fn without_mutable(resources: &Value) -> Value {
    let mut rest = resources.clone();
    for part in ["requests", "limits"] {
        for name in MUTABLE {
            remove(&mut rest, &format!("{part}.{name}"));
        }
    }
    rest
}

/// `validateResizePolicy`; `policy` is the pod's restart policy.
pub fn policies(container: &Value, policy: &str, path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, rule) in items(container, "resizePolicy").iter().enumerate() {
        let (path, name) = (path.child("resizePolicy").index(index), string(rule, "resourceName"));
        match name {
            "" => errors.required(&path.child("resourceName"), ""),
            name if !MUTABLE.contains(&name) => errors.not_supported(&path.child("resourceName"), name, &MUTABLE),
            name if seen.contains(&name) => errors.duplicate(&path.child("resourceName"), name),
            _ => {}
        }
        seen.push(name);
        match string(rule, "restartPolicy") {
            "" => errors.required(&path.child("restartPolicy"), ""),
            "NotRequired" => {}
            "RestartContainer" if policy == "Never" => {
                let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
                errors.invalid(&path.child("restartPolicy"), "RestartContainer", detail);
            }
            "RestartContainer" => {}
            other => errors.not_supported(&path.child("restartPolicy"), other, &["NotRequired", "RestartContainer"]),
        }
    }
}

/// What a pod's container gets for each resource that it names (`setDefaultResizePolicy`).
pub fn default_policies(container: &mut Value) {
    let named = |name: &str| {
        ["requests", "limits"]
            .iter()
            .any(|part| entries(at(container, "resources"), part).any(|(known, _)| known == name))
    };
    let known: Vec<&str> = items(container, "resizePolicy").iter().map(|rule| string(rule, "resourceName")).collect();
    let missing: Vec<Value> = MUTABLE
        .into_iter()
        .filter(|name| named(name) && !known.contains(name))
        .map(|name| serde_json::json!({"resourceName": name, "restartPolicy": "NotRequired"}))
        .collect();
    if missing.is_empty() {
        return;
    }
    match container["resizePolicy"].as_array_mut() {
        Some(list) => list.extend(missing),
        None => container["resizePolicy"] = missing.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(resources: Value) -> Value {
        json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"},
            "spec": {"containers": [{"name": "c", "resources": resources}]},
        })
    }

    #[track_caller]
    fn check(new: Value, old: Value, expected: &str) {
        let said: Vec<String> = validate(&pod(new.clone()), &pod(old)).iter().map(ToString::to_string).collect();
        assert!(
            if expected.is_empty() { said.is_empty() } else { said.join("; ").contains(expected) },
            "{new}: {said:?}"
        );
    }

    #[test]
    fn cpu_and_memory_change_within_the_qos_class() {
        let requests = |cpu: &str| json!({"requests": {"cpu": cpu}});
        check(requests("2"), requests("1"), "");
        check(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}), requests("1"), "");
        check(json!({"requests": {"memory": "1"}}), requests("1"), "resource requests cannot be removed");
        check(
            json!({"requests": {"cpu": "3"}, "limits": {"cpu": "2"}}),
            requests("1"),
            "must be less than or equal to",
        );
        check(json!({"requests": {"cpu": "1", "x.io/y": "1"}}), requests("1"), "only cpu and memory");
        let guaranteed =
            |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}});
        check(guaranteed("1"), guaranteed("2"), "Pod QOS Class may not change");
    }

    #[test]
    fn policies_are_checked_and_made() {
        let mut container = json!({"resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Mi"}}});
        default_policies(&mut container);
        let rule = |name: &str, policy: &str| json!({"resourceName": name, "restartPolicy": policy});
        assert_eq!(container["resizePolicy"], json!([rule("cpu", "NotRequired"), rule("memory", "NotRequired")]));
        let said = |rules: Value, policy: &str| {
            let mut errors = Errors::default();
            policies(&json!({"resizePolicy": rules}), policy, &Path::new("c"), &mut errors);
            errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(said(json!([rule("cpu", "RestartContainer")]), "Always"), "");
        assert!(said(json!([rule("cpu", "RestartContainer")]), "Never").contains("must be 'NotRequired'"));
        assert!(said(json!([rule("disk", "NotRequired")]), "Always").contains("Unsupported value"));
        assert!(said(json!([rule("cpu", "NotRequired"), rule("cpu", "NotRequired")]), "Always").contains("Duplicate"));
    }
}
