//! What the schema of a version may say (`ValidateCustomResourceDefinitionOpenAPISchema`).

use std::collections::HashSet;

use serde_json::Value;
use xebec_machinery::field::{Error, Path};
use xebec_registry::errors::Errors;
use xebec_registry::value::{at, boolean, entries, is_set, items, string, strings};

use super::cost::{self, Costs, Count};
use super::structural;
use crate::cel::Scope;
use crate::schema::{Additional, ListType, Schema, Type};
use crate::{prune, validate};

/// Deeper schemas are not compiled.
const DEPTH_MAX: usize = 120;

/// `before` is the schema that the version had, whose rules are not judged by what they cost again.
pub fn check(raw: &Value, before: Option<&Value>, path: &Path, errors: &mut Errors) {
    if is_deeper(raw, DEPTH_MAX) {
        return errors.invalid_whole(path, format!("must not be nested deeper than {DEPTH_MAX} levels"));
    }
    let found = errors.0.len();
    if boolean(raw, "nullable") {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    walk(raw, path, errors);
    structural::check(raw, path, errors);
    if errors.0.len() == found {
        let compiled = Schema::compile(raw);
        let costs = costs(&compiled, path, errors);
        // Judging is work: what was accepted is asked only when it matters.
        costs.check(path, errors, || before.map(|before| cost::of(before, path)));
        behaviour(&compiled, path, errors);
    }
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let children: Vec<&Value> = match value {
        Value::Object(map) => map.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => return false,
    };
    levels == 0 || children.into_iter().any(|child| is_deeper(child, levels - 1))
}

fn walk(raw: &Value, path: &Path, errors: &mut Errors) {
    for field in ["id", "$ref", "additionalItems", "patternProperties", "definitions", "dependencies"] {
        let set = match at(raw, field) {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(map) => !map.is_empty() || field == "additionalItems",
            _ => true,
        };
        if set {
            errors.forbidden(&path.child(field), format!("{field} is not supported"));
        }
    }
    if boolean(raw, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&path.child("uniqueItems"), why);
    }
    if at(raw, "items").is_array() {
        errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
    }
    check_type(raw, path, errors);
    if is_set(raw, "additionalProperties") && !entries(raw, "properties").collect::<Vec<_>>().is_empty() {
        let allows = at(raw, "additionalProperties").as_bool() == Some(true);
        if !allows {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.forbidden(&path.child("additionalProperties"), why);
        }
    }
    lists(raw, path, errors);
    if let Some(kind) = raw.get("x-kubernetes-map-type").and_then(Value::as_str) {
        if string(raw, "type") != "object" {
            let why = "must be object if x-kubernetes-map-type is specified";
            structural::type_problem(raw, path, why, errors);
        }
        if !["granular", "atomic"].contains(&kind) {
            errors.not_supported(&path.child("x-kubernetes-map-type"), kind, &["atomic", "granular"]);
        }
    }
    rules(raw, path, errors);
    for (child, at) in children(raw, path) {
        walk(child, &at, errors);
    }
}

fn check_type(raw: &Value, path: &Path, errors: &mut Errors) {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    match string(raw, "type") {
        "null" => errors.forbidden(&path.child("type"), "type cannot be set to null, use nullable as an alternative"),
        "" => {}
        name if !TYPES.contains(&name) => errors.not_supported(&path.child("type"), name, &TYPES),
        _ => {}
    }
}

/// Every schema inside another, with its path.
pub fn children<'a>(raw: &'a Value, path: &Path) -> Vec<(&'a Value, Path)> {
    let mut found: Vec<(&Value, Path)> =
        entries(raw, "properties").map(|(name, schema)| (schema, path.child("properties").key(name))).collect();
    for field in ["additionalProperties", "items", "not"] {
        if at(raw, field).is_object() {
            found.push((at(raw, field), path.child(field)));
        }
    }
    for field in ["allOf", "anyOf", "oneOf"] {
        let path = path.child(field);
        found.extend(items(raw, field).iter().enumerate().map(|(i, schema)| (schema, path.index(i))));
    }
    found
}

fn lists(raw: &Value, path: &Path, errors: &mut Errors) {
    const TYPE: &str = "x-kubernetes-list-type";
    const KEYS: &str = "x-kubernetes-list-map-keys";
    let kind = raw.get(TYPE).and_then(Value::as_str);
    if let Some(kind) = kind {
        if string(raw, "type") != "array" {
            structural::type_problem(raw, path, "must be array if x-kubernetes-list-type is specified", errors);
        }
        if !["atomic", "set", "map"].contains(&kind) {
            errors.not_supported(&path.child(TYPE), kind, &["atomic", "map", "set"]);
        }
    }
    let keys: Vec<&str> = strings(raw, KEYS).collect();
    if !keys.is_empty() && kind != Some("map") {
        match kind {
            None => errors.required(&path.child(TYPE), "must be map if x-kubernetes-list-map-keys is non-empty"),
            Some(kind) => {
                errors.invalid(&path.child(TYPE), kind, "must be map if x-kubernetes-list-map-keys is non-empty");
            }
        }
    }
    if kind != Some("map") {
        return;
    }
    if keys.is_empty() {
        return errors.required(&path.child(KEYS), "must not be empty if x-kubernetes-list-type is map");
    }
    let item = at(raw, "items");
    if string(item, "type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        structural::type_problem(item, &path.child("items"), why, errors);
    }
    let mut seen = HashSet::new();
    for (index, key) in keys.iter().enumerate() {
        let at_key = path.child(KEYS).index(index);
        if !seen.insert(key) {
            errors.duplicate(&at_key, *key);
        }
        let Some(property) = at(item, "properties").get(*key) else {
            errors.invalid(&at_key, *key, "entries must all be names of item properties");
            continue;
        };
        let property_path = path.child("items").child("properties").key(key);
        if ["array", "object"].contains(&string(property, "type")) {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.invalid(&property_path.child("type"), string(property, "type"), why);
        }
        if boolean(property, "nullable") {
            errors.forbidden(
                &property_path.child("nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            );
        }
        if !is_set(property, "default") && !strings(item, "required").any(|name| name == *key) {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&property_path.child("default"), why);
        }
    }
}

fn rules(raw: &Value, path: &Path, errors: &mut Errors) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    for (index, rule) in items(raw, "x-kubernetes-validations").iter().enumerate() {
        let path = path.child("x-kubernetes-validations").index(index);
        let text = string(rule, "rule");
        if text.trim().is_empty() {
            errors.required(&path.child("rule"), "rule is not specified");
        }
        let message = string(rule, "message");
        if is_set(rule, "message") && message.trim().is_empty() {
            errors.invalid(&path.child("message"), message, "message must be non-empty if specified");
        } else if message.trim().contains('\n') {
            errors.invalid(&path.child("message"), message, "message must not contain line breaks");
        } else if text.trim().contains('\n') && message.is_empty() {
            errors.required(&path.child("message"), "message must be specified if rule contains line breaks");
        }
        if is_set(rule, "messageExpression") && string(rule, "messageExpression").trim().is_empty() {
            errors.required(&path.child("messageExpression"), "must be non-empty if specified");
        }
        let reason = string(rule, "reason");
        if !reason.is_empty() && !REASONS.contains(&reason) {
            errors.not_supported(&path.child("reason"), reason, &REASONS);
        }
    }
}

/// What the rules of a schema cost; those that do not fit their schemas are refused.
pub fn costs(schema: &Schema, path: &Path, errors: &mut Errors) -> Costs {
    let mut costs = Costs::default();
    rules_below(
        &Place { schema, count: Count::AtMost(1), is_root: true, uncorrelated: None },
        path,
        &mut costs,
        errors,
    );
    costs
}

/// Where a schema is in the schema of the resource.
struct Place<'a> {
    schema: &'a Schema,
    count: Count,
    is_root: bool,
    /// The list whose items cannot be told to be those of before.
    uncorrelated: Option<&'a Path>,
}

fn rules_below(place: &Place<'_>, path: &Path, costs: &mut Costs, errors: &mut Errors) {
    let Place { schema, count, is_root, .. } = *place;
    if !schema.has_rules {
        return;
    }
    for (index, rule) in schema.rules.iter().enumerate() {
        let path = path.child("x-kubernetes-validations").index(index);
        let scope = Scope { schema, is_root, optional_old_self: rule.optional_old_self };
        let (judged, message) = rule.judge(scope);
        match judged {
            Ok(cost) => costs.rule(&path, &rule.text, cost, schema, count),
            Err(why) => errors.invalid(&path.child("rule"), rule.shown(), why),
        }
        match message {
            None => {}
            Some(Ok(cost)) => costs.message(&path, &rule.message_expression, cost),
            Some(Err(why)) => errors.invalid(&path.child("messageExpression"), rule.shown(), why),
        }
        match place.uncorrelated {
            Some(list) if rule.is_transition() => {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
                errors.invalid(&path.child("rule"), rule.text.as_str(), why);
            }
            _ if rule.optional_old_self && !rule.is_transition() => {
                let why = "may not be set if oldSelf is not used in rule";
                errors.invalid(&path.child("optionalOldSelf"), true, why);
            }
            _ => {}
        }
    }
    let below = |schema: &'_ Schema| Count::below(count, schema);
    let uncorrelated = match schema.ty {
        Some(Type::Array) if schema.list_type != ListType::Map => place.uncorrelated.or(Some(path)),
        _ => place.uncorrelated,
    };
    for (child, path) in compiled_children(schema, path) {
        let place = Place { schema: child, count: below(schema), is_root: false, uncorrelated };
        rules_below(&place, &path, costs, errors);
    }
}

fn compiled_children<'a>(schema: &'a Schema, path: &Path) -> Vec<(&'a Schema, Path)> {
    let fields = schema.properties.iter().map(|(name, child)| (child, path.child("properties").key(name)));
    let additional = match &schema.additional {
        Additional::Schema(child) => Some((&**child, path.child("additionalProperties"))),
        _ => None,
    };
    fields.chain(additional).chain(schema.items.as_deref().map(|child| (child, path.child("items")))).collect()
}

/// Whether defaults fit their schemas.
fn behaviour(schema: &Schema, path: &Path, errors: &mut Errors) {
    if let Some(default) = &schema.default {
        check_default(default, schema, &path.child("default"), errors);
    }
    for (child, path) in compiled_children(schema, path) {
        behaviour(child, &path, errors);
    }
}

fn check_default(default: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    let mut pruned = default.clone();
    if !prune::prune_value(&mut pruned, schema).is_empty() {
        errors.invalid(path, default.clone(), "must not have unknown fields");
    }
    let mut filled = default.clone();
    crate::default::apply(&mut filled, schema);
    let found = validate::check(&filled, None, schema).into_iter().chain(validate::identities(&filled, None, schema));
    let prefixed = |error: Error| {
        let field = match error.field.as_str() {
            "<nil>" => path.to_string(),
            below => format!("{path}.{below}"),
        };
        Error { field, ..error }
    };
    errors.0.extend(found.map(prefixed));
}
