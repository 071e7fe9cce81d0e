//! `meta.k8s.io` Tables: what `kubectl get` prints.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_registry::Strategy;

use super::encode;

fn columns(strategy: &dyn Strategy) -> Vec<Value> {
    strategy
        .columns()
        .iter()
        .map(|c| json!({ "name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority }))
        .collect()
}

/// A table up to its first row.
pub fn head(strategy: &dyn Strategy, version: &str, meta: &Value) -> String {
    let columns = Value::from(columns(strategy));
    format!(
        r#"{{"kind":"Table","apiVersion":"meta.k8s.io/{version}","metadata":{meta},"columnDefinitions":{columns},"rows":["#
    )
}

/// One row. `include`: None, Metadata (the default) or Object.
pub fn row(
    strategy: &dyn Strategy,
    object: &Value,
    include: &str,
    version: &'static str,
    now: OffsetDateTime,
) -> Value {
    let mut row = json!({ "cells": strategy.row(object, now) });
    match include {
        "None" => {}
        "Object" => row["object"] = object.clone(),
        _ => row["object"] = encode::partial_metadata(object.clone(), version),
    }
    row
}

/// A table of one object.
pub fn single(
    strategy: &dyn Strategy,
    object: &Value,
    include: &str,
    version: &'static str,
    now: OffsetDateTime,
    with_columns: bool,
) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": { "resourceVersion": object.pointer("/metadata/resourceVersion") },
        "columnDefinitions": if with_columns { Value::from(columns(strategy)) } else { Value::Null },
        "rows": [row(strategy, object, include, version, now)],
    })
}
