//! Containers, init containers and their ports.

use serde_json::Value;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use super::{env, probe, resize, resources, security, volume};
use crate::errors::Errors;
use crate::names::{label, port_number};
use crate::value::{at, boolean, integer, is_set, items, string};

pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const NEEDS_ALWAYS: &str = "may not be set for init containers without restartPolicy=Always";

/// `validateContainers`, `validateInitContainers` and the conflicts among them. `path` is that of the pod spec.
pub fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut names = Vec::new();
    let grace_seconds = integer(spec, "terminationGracePeriodSeconds").unwrap_or(30);
    let containers = items(spec, "containers");
    let list = path.child("containers");
    if containers.is_empty() {
        errors.required(&list, "");
    }
    for (index, container) in containers.iter().enumerate() {
        let path = list.index(index);
        common(container, spec, &path, errors);
        unique_name(container, &mut names, &path, errors);
        probe::validate(container, grace_seconds, &path, errors);
        if is_set(container, "restartPolicy") {
            errors.forbidden(&path.child("restartPolicy"), "may not be set for non-init containers");
        }
    }
    host_port_conflicts(containers, &list, errors);
    for (index, container) in items(spec, "initContainers").iter().enumerate() {
        let path = path.child("initContainers").index(index);
        common(container, spec, &path, errors);
        unique_name(container, &mut names, &path, errors);
        init(container, grace_seconds, &path, errors);
        host_port_conflicts(std::slice::from_ref(container), &path, errors);
    }
    if boolean(spec, "hostNetwork") {
        host_network_ports(spec, path, errors);
    }
}

fn init(container: &Value, grace_seconds: i64, path: &Path, errors: &mut Errors) {
    let policy = at(container, "restartPolicy").as_str();
    if let Some(other) = policy.filter(|policy| *policy != "Always") {
        errors.not_supported(&path.child("restartPolicy"), other, &["Always"]);
    }
    if policy == Some("Always") {
        probe::validate(container, grace_seconds, path, errors);
    } else {
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if is_set(container, field) {
                errors.forbidden(&path.child(field), NEEDS_ALWAYS);
            }
        }
    }
}

/// `validateContainerCommon`.
fn common(container: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    match string(container, "name") {
        "" => errors.required(&path.child("name"), ""),
        name => label(&path.child("name"), name, errors),
    }
    match string(container, "image") {
        "" => errors.required(&path.child("image"), ""),
        image if image.trim() != image => {
            errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
        }
        _ => {}
    }
    errors.one_of(
        &path.child("terminationMessagePolicy"),
        string(container, "terminationMessagePolicy"),
        &["FallbackToLogsOnError", "File"],
    );
    ports(container, path, errors);
    env::validate(container, path, errors);
    volume::mounts(container, items(spec, "volumes"), path, errors);
    errors.one_of(
        &path.child("imagePullPolicy"),
        string(container, "imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
    );
    resources::validate(at(container, "resources"), &path.child("resources"), errors);
    security::container(at(container, "securityContext"), &path.child("securityContext"), errors);
    resize::policies(container, string(spec, "restartPolicy"), path, errors);
}

/// `allowedEphemeralContainerFields`
const EPHEMERAL_FIELDS: [&str; 17] = [
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "name",
    "securityContext",
    "stdin",
    "stdinOnce",
    "targetContainerName",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];
const NOT_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";

/// `validateEphemeralContainers`; `path` is that of the list.
pub fn ephemeral(spec: &Value, path: &Path, errors: &mut Errors) {
    let long_lived: Vec<&str> =
        ["containers", "initContainers"].iter().flat_map(|list| items(spec, list)).map(|c| string(c, "name")).collect();
    let mut names = Vec::new();
    for (index, container) in items(spec, "ephemeralContainers").iter().enumerate() {
        let path = path.index(index);
        common(container, spec, &path, errors);
        if long_lived.contains(&string(container, "name")) {
            errors.duplicate(&path.child("name"), string(container, "name"));
        }
        unique_name(container, &mut names, &path, errors);
        let target = string(container, "targetContainerName");
        if !target.is_empty() && !long_lived.contains(&target) {
            errors.not_found(&path.child("targetContainerName"), target);
        }
        for (field, _) in container.as_object().into_iter().flatten().filter(|(field, value)| {
            // A struct in Go, so it is there even when empty.
            !EPHEMERAL_FIELDS.contains(&field.as_str()) && !value.as_object().is_some_and(serde_json::Map::is_empty)
        }) {
            errors.forbidden(&path.child(field), NOT_EPHEMERAL);
        }
        for (index, mount) in items(container, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"].into_iter().filter(|field| !string(mount, field).is_empty()) {
                errors.forbidden(&path.child("volumeMounts").index(index).child(field), NOT_EPHEMERAL);
            }
        }
    }
}

fn unique_name<'a>(container: &'a Value, names: &mut Vec<&'a str>, path: &Path, errors: &mut Errors) {
    let name = string(container, "name");
    if names.contains(&name) {
        errors.duplicate(&path.child("name"), name);
    }
    names.push(name);
}

fn ports(container: &Value, path: &Path, errors: &mut Errors) {
    let mut names = Vec::new();
    for (index, port) in items(container, "ports").iter().enumerate() {
        let path = path.child("ports").index(index);
        let name = string(port, "name");
        if !name.is_empty() {
            let messages = validation::port_name(name);
            if messages.is_empty() && names.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.invalid_each(&path.child("name"), &Value::from(name), messages);
            names.push(name);
        }
        match integer(port, "containerPort").unwrap_or(0) {
            0 => errors.required(&path.child("containerPort"), ""),
            number => port_number(&path.child("containerPort"), number, errors),
        }
        match integer(port, "hostPort").unwrap_or(0) {
            0 => {}
            number => port_number(&path.child("hostPort"), number, errors),
        }
        errors.one_of(&path.child("protocol"), string(port, "protocol"), PROTOCOLS);
    }
}

/// `checkHostPortConflicts`.
fn host_port_conflicts(containers: &[Value], path: &Path, errors: &mut Errors) {
    let mut taken = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        for (number, port) in items(container, "ports").iter().enumerate() {
            let Some(host_port) = integer(port, "hostPort").filter(|host_port| *host_port != 0) else { continue };
            let key = format!("{}/{}/{host_port}", string(port, "protocol"), string(port, "hostIP"));
            if taken.contains(&key) {
                errors.duplicate(&path.index(index).child("ports").index(number).child("hostPort"), key.as_str());
            }
            taken.push(key);
        }
    }
}

fn host_network_ports(spec: &Value, path: &Path, errors: &mut Errors) {
    for (index, container) in items(spec, "containers").iter().enumerate() {
        for (number, port) in items(container, "ports").iter().enumerate() {
            let host_port = integer(port, "hostPort").unwrap_or(0);
            // Zero: a template, whose pods get the default (`SetDefaults_Pod`).
            if host_port != 0 && Some(host_port) != integer(port, "containerPort") {
                let path = path.child("containers").index(index).child("ports").index(number).child("hostPort");
                errors.invalid(&path, host_port, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}
