//! Pruning: fields that no schema knows are dropped (`apiextensions-apiserver/pkg/apiserver/schema/pruning`).

use serde_json::Value;

use crate::schema::{Additional, Schema};

const TYPE_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops unknown fields of an object and answers their paths.
pub fn prune(object: &mut Value, schema: &Schema) -> Vec<String> {
    let mut dropped = Vec::new();
    value(object, schema, true, &mut String::new(), &mut dropped);
    dropped.sort_unstable();
    dropped
}

/// As [`prune`], for a value inside of an object.
pub fn prune_value(inner: &mut Value, schema: &Schema) -> Vec<String> {
    let mut dropped = Vec::new();
    value(inner, schema, false, &mut String::new(), &mut dropped);
    dropped
}

fn value(value: &mut Value, schema: &Schema, root: bool, path: &mut String, dropped: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let is_resource = root || schema.embedded;
            let keeps = schema.preserve_unknown || matches!(schema.additional, Additional::Any);
            map.retain(|name, member| {
                // The server checks these of every object itself.
                if is_resource && TYPE_FIELDS.contains(&name.as_str()) {
                    return true;
                }
                let length = path.len();
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                let keep = match schema.member(name) {
                    Some(schema) => {
                        self::value(member, schema, false, path, dropped);
                        true
                    }
                    None if keeps => true,
                    None => {
                        dropped.push(path.clone());
                        false
                    }
                };
                path.truncate(length);
                keep
            });
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for (index, item) in items.iter_mut().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                self::value(item, schema, false, path, dropped);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// Nulls of fields that are not nullable and have no default go, as if they had not been sent (`PruneNonNullableNullsWithoutDefaults`).
pub fn prune_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => map.retain(|name, member| {
            let Some(schema) = schema.member(name) else { return true };
            if member.is_null() {
                return schema.nullable || schema.default.is_some();
            }
            prune_nulls(member, schema);
            true
        }),
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            items.iter_mut().for_each(|item| prune_nulls(item, schema));
        }
        _ => {}
    }
}
