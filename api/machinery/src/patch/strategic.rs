//! Strategic merge patch: a merge patch that knows which lists merge, by which key, and takes directives: `$patch`, `$retainKeys`,
//! `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.

mod list;

use serde_json::{Map, Value};

use super::PatchSchema;
use crate::Status;
use crate::status::Reason;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// Merges `patch` into `original`. On an error `original` is half merged: patch a copy.
pub fn apply<S: PatchSchema>(original: &mut Value, patch: Value, schema: S) -> Result<(), Status> {
    let Value::Object(patch) = patch else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    if !original.is_object() {
        *original = Value::Object(Object::new());
    }
    let Value::Object(object) = original else { return Ok(()) };
    merge_object(object, patch, schema)
}

/// A directive that is not written as it must be (`interpretStrategicMergePatchError`).
fn malformed(message: &str) -> Status {
    Status::bad_request(message)
}

fn unprocessable(message: impl Into<String>) -> Status {
    Status::new(422, Reason::Invalid, message)
}

fn merge_object<S: PatchSchema>(original: &mut Object, mut patch: Object, schema: S) -> Result<(), Status> {
    match patch.remove(PATCH).as_ref().map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            *original = patch;
            return Ok(());
        }
        Some("delete") => {
            original.clear();
            return Ok(());
        }
        Some(other) => return Err(unprocessable(format!("unknown patch type found: {other}"))),
    }
    if let Some(keys) = patch.remove(RETAIN_KEYS) {
        retain_keys(original, &patch, &keys)?;
    }
    let ordered: Vec<String> = patch.keys().filter_map(|k| k.strip_prefix(SET_ORDER)).map(str::to_owned).collect();
    for name in ordered {
        let order = patch.remove(&format!("{SET_ORDER}{name}")).unwrap_or_default();
        let deleted = patch.remove(&format!("{DELETE_FROM}{name}"));
        merge_ordered(original, &name, patch.remove(&name), deleted, order, schema)?;
    }
    for (name, value) in patch {
        if let Some(name) = name.strip_prefix(DELETE_FROM) {
            list::delete_scalars(original, name, value)?;
        } else if value.is_null() {
            original.remove(&name);
        } else {
            let ty = schema.member(&name);
            match original.get_mut(&name) {
                Some(old) => merge_value(old, value, ty)?,
                None => _ = original.insert(name, created(value, ty)?),
            }
        }
    }
    Ok(())
}

fn merge_value<S: PatchSchema>(old: &mut Value, patch: Value, schema: Option<S>) -> Result<(), Status> {
    match (old, patch) {
        (Value::Object(old), Value::Object(patch)) => match schema {
            Some(schema) => merge_object(old, patch, schema),
            None => merge_object(old, patch, super::Untyped),
        },
        (Value::Array(old), Value::Array(patch)) => {
            let strategy = schema.map(S::strategy).unwrap_or_default();
            match (schema, strategy.merge_key) {
                (Some(schema), Some(key)) => list::merge(old, patch, key, schema.item()),
                _ => {
                    *old = patch;
                    Ok(())
                }
            }
        }
        (old, patch) => {
            *old = created(patch, schema)?;
            Ok(())
        }
    }
}

/// The value a patch makes where there was none: without nulls and directives.
fn created<S: PatchSchema>(patch: Value, schema: Option<S>) -> Result<Value, Status> {
    match patch {
        Value::Object(patch) => {
            let mut made = Object::new();
            match schema {
                Some(schema) => merge_object(&mut made, patch, schema)?,
                None => merge_object(&mut made, patch, super::Untyped)?,
            }
            Ok(Value::Object(made))
        }
        // Without a list to merge into, keys do not matter; what would delete has nothing to do.
        Value::Array(patch) => {
            let item = schema.map(S::item);
            let kept = patch.into_iter().filter(|value| value.get(PATCH).is_none());
            kept.map(|value| created(value, item)).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        scalar => Ok(scalar),
    }
}

/// `$retainKeys` lists the keys that stay; the patch may set no other.
fn retain_keys(original: &mut Object, patch: &Object, keys: &Value) -> Result<(), Status> {
    let invalid = || malformed("invalid patch format of retainKeys");
    let keys: Vec<&str> = keys.as_array().ok_or_else(invalid)?.iter().filter_map(Value::as_str).collect();
    let base =
        |name: &str| name.strip_prefix(SET_ORDER).or_else(|| name.strip_prefix(DELETE_FROM)).unwrap_or(name).to_owned();
    if patch.iter().any(|(name, value)| !value.is_null() && !keys.contains(&base(name).as_str())) {
        return Err(unprocessable("patch content doesn't match retainKeys list"));
    }
    original.retain(|name, _| keys.contains(&name.as_str()));
    Ok(())
}

/// Merges a list whose final order the patch gives.
fn merge_ordered<S: PatchSchema>(
    original: &mut Object,
    name: &str,
    patch: Option<Value>,
    deleted: Option<Value>,
    order: Value,
    schema: S,
) -> Result<(), Status> {
    let Value::Array(order) = order else { return Err(malformed("invalid patch format of setElementOrder list")) };
    let field = schema.member(name);
    let key = field.and_then(|f| f.strategy().merge_key).unwrap_or_default();
    list::check_order(patch.as_ref(), &order, key)?;
    let server = original.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    if patch.as_ref().is_some_and(Value::is_null) {
        original.remove(name);
        return Ok(());
    }
    if let Some(deleted) = deleted {
        list::delete_scalars(original, name, deleted)?;
    }
    if let Some(patch) = patch {
        match original.get_mut(name) {
            Some(old) => merge_value(old, patch, field)?,
            None => _ = original.insert(name.to_owned(), created(patch, field)?),
        }
    }
    if let Some(Value::Array(merged)) = original.get_mut(name) {
        let items = std::mem::take(merged);
        *merged = list::reorder(items, &order, &server, key);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
