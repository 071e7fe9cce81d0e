//! What is legal in a pod spec but probably not meant: `pkg/api/pod/warnings.go`.

use serde_json::Value;
use xebec_machinery::field::Path;

use crate::value::{at, integer, is_set, items, string};

const NODE_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
];

pub fn of_spec(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (label, text) in NODE_LABELS {
        if at(spec, "nodeSelector").get(label).is_some() {
            warnings.push(format!("{}: {text}", path.child("nodeSelector").key(label)));
        }
    }
    duplicates(spec, "hostAliases", "ip", path, &mut warnings);
    for (index, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if string(secret, "name").is_empty() {
            let path = path.child("imagePullSecrets").index(index);
            warnings.push(format!("{path}: invalid empty name \"\""));
        }
    }
    if integer(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        warnings.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            path.child("terminationGracePeriodSeconds")
        ));
    }
    for kind in ["initContainers", "containers"] {
        for (index, container) in items(spec, kind).iter().enumerate() {
            of_container(container, &path.child(kind).index(index), &mut warnings);
        }
    }
    warnings
}

fn of_container(container: &Value, path: &Path, warnings: &mut Vec<String>) {
    let env = items(container, "env");
    for (index, variable) in env.iter().enumerate() {
        let name = string(variable, "name");
        let earlier = env[..index].iter().rev().find(|earlier| string(earlier, "name") == name);
        if let Some(earlier) = earlier {
            // A value that builds on the earlier one is meant.
            let builds_on = string(variable, "value").contains(&format!("$({name})"));
            if !builds_on && !is_set(variable, "valueFrom") && !is_set(earlier, "valueFrom") {
                warnings.push(format!(
                    "{}: hides previous definition of {name:?}, which may be unexpected",
                    path.child("env").index(index)
                ));
            }
        }
    }
    let ports = items(container, "ports");
    for (index, port) in ports.iter().enumerate() {
        let same = |earlier: &&Value| {
            ["containerPort", "protocol", "hostIP"].iter().all(|field| at(earlier, field) == at(port, field))
                && integer(earlier, "hostPort").unwrap_or(0) == integer(port, "hostPort").unwrap_or(0)
        };
        if let Some(earlier) = ports[..index].iter().position(|earlier| same(&earlier)) {
            let path = path.child("ports");
            warnings.push(format!("{}: duplicate port definition with {}", path.index(index), path.index(earlier)));
        }
    }
}

fn duplicates(spec: &Value, list: &str, field: &str, path: &Path, warnings: &mut Vec<String>) {
    let all = items(spec, list);
    for (index, item) in all.iter().enumerate() {
        let value = string(item, field);
        if all[..index].iter().any(|earlier| string(earlier, field) == value) {
            warnings.push(format!("{}: duplicate {field} {value:?}", path.child(list).index(index).child(field)));
        }
    }
}
