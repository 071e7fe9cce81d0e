//! `pods/ephemeralcontainers`: containers that are added to a pod while it runs, and never changed or removed.

use serde_json::Value;
use xebec_machinery::field::Path;

use super::container;
use crate::errors::Errors;
use crate::meta;
use crate::strategy::Scope;
use crate::value::{at, items, keep, same, string};

/// Of what was sent only the ephemeral containers count (`dropNonEphemeralContainerUpdates`).
pub fn prepare(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    for path in ["spec.ephemeralContainers", "metadata.managedFields"] {
        keep(&mut kept, new, path);
    }
    *new = kept;
}

/// `ValidatePodEphemeralContainersUpdate`
pub fn validate(new: &Value, old: &Value) -> Vec<xebec_machinery::field::Error> {
    let mut errors = Errors::default();
    meta::validate_update(new, old, Scope::Namespaced, &mut errors);
    let path = Path::new("spec").child("ephemeralContainers");
    container::ephemeral(at(new, "spec"), &path, &mut errors);
    let new = items(new, "spec.ephemeralContainers");
    for before in items(old, "spec.ephemeralContainers") {
        let name = string(before, "name");
        match new.iter().find(|container| string(container, "name") == name) {
            None => errors.forbidden(&path, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(after) if !same(after, before) => {
                errors.forbidden(&path, format!("existing ephemeral containers {name:?} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(ephemeral: Value) -> Value {
        json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "ephemeralContainers": ephemeral},
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

    fn debugger(more: Value) -> Value {
        let mut container =
            json!({"name": "d", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"});
        for (key, value) in more.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        json!([container])
    }

    #[test]
    fn containers_are_added_and_stay() {
        check(debugger(json!({})), json!([]), "");
        check(debugger(json!({"targetContainerName": "c"})), json!([]), "");
        check(json!([]), debugger(json!({})), "existing ephemeral containers \"d\" may not be removed");
        check(debugger(json!({"image": "j"})), debugger(json!({})), "may not be changed");
        check(debugger(json!({"name": "c"})), json!([]), "Duplicate value: \"c\"");
        check(debugger(json!({"targetContainerName": "x"})), json!([]), "targetContainerName: Not found: \"x\"");
        check(
            debugger(json!({"ports": [{"containerPort": 1}]})),
            json!([]),
            "cannot be set for an Ephemeral Container",
        );
        check(debugger(json!({"resources": {"limits": {"cpu": "1"}}})), json!([]), "resources: Forbidden");
    }

    #[test]
    fn nothing_else_is_written() {
        let mut new = pod(debugger(json!({})));
        new["metadata"]["labels"] = json!({"a": "changed"});
        new["spec"]["containers"][0]["image"] = json!("changed");
        prepare(&mut new, &pod(json!([])));
        assert_eq!(new, pod(debugger(json!({}))));
    }
}
