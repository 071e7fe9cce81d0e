//! Structural schemas: what is specified is specified outside of the logic of `allOf` and the like (`apiserver/schema/validation.go`, `complete.go`).

use serde_json::{Map, Value, json};
use xebec_machinery::field::Path;
use xebec_registry::errors::Errors;
use xebec_registry::value::{at, boolean, entries, items, string};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

pub fn check(raw: &Value, path: &Path, errors: &mut Errors) {
    let mut found = Errors::default();
    invariants(raw, Level::Root, path, &mut found);
    completeness(raw, path, &mut found);
    found.0.sort_by_key(ToString::to_string);
    errors.0.extend(found.0);
}

/// `type` is missing or another: upstream tells the two apart.
pub fn type_problem(raw: &Value, path: &Path, why: &str, errors: &mut Errors) {
    match string(raw, "type") {
        "" => errors.required(&path.child("type"), why),
        name => errors.invalid(&path.child("type"), name, why),
    }
}

fn invariants(raw: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let (kind, embedded) = (string(raw, "type"), boolean(raw, "x-kubernetes-embedded-resource"));
    let preserve = boolean(raw, "x-kubernetes-preserve-unknown-fields");
    let int_or_string = boolean(raw, "x-kubernetes-int-or-string");
    if kind == "array" && !at(raw, "items").is_object() {
        errors.required(&path.child("items"), "must be specified");
    }
    below(raw, level, path, errors);
    for (field, set) in
        [("x-kubernetes-preserve-unknown-fields", preserve), ("x-kubernetes-embedded-resource", embedded)]
    {
        if int_or_string && set {
            errors.invalid(&path.child(field), true, "must be false if x-kubernetes-int-or-string is true");
        }
    }
    logic(raw, is_int_or_string(at(raw, "anyOf")), is_int_or_string(at(&first(raw, "allOf"), "anyOf")), path, errors);
    if embedded && kind != "object" {
        type_problem(raw, path, "must be object if x-kubernetes-embedded-resource is true", errors);
    } else if kind.is_empty() && !int_or_string && !preserve {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.required(&path.child("type"), why);
    }
    if embedded && at(raw, "additionalProperties").is_object() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.forbidden(&path.child("additionalProperties"), why);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(&path.child("type"), kind, "must be object at the root");
    }
    metadata(raw, level, path, errors);
    if embedded && !preserve && entries(raw, "properties").next().is_none() {
        let why =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), why);
    }
}

fn below(raw: &Value, level: Level, path: &Path, errors: &mut Errors) {
    if at(raw, "items").is_object() {
        invariants(at(raw, "items"), Level::Item, &path.child("items"), errors);
    }
    for (name, property) in entries(raw, "properties") {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    let additional = at(raw, "additionalProperties");
    if additional.is_null() {
        return;
    }
    let path = path.child("additionalProperties");
    if level == Level::Root {
        errors.forbidden(&path, "must not be used at the root");
    }
    if additional.is_object() {
        invariants(additional, Level::Field, &path, errors);
    }
}

fn first(raw: &Value, field: &str) -> Value {
    items(raw, field).first().cloned().unwrap_or(Value::Null)
}

fn is_int_or_string(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

/// Restricts what is said of the type fields of an object.
fn metadata(raw: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let resource = level == Level::Root || boolean(raw, "x-kubernetes-embedded-resource");
    if !resource {
        return;
    }
    let properties = at(raw, "properties");
    for field in ["kind", "apiVersion"] {
        if let Some(schema) = properties.get(field).filter(|s| string(s, "type") != "string") {
            let path = path.child("properties").key(field).child("type");
            errors.invalid(&path, string(schema, "type"), "must be string");
        }
    }
    let Some(schema) = properties.get("metadata") else { return };
    let path = path.child("properties").key("metadata");
    if string(schema, "type") != "object" {
        errors.invalid(&path.child("type"), string(schema, "type"), "must be object");
    }
    let plain = |name: &String| ["type", "description", "properties", "default"].contains(&name.as_str());
    let fields = schema.as_object().into_iter().flat_map(Map::keys);
    let named = entries(schema, "properties").all(|(name, _)| ["name", "generateName"].contains(&name.as_str()));
    if level == Level::Root && !(fields.cloned().collect::<Vec<_>>().iter().all(plain) && named) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(&path, why);
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not` below a schema; the two ways to spell int-or-string are let through.
fn logic(raw: &Value, skip_any: bool, skip_first_all: bool, path: &Path, errors: &mut Errors) {
    for field in ["anyOf", "allOf", "oneOf"] {
        if field == "anyOf" && skip_any {
            continue;
        }
        for (index, nested) in items(raw, field).iter().enumerate() {
            let skip = field == "allOf" && index == 0 && skip_first_all;
            restricted(nested, skip, &path.child(field).index(index), errors);
        }
    }
    if at(raw, "not").is_object() {
        restricted(at(raw, "not"), false, &path.child("not"), errors);
    }
    let pattern = string(raw, "pattern");
    if let Err(why) = crate::schema::regex(pattern) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.invalid(&path.child("pattern"), pattern, why);
    }
}

/// A schema that may only restrict values, not describe them.
fn restricted(raw: &Value, skip_any: bool, path: &Path, errors: &mut Errors) {
    logic(raw, skip_any, false, path, errors);
    if at(raw, "items").is_object() {
        restricted(at(raw, "items"), false, &path.child("items"), errors);
    }
    for (name, property) in entries(raw, "properties") {
        restricted(property, false, &path.child("properties").key(name), errors);
    }
    const FORBIDDEN: [(&str, &str); 14] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("externalDocs", "must be undefined to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    for (field, why) in FORBIDDEN {
        let set = match at(raw, field) {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        };
        if set {
            errors.forbidden(&path.child(field), why);
        }
    }
    if at(raw, "properties").get("metadata").is_some() {
        let path = path.child("properties").key("metadata");
        errors.forbidden(&path, "must not be specified in a nested context");
    }
}

/// Whatever logic restricts must be specified outside of it.
fn completeness(raw: &Value, path: &Path, errors: &mut Errors) {
    for field in ["anyOf", "allOf", "oneOf"] {
        for (index, nested) in items(raw, field).iter().enumerate() {
            specified(nested, raw, path, &path.child(field).index(index), errors);
        }
    }
    if at(raw, "not").is_object() {
        specified(at(raw, "not"), raw, path, &path.child("not"), errors);
    }
    for (child, path) in super::schema::children(raw, path) {
        let logical = ["anyOf", "allOf", "oneOf", "not"].iter().any(|f| {
            path.as_str().rsplit('.').next().is_some_and(|last| last == *f || last.starts_with(&format!("{f}[")))
        });
        if !logical {
            completeness(child, &path, errors);
        }
    }
}

fn specified(nested: &Value, raw: &Value, path: &Path, nested_path: &Path, errors: &mut Errors) {
    let mut missing = |path: &Path| errors.required(path, format!("because it is defined in {nested_path}"));
    if at(nested, "items").is_object() && !at(raw, "items").is_object() {
        missing(&path.child("items"));
    }
    for (name, _) in entries(nested, "properties") {
        let open = boolean(raw, "x-kubernetes-preserve-unknown-fields") && at(raw, "properties").is_null();
        if at(raw, "properties").get(name).is_none() && !open {
            missing(&path.child("properties").key(name));
        }
    }
    for (name, property) in entries(nested, "properties") {
        if let Some(outer) = at(raw, "properties").get(name) {
            let key = |path: &Path| path.child("properties").key(name);
            specified(property, outer, &key(path), &key(nested_path), errors);
        }
    }
    if at(nested, "items").is_object() && at(raw, "items").is_object() {
        let (inner, outer) = (at(nested, "items"), at(raw, "items"));
        specified(inner, outer, &path.child("items"), &nested_path.child("items"), errors);
    }
    for field in ["anyOf", "allOf", "oneOf"] {
        for (index, deeper) in items(nested, field).iter().enumerate() {
            specified(deeper, raw, path, &nested_path.child(field).index(index), errors);
        }
    }
}
