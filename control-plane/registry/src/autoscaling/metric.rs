//! What an autoscaler scales by: `validateMetrics`.

use serde_json::Value;
use xebec_machinery::field::Path;

use super::{ApiVersion, reference};
use crate::errors::Errors;
use crate::names::{label, path_segment_name};
use crate::pod::resources::{container_name, quantity};
use crate::value::{at, integer, is_set, items, string};

const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The source of each type, in the order upstream looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

/// What the metrics of an autoscaler may refer to: anything, if those that it had did.
pub fn api_versions(old: &Value) -> ApiVersion {
    let objects =
        items(old, "metrics").iter().filter(|metric| string(metric, "type") == "Object" && is_set(metric, "object"));
    let mut versions = objects.map(|metric| string(metric, "object.describedObject.apiVersion"));
    if versions.any(|version| ApiVersion::OfAnyGroup.fault(version).is_some()) {
        ApiVersion::Any
    } else {
        ApiVersion::OfAnyGroup
    }
}

pub fn validate(spec: &Value, objects: ApiVersion, path: &Path, errors: &mut Errors) {
    let metrics = items(spec, "metrics");
    for (index, found) in metrics.iter().enumerate() {
        metric(found, objects, &path.index(index), errors);
    }
    let from_zero = metrics.iter().any(|metric| ["Object", "External"].contains(&string(metric, "type")));
    if integer(spec, "minReplicas") == Some(0) && !from_zero {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(path, detail);
    }
}

/// `validateMetricSpec`.
fn metric(metric: &Value, objects: ApiVersion, path: &Path, errors: &mut Errors) {
    let kind = string(metric, "type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric source type");
    }
    if !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, TYPES);
    }
    let present: Vec<&str> = SOURCES.iter().map(|(field, _)| *field).filter(|field| is_set(metric, field)).collect();
    if let Some(first) = present.first() {
        source(first, at(metric, first), objects, &path.child(first), errors);
    }
    let expected = SOURCES.iter().find(|(_, of)| *of == kind).map(|(field, _)| *field);
    match expected {
        Some(field) if !is_set(metric, field) => {
            errors.required(&path.child(field), "must populate information for the given metric source");
        }
        Some(_) => {}
        None => errors.not_supported(&path.child("type"), kind, TYPES),
    }
    if present.len() != 1 {
        for field in present.into_iter().filter(|field| Some(*field) != expected) {
            errors.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn source(kind: &str, source: &Value, objects: ApiVersion, path: &Path, errors: &mut Errors) {
    let (target, target_path) = (at(source, "target"), path.child("target"));
    match kind {
        "object" => {
            reference(at(source, "describedObject"), objects, &path.child("describedObject"), errors);
            identifier(source, path, errors);
        }
        "external" | "pods" => identifier(source, path, errors),
        "containerResource" => {
            match string(source, "name") {
                "" => errors.required(&path.child("name"), "must specify a resource name"),
                name => container_name(name, &path.child("name"), errors),
            }
            match string(source, "container") {
                "" => errors.required(&path.child("container"), "must specify a container"),
                name => label(&path.child("container"), name, errors),
            }
        }
        _ if string(source, "name").is_empty() => {
            errors.required(&path.child("name"), "must specify a resource name");
        }
        _ => {}
    }
    metric_target(target, &target_path, errors);
    let has = |field| is_set(target, field);
    let average_path = target_path.child("averageValue");
    match kind {
        "object" if !has("value") && !has("averageValue") => {
            errors.required(&average_path, "must set either a target value or averageValue");
        }
        "external" if !has("value") && !has("averageValue") => {
            errors.required(&average_path, "must set either a target value for metric or a per-pod target");
        }
        "external" if has("value") && has("averageValue") => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&target_path.child("value"), detail);
        }
        "pods" if !has("averageValue") => {
            errors.required(&average_path, "must specify a positive target averageValue");
        }
        "resource" | "containerResource" => match (has("averageUtilization"), has("averageValue")) {
            (false, false) => {
                let detail = "must set either a target raw value or a target utilization";
                errors.required(&target_path.child("averageUtilization"), detail);
            }
            (true, true) => {
                errors.forbidden(&average_path, "may not set both a target raw value and a target utilization");
            }
            _ => {}
        },
        _ => {}
    }
}

/// `validateMetricIdentifier`.
fn identifier(source: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("metric").child("name");
    match string(source, "metric.name") {
        "" => errors.required(&path, "must specify a metric name"),
        name => path_segment_name(&path, name, errors),
    }
}

fn metric_target(target: &Value, path: &Path, errors: &mut Errors) {
    let kind = string(target, "type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        errors.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"] {
        let found = quantity(at(target, field));
        if let Some(value) = found.filter(|value| value.is_negative() || value.is_zero()) {
            errors.invalid(&path.child(field), value.to_string(), "must be positive");
        }
    }
    if let Some(percent) = integer(target, "averageUtilization").filter(|percent| *percent < 1) {
        errors.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
}
