//! Environment variables, and the references into the pod that volumes share with them.

use serde_json::Value;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::names::{env_var, reference_name};
use crate::value::{at, is_set, items, string};

/// The fields of a pod that a `fieldRef` may name, sorted.
pub const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
pub const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// `ConvertDownwardAPIFieldLabel` also knows these.
const OTHER_FIELDS: &[&str] = &["spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host"];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const CPU_DIVISORS: &[&str] = &["1m", "1"];
const BYTE_DIVISORS: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

pub fn validate(container: &Value, path: &Path, errors: &mut Errors) {
    for (index, env) in items(container, "env").iter().enumerate() {
        let path = path.child("env").index(index);
        match string(env, "name") {
            "" => errors.required(&path.child("name"), ""),
            name => env_var(&path.child("name"), name, errors),
        }
        if is_set(env, "valueFrom") {
            value_from(env, &path.child("valueFrom"), errors);
        }
    }
    for (index, source) in items(container, "envFrom").iter().enumerate() {
        env_from(source, &path.child("envFrom").index(index), errors);
    }
}

/// `validateObjectFieldSelector`.
pub fn field_ref(selector: &Value, supported: &[&str], path: &Path, errors: &mut Errors) {
    for field in ["apiVersion", "fieldPath"] {
        if string(selector, field).is_empty() {
            errors.required(&path.child(field), "");
            return;
        }
    }
    let field = string(selector, "fieldPath");
    let version = string(selector, "apiVersion");
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.invalid(&path.child("fieldPath"), field, detail);
        return;
    }
    match field.strip_suffix("']").and_then(|rest| rest.split_once("['")) {
        Some((map @ ("metadata.annotations" | "metadata.labels"), key)) => {
            let key = if map == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
            errors.invalid_each(path, &Value::from(key.as_str()), validation::qualified_name(&key));
        }
        Some((map, _)) if known(map) => errors.invalid(path, map, "does not support subscript"),
        None if supported.contains(&field) => {}
        None if known(field) => errors.not_supported(&path.child("fieldPath"), field, supported),
        _ => errors.invalid(
            &path.child("fieldPath"),
            field,
            format!("error converting fieldPath: field label not supported: {field}"),
        ),
    }
}

/// `validateContainerResourceFieldSelector`.
pub fn resource_field_ref(selector: &Value, of_volume: bool, path: &Path, errors: &mut Errors) {
    let resource = string(selector, "resource");
    if of_volume && string(selector, "containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !resource.contains(".hugepages-") {
        errors.not_supported(&path.child("resource"), resource, RESOURCES);
    }
    let divisor = match at(selector, "divisor") {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return,
    };
    let (kind, allowed, listed) = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => ("cpu", CPU_DIVISORS, CPU_DIVISORS.join(" and ")),
        "memory" => ("memory", BYTE_DIVISORS, BYTE_DIVISORS.join(", ")),
        "ephemeral-storage" => ("local ephemeral storage", BYTE_DIVISORS, BYTE_DIVISORS.join(", ")),
        _ => return,
    };
    if divisor != "0" && !allowed.contains(&divisor.as_str()) {
        errors.invalid(
            &path.child("divisor"),
            resource,
            format!("only divisor's values {listed} are supported with the {kind} resource"),
        );
    }
}

fn known(field: &str) -> bool {
    ENV_FIELDS.contains(&field) || VOLUME_FIELDS.contains(&field) || OTHER_FIELDS.contains(&field)
}

fn value_from(env: &Value, path: &Path, errors: &mut Errors) {
    let source = at(env, "valueFrom");
    let mut sources = 0;
    for kind in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"] {
        if !is_set(source, kind) {
            continue;
        }
        sources += 1;
        let (found, path) = (at(source, kind), path.child(kind));
        match kind {
            "fieldRef" => field_ref(found, ENV_FIELDS, &path, errors),
            "resourceFieldRef" => resource_field_ref(found, false, &path, errors),
            _ => key_ref(found, &path, errors),
        }
    }
    if sources == 0 {
        errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        );
    } else if !string(env, "value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn key_ref(reference: &Value, path: &Path, errors: &mut Errors) {
    reference_name(reference, path, errors);
    match string(reference, "key") {
        "" => errors.required(&path.child("key"), ""),
        key => errors.invalid_each(&path.child("key"), &Value::from(key), validation::config_map_key(key)),
    }
}

fn env_from(source: &Value, path: &Path, errors: &mut Errors) {
    let prefix = string(source, "prefix");
    if !prefix.is_empty() {
        env_var(&path.child("prefix"), prefix, errors);
    }
    let kinds: Vec<&str> = ["configMapRef", "secretRef"].into_iter().filter(|kind| is_set(source, kind)).collect();
    for kind in &kinds {
        reference_name(at(source, kind), &path.child(kind), errors);
    }
    match kinds.len() {
        0 => errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"),
        1 => {}
        _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
    }
}
