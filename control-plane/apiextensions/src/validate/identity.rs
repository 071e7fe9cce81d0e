//! What no schema can say of itself: items of sets and map lists are unique, embedded objects are objects
//! (`schema/listtype/validation.go`, `schema/objectmeta/validation.go`).

use std::collections::HashSet;

use serde_json::{Map, Value};
use xebec_machinery::field::{Error, Path};
use xebec_machinery::validation;
use xebec_registry::errors::Errors;
use xebec_registry::meta;
use xebec_registry::strategy::Scope;

use crate::correlate::key_of;
use crate::schema::{ListType, Schema};

pub fn check(value: &Value, old: Option<&Value>, schema: &Schema) -> Vec<Error> {
    let mut errors = Errors::default();
    walk(value, old, schema, None, &mut errors);
    errors.0
}

fn walk(value: &Value, old: Option<&Value>, schema: &Schema, path: Option<&Path>, errors: &mut Errors) {
    if !schema.has_identities || old == Some(value) {
        return;
    }
    match value {
        Value::Object(map) => {
            if let (true, Some(path)) = (schema.embedded, path) {
                embedded(map, value, path, errors);
            }
            for (name, member) in map {
                let Some(member_schema) = schema.member(name) else { continue };
                let child = match path {
                    None => Path::new(name),
                    Some(path) if !schema.properties.contains_key(name) => path.key(name),
                    Some(path) => path.child(name),
                };
                walk(member, old.and_then(|old| old.get(name)), member_schema, Some(&child), errors);
            }
        }
        Value::Array(items) => {
            let root = Path::root();
            let path = path.unwrap_or(&root);
            unique(items, schema, path, errors);
            let Some(schema) = &schema.items else { return };
            for (index, item) in items.iter().enumerate() {
                walk(item, None, schema, Some(&path.index(index)), errors);
            }
        }
        _ => {}
    }
}

fn unique(items: &[Value], schema: &Schema, path: &Path, errors: &mut Errors) {
    let mut seen = HashSet::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match schema.list_type {
            ListType::Atomic => return,
            ListType::Set if !seen.insert(item.to_string()) => errors.duplicate(&path.index(index), item.clone()),
            ListType::Map if !seen.insert(key_of(item, schema.list_map_keys)) => {
                let key = |key: &&str| item.get(*key).map(|value| ((*key).to_owned(), value.clone()));
                let keys: Map<String, Value> = schema.list_map_keys.iter().filter_map(key).collect();
                errors.duplicate(&path.index(index), keys);
            }
            _ => {}
        }
    }
}

fn embedded(map: &Map<String, Value>, value: &Value, path: &Path, errors: &mut Errors) {
    for field in ["apiVersion", "kind"] {
        let path = path.child(field);
        match map.get(field) {
            None => errors.required(&path, "must not be empty"),
            Some(Value::String(text)) if text.is_empty() => errors.invalid(&path, "", "must not be empty"),
            Some(Value::String(text)) if field == "kind" => {
                let messages = validation::dns1035_label(&text.to_lowercase());
                if !messages.is_empty() {
                    let why = format!("may have mixed case, but should otherwise match: {}", messages.join(","));
                    errors.invalid(&path, text.as_str(), why);
                }
            }
            Some(Value::String(text)) if text.matches('/').count() > 1 => {
                errors.invalid(&path, text.as_str(), format!("unexpected GroupVersion string: {text}"));
            }
            Some(Value::String(_)) => {}
            Some(other) => errors.invalid(&path, other.clone(), "must be a string"),
        }
    }
    if !map.get("metadata").is_some_and(Value::is_object) {
        return;
    }
    let mut object = serde_json::json!({ "metadata": value.get("metadata") });
    if meta::name(&object).is_empty() {
        xebec_machinery::object::set_name(&mut object, "fakename");
    }
    let scope = if meta::namespace(&object).is_empty() { Scope::Cluster } else { Scope::Namespaced };
    let mut found = Errors::default();
    meta::validate(&object, scope, |name, _| validation::path_segment_name(name), &mut found);
    errors.0.extend(found.0.into_iter().map(|error| Error { field: format!("{path}.{}", error.field), ..error }));
}
