//! The scale subresource of Deployments and ReplicaSets: `autoscaling/v1` Scale.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::{Error, Path};
use xebec_machinery::selector::LabelSelector;

use crate::errors::Errors;
use crate::meta;
use crate::names::not_negative;
use crate::strategy::{Column, named};
use crate::value::{at, integer, set};

pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "How many pods are wanted."),
    Column::integer("Available", "How many pods there are."),
    Column::AGE,
];

/// The scale of a workload.
pub fn get(workload: &Value) -> Value {
    let selector = LabelSelector::from_object(at(workload, "spec.selector"))
        .map(|selector| selector.to_string())
        .unwrap_or_default();
    let mut scale = json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {},
        "spec": {"replicas": integer(workload, "spec.replicas").unwrap_or(0)},
        "status": {"replicas": integer(workload, "status.replicas").unwrap_or(0), "selector": selector},
    });
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        let found = at(at(workload, "metadata"), field);
        if !found.is_null() {
            scale["metadata"][field] = found.clone();
        }
    }
    scale
}

/// `ValidateScale`.
pub fn validate(scale: &Value) -> Vec<Error> {
    let mut errors = Errors::default();
    if meta::name(scale).is_empty() {
        errors.required(&Path::new("metadata").child("name"), "name or generateName is required");
    }
    not_negative(at(scale, "spec"), "replicas", &Path::new("spec"), &mut errors);
    errors.0
}

/// Writes a valid scale into its workload. The caller has compared resourceVersion and uid.
pub fn put(workload: &mut Value, scale: &Value) {
    set(workload, "spec.replicas", integer(scale, "spec.replicas").unwrap_or(0));
}

pub fn row(scale: &Value, now: OffsetDateTime) -> Vec<Value> {
    let count = |path| json!(integer(scale, path).unwrap_or(0));
    named(scale, now, [count("spec.replicas"), count("status.replicas")])
}
