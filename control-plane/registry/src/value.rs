//! Reading and changing objects by field path. A missing field reads as null, an empty string or an empty list, as a zero value does in Go.

use serde_json::{Map, Value};

pub static NULL: Value = Value::Null;

/// The value at a dotted path of field names, or null.
pub fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, field| value.get(field).unwrap_or(&NULL))
}

pub fn string<'a>(object: &'a Value, path: &str) -> &'a str {
    at(object, path).as_str().unwrap_or("")
}

pub fn integer(object: &Value, path: &str) -> Option<i64> {
    at(object, path).as_i64()
}

pub fn boolean(object: &Value, path: &str) -> bool {
    at(object, path).as_bool().unwrap_or(false)
}

pub fn items<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    at(object, path).as_array().map_or(&[], Vec::as_slice)
}

/// The strings of a list of strings.
pub fn strings<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a str> {
    items(object, path).iter().filter_map(Value::as_str)
}

/// The entries of a map, in key order.
pub fn entries<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(object, path).as_object().into_iter().flatten()
}

/// Whether the field is set to anything but null.
pub fn is_set(object: &Value, path: &str) -> bool {
    !at(object, path).is_null()
}

/// Equality that does not tell a missing field from null, an empty list or an empty map, as `apiequality.Semantic.DeepEqual`.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(key, value)| same(value, y.get(key).unwrap_or(&NULL)))
                && y.iter().all(|(key, value)| x.contains_key(key) || is_empty(value))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The object at a dotted path, made where it is missing.
pub fn object_mut<'a>(object: &'a mut Value, path: &str) -> &'a mut Map<String, Value> {
    let mut current = object;
    for field in path.split('.').filter(|field| !field.is_empty()) {
        current = ensure_map(current).entry(field).or_insert_with(|| Value::Object(Map::new()));
    }
    ensure_map(current)
}

fn ensure_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("the value was made an object"),
    }
}

/// The mutable value at a dotted path, if it is set.
pub fn at_mut<'a>(object: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(object, |value, field| value.get_mut(field)).filter(|value| !value.is_null())
}

pub fn items_mut<'a>(object: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
    at_mut(object, path).and_then(Value::as_array_mut).into_iter().flatten()
}

pub fn set(object: &mut Value, path: &str, value: impl Into<Value>) {
    let (parent, field) = path.rsplit_once('.').unwrap_or(("", path));
    object_mut(object, parent).insert(field.to_owned(), value.into());
}

pub fn remove(object: &mut Value, path: &str) {
    let (parent, field) = path.rsplit_once('.').map_or((None, path), |(parent, field)| (Some(parent), field));
    let parent = match parent {
        Some(parent) => at_mut(object, parent),
        None => Some(object),
    };
    if let Some(map) = parent.and_then(Value::as_object_mut) {
        map.remove(field);
    }
}

/// Makes `new`'s field what it is in `old`, also where it is missing there.
pub fn keep(new: &mut Value, old: &Value, path: &str) {
    match at(old, path) {
        Value::Null => remove(new, path),
        value => set(new, path, value.clone()),
    }
}

/// RFC 7396, for tests: objects are merged, null removes.
#[cfg(test)]
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    for (field, value) in fields {
        if value.is_null() {
            ensure_map(target).remove(field);
        } else {
            merge_patch(ensure_map(target).entry(field).or_insert(Value::Null), value);
        }
    }
}

/// Sets a field of an existing object unless it is set.
pub fn default(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut() {
        let slot = map.entry(field).or_insert(Value::Null);
        if slot.is_null() {
            *slot = value.into();
        }
    }
}

/// As [`default`], for fields whose zero value in Go is the empty string.
pub fn default_string(object: &mut Value, field: &str, value: &str) {
    if string(object, field).is_empty() {
        set(object, field, value);
    }
}

#[cfg(test)]
mod tests;
