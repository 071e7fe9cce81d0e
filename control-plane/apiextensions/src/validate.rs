//! Validation of values against a schema, with the messages of kube-openapi's validator as `apiserver/validation` turns them into field errors.
//!
//! An update tolerates what was wrong before: what did not change is not checked again (KEP-4008).

mod format;
mod identity;

use serde_json::Value;
use xebec_machinery::field::{Error, ErrorKind, Path};

use crate::correlate;
use crate::schema::{Checks, Schema, Type};

pub use identity::check as identities;

/// What is wrong with `new`, given what it replaces.
pub fn check(new: &Value, old: Option<&Value>, schema: &Schema) -> Vec<Error> {
    let mut found = Found::default();
    validate(new, old, schema, "", &mut found);
    found.errors
}

#[derive(Default)]
struct Found {
    errors: Vec<Error>,
    /// How much of the value a schema recognized, to tell which alternative was meant.
    matched: usize,
}

impl Found {
    fn push(&mut self, error: Error) {
        self.errors.push(error);
    }

    fn invalid(&mut self, path: &str, value: &Value, why: &str) {
        self.push(Error::invalid(&Path::new(path), value.clone(), format!("{path} in body {why}")));
    }

    /// An alternative that is not met has no field of its own: upstream's error names none.
    fn composite(&mut self, path: &str, why: &str) {
        self.push(Error::invalid(&Path::root(), "", format!("{path:?} {why}")));
    }

    fn merge(&mut self, other: Self) {
        self.errors.extend(other.errors);
        self.matched += other.matched;
    }
}

fn validate(new: &Value, old: Option<&Value>, schema: &Schema, path: &str, found: &mut Found) {
    if old.is_some_and(|old| old == new) {
        return;
    }
    if new.is_null() && schema.nullable {
        return;
    }
    let before = found.errors.len();
    check_type(new, schema, path, found);
    alternatives(new, schema, path, found);
    match new {
        Value::String(text) => string(new, text, &schema.checks, path, found),
        Value::Number(_) => number(new, &schema.checks, path, found),
        Value::Array(items) => array(items, old, schema, path, found),
        Value::Object(_) => object(new, old, schema, path, found),
        _ => {}
    }
    if let Some(allowed) = &schema.checks.enumeration
        && !allowed.iter().any(|value| value == new || (value.is_number() && value.as_f64() == new.as_f64()))
    {
        let names: Vec<String> =
            allowed.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        found.push(Error::not_supported(&Path::new(path), new.clone(), &names));
    }
    if found.errors.len() == before {
        found.matched += 1;
    }
}

fn check_type(new: &Value, schema: &Schema, path: &str, found: &mut Found) {
    let actual = type_name(new);
    let wanted = match schema.ty {
        None if schema.int_or_string => match actual {
            "integer" | "string" => return,
            _ => "integer,string",
        },
        None => return,
        Some(wanted) if wanted.name() == actual => return,
        Some(Type::Number) if actual == "integer" => return,
        Some(wanted) => wanted.name(),
    };
    // The value that the message shows is the name of its type.
    let why = format!("{path} in body must be of type {wanted}: {actual:?}");
    found.push(Error { kind: ErrorKind::TypeInvalid, ..Error::invalid(&Path::new(path), actual, why) });
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() && n.as_f64().is_some_and(|n| n.fract() != 0.0) => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn alternatives(new: &Value, schema: &Schema, path: &str, found: &mut Found) {
    let try_one = |schema: &Schema| {
        let mut found = Found::default();
        validate(new, None, schema, path, &mut found);
        found
    };
    let checks = &schema.checks;
    if !checks.any_of.is_empty() {
        best_of(checks.any_of.iter().map(try_one), |valid, best| {
            if valid == 0 {
                found.composite(path, "must validate at least one schema (anyOf)");
                found.errors.extend(best);
            }
        });
    }
    if !checks.one_of.is_empty() {
        best_of(checks.one_of.iter().map(try_one), |valid, best| match valid {
            1 => {}
            0 => {
                found.composite(path, "must validate one and only one schema (oneOf). Found none valid");
                found.errors.extend(best);
            }
            many => {
                let why = format!("must validate one and only one schema (oneOf). Found {many} valid alternatives");
                found.composite(path, &why);
            }
        });
    }
    let failures: Vec<Found> = checks.all_of.iter().map(try_one).filter(|f| !f.errors.is_empty()).collect();
    if !failures.is_empty() {
        let none = if failures.len() == checks.all_of.len() { ". None validated" } else { "" };
        failures.into_iter().for_each(|failure| found.merge(failure));
        found.composite(path, &format!("must validate all the schemas (allOf){none}"));
    }
    if checks.not.as_deref().is_some_and(|schema| try_one(schema).errors.is_empty()) {
        found.composite(path, "must not validate the schema (not)");
    }
}

/// How many alternatives hold, and the errors of the one that came closest.
fn best_of(tried: impl Iterator<Item = Found>, answer: impl FnOnce(usize, Vec<Error>)) {
    let mut valid = 0;
    let mut best: Option<Found> = None;
    for found in tried {
        if found.errors.is_empty() {
            valid += 1;
        } else if best.as_ref().is_none_or(|best| found.matched > best.matched) {
            best = Some(found);
        }
    }
    answer(valid, best.map(|found| found.errors).unwrap_or_default());
}

fn string(new: &Value, text: &str, checks: &Checks, path: &str, found: &mut Found) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        found.push(Error::too_long(&Path::new(path), usize::try_from(max).unwrap_or(0)));
    }
    if let Some(min) = checks.min_length.filter(|min| length < *min) {
        found.invalid(path, new, &format!("should be at least {min} chars long"));
    }
    if let Some(pattern) = &checks.pattern
        && !pattern.regex.as_ref().is_some_and(|regex| regex.is_match(text))
    {
        found.invalid(path, new, &format!("should match '{}'", pattern.text));
    }
    if !format::matches(&checks.format, text) {
        found.invalid(path, new, &format!("must be of type {}: {text:?}", checks.format));
    }
}

fn number(new: &Value, checks: &Checks, path: &str, found: &mut Found) {
    let Some(number) = new.as_f64() else { return };
    if let Some((max, exclusive)) = checks.maximum {
        if exclusive && number >= max {
            found.invalid(path, new, &format!("should be less than {max}"));
        } else if number > max {
            found.invalid(path, new, &format!("should be less than or equal to {max}"));
        }
    }
    if let Some((min, exclusive)) = checks.minimum {
        if exclusive && number <= min {
            found.invalid(path, new, &format!("should be greater than {min}"));
        } else if number < min {
            found.invalid(path, new, &format!("should be greater than or equal to {min}"));
        }
    }
    if let Some(factor) = checks.multiple_of.filter(|f| *f > 0.0)
        && (number / factor).fract() != 0.0
    {
        found.invalid(path, new, &format!("should be a multiple of {factor}"));
    }
    let in_range = match (checks.format.as_str(), new.as_i64()) {
        ("int32", Some(n)) => i32::try_from(n).is_ok(),
        ("int32" | "int64", None) => !new.is_u64() && number.abs() < 9.3e18,
        _ => true,
    };
    if !in_range {
        found.invalid(path, new, &format!("must be of type {}: \"{new}\"", checks.format));
    }
}

fn array(items: &[Value], old: Option<&Value>, schema: &Schema, path: &str, found: &mut Found) {
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(min) = schema.checks.min_items.filter(|min| count < *min) {
        found.invalid(path, &Value::from(items), &format!("should have at least {min} items"));
    }
    if let Some(max) = schema.checks.max_items.filter(|max| count > *max) {
        found.push(Error::too_many(&Path::new(path), items.len(), usize::try_from(max).unwrap_or(0)));
        return;
    }
    let Some(item_schema) = &schema.items else { return };
    let old_items = correlate::items(old, schema);
    for (index, item) in items.iter().enumerate() {
        validate(item, old_items.get(item, index), item_schema, &format!("{path}[{index}]"), found);
    }
}

fn object(new: &Value, old: Option<&Value>, schema: &Schema, path: &str, found: &mut Found) {
    let Value::Object(map) = new else { return };
    let count = i64::try_from(map.len()).unwrap_or(i64::MAX);
    if let Some(min) = schema.checks.min_properties.filter(|min| count < *min) {
        found.invalid(path, new, &format!("should have at least {min} properties"));
    }
    if let Some(max) = schema.checks.max_properties.filter(|max| count > *max) {
        found.push(Error::too_many(&Path::new(path), map.len(), usize::try_from(max).unwrap_or(0)));
        return;
    }
    let child = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for name in schema.checks.required.iter().filter(|name| !map.contains_key(*name)) {
        found.push(Error::required(&Path::new(&child(name)), ""));
    }
    for (name, member) in map {
        let Some(member_schema) = schema.member(name) else { continue };
        let old = old.and_then(|old| old.get(name));
        validate(member, old, member_schema, &child(name), found);
    }
}
