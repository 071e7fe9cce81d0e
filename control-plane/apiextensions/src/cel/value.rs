//! Values as rules see them (`apiextensions-apiserver/pkg/apiserver/schema/cel/values.go`).

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use kube_cel::cel::Value as CelValue;
use kube_cel::cel::objects::{Key, Map, OptionalValue};
use serde_json::Value;
use xebec_machinery::duration;

use crate::schema::{Schema, Type};

/// Words of the language, which as names of fields are spelled `__word__`.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A field's name as rules spell it; none if they cannot.
pub fn escape(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let escaped = name
        .replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__");
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    let valid = escaped.starts_with(is_start) && escaped.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    valid.then_some(escaped)
}

pub fn optional(value: Option<CelValue>) -> CelValue {
    CelValue::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}

/// A value of a schema; without one, as the JSON says.
pub fn of(value: &Value, schema: Option<&Schema>) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(b) => CelValue::Bool(*b),
        Value::Number(number) => {
            let is_double = schema.is_some_and(|s| s.ty == Some(Type::Number));
            match (number.as_i64(), is_double) {
                (Some(integer), false) => CelValue::Int(integer),
                _ => CelValue::Float(number.as_f64().unwrap_or(f64::NAN)),
            }
        }
        Value::String(text) => string(text, schema.map_or("", |s| &s.checks.format)),
        Value::Array(list) => {
            let schema = schema.and_then(|s| s.items.as_deref());
            CelValue::List(Arc::new(list.iter().map(|item| of(item, schema)).collect()))
        }
        Value::Object(members) => {
            let mut map = HashMap::with_capacity(members.len());
            for (name, member) in members {
                let is_key = schema.is_some_and(|s| s.is_map() && !s.properties.contains_key(name));
                let spelled = if is_key { Some(name.clone()) } else { escape(name) };
                let Some(spelled) = spelled else { continue };
                let schema = schema.and_then(|s| s.member(name));
                map.insert(Key::String(Arc::new(spelled)), of(member, schema));
            }
            CelValue::Map(Map { map: Arc::new(map) })
        }
    }
}

fn string(text: &str, format: &str) -> CelValue {
    let plain = || CelValue::String(Arc::new(text.to_owned()));
    match format {
        "date-time" => chrono::DateTime::parse_from_rfc3339(text).map_or_else(|_| plain(), CelValue::Timestamp),
        "date" => {
            let midnight = format!("{text}T00:00:00Z");
            chrono::DateTime::parse_from_rfc3339(&midnight).map_or_else(|_| plain(), CelValue::Timestamp)
        }
        "duration" => duration::parse(text)
            .map_or_else(|_| plain(), |nanos| CelValue::Duration(chrono::Duration::nanoseconds(nanos))),
        "byte" => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_or_else(|_| plain(), |bytes| CelValue::Bytes(Arc::new(bytes))),
        _ => plain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_upstream_does() {
        let check = |name: &str, expected: Option<&str>| assert_eq!(escape(name).as_deref(), expected, "{name}");
        check("a_b", Some("a_b"));
        check("a__b", Some("a__underscores__b"));
        check("namespace", Some("__namespace__"));
        check("x-y.z/w", Some("x__dash__y__dot__z__slash__w"));
        check("1a", None);
        check("a$b", None);
    }
}
