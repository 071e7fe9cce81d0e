//! `meta.k8s.io` Tables: what `kubectl get` prints.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_registry::Strategy;

use super::{convert, encode};
use crate::kinds::Resource;

/// A table up to its first row.
pub fn head(strategy: &dyn Strategy, version: &str, meta: &Value) -> String {
    let columns = Value::from(strategy.column_definitions());
    format!(
        r#"{{"kind":"Table","apiVersion":"meta.k8s.io/{version}","metadata":{meta},"columnDefinitions":{columns},"rows":["#
    )
}

/// One row of an object in either form. `include`: None, Metadata (the default) or Object.
pub fn row(resource: &Resource, object: &Value, include: &str, version: &'static str, now: OffsetDateTime) -> Value {
    if resource.converted() {
        // Strategies know the stored form only.
        let mut stored = object.clone();
        convert::stored(resource, &mut stored);
        let shown = convert::shown(resource, stored.clone()).unwrap_or_default();
        return with_object(json!({ "cells": resource.strategy.row(&stored, now) }), &shown, include, version);
    }
    with_object(json!({ "cells": resource.strategy.row(object, now) }), object, include, version)
}

fn with_object(mut row: Value, object: &Value, include: &str, version: &'static str) -> Value {
    match include {
        "None" => {}
        "Object" => row["object"] = object.clone(),
        _ => row["object"] = encode::partial_metadata(object.clone(), version),
    }
    row
}

/// A table of one object.
pub fn single(
    resource: &Resource,
    object: &Value,
    include: &str,
    version: &'static str,
    now: OffsetDateTime,
    with_columns: bool,
) -> Value {
    let columns = if with_columns { resource.strategy.column_definitions().into() } else { Value::Null };
    of_row(columns, object, row(resource, object, include, version, now), version)
}

/// A table of one object of another kind than the resource's.
pub fn of_kind(
    strategy: &dyn Strategy,
    object: &Value,
    include: &str,
    version: &'static str,
    now: OffsetDateTime,
) -> Value {
    let row = with_object(json!({ "cells": strategy.row(object, now) }), object, include, version);
    of_row(strategy.column_definitions().into(), object, row, version)
}

fn of_row(columns: Value, object: &Value, row: Value, version: &str) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": { "resourceVersion": object.pointer("/metadata/resourceVersion") },
        "columnDefinitions": columns,
        "rows": [row],
    })
}
