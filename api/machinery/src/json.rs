//! JSON as the API server reads it: strictly, noting every duplicate field.

mod fault;

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(String);

/// Parses one JSON value. Of duplicate fields the last wins; each is reported as upstream words it: `duplicate field "spec.replicas"`.
/// Nesting deeper than 128 is an error.
pub fn parse_strict(bytes: &[u8]) -> Result<(Value, Vec<String>), SyntaxError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut duplicates = Vec::new();
    let mut path = String::new();
    let seed = Strict { path: &mut path, duplicates: &mut duplicates };
    let value = seed.deserialize(&mut deserializer).map_err(|e| SyntaxError(fault::worded(bytes, &e)))?;
    deserializer.end().map_err(|e| SyntaxError(fault::worded(bytes, &e)))?;
    Ok((value, duplicates))
}

/// Whether the text is a JSON object, whatever is in it.
///
/// # Errors
/// Why it is none.
pub fn check_object(bytes: &[u8]) -> Result<(), SyntaxError> {
    let (value, _) = parse_strict(bytes)?;
    if value.is_object() { Ok(()) } else { Err(SyntaxError(mistyped(&value, "map[string]interface {}"))) }
}

/// What encoding/json says of a value that is not of a Go type.
pub fn mistyped(value: &Value, ty: &str) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {kind} into Go value of type {ty}")
}

/// Builds a [`Value`], keeping the path of where it is for the names of duplicate fields.
pub(crate) struct Strict<'a> {
    pub(crate) path: &'a mut String,
    pub(crate) duplicates: &'a mut Vec<String>,
}

impl Strict<'_> {
    fn reborrow(&mut self) -> Strict<'_> {
        Strict { path: self.path, duplicates: self.duplicates }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        use std::fmt::Write;
        let mut items = Vec::new();
        let base = self.path.len();
        loop {
            _ = write!(self.path, "[{}]", items.len());
            let item = seq.next_element_seed(self.reborrow())?;
            self.path.truncate(base);
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let base = self.path.len();
        while let Some(Key(key)) = access.next_key()? {
            if base > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            let value = access.next_value_seed(self.reborrow())?;
            if map.insert(key, value).is_some() {
                let found = format!("duplicate field \"{}\"", self.path);
                if !self.duplicates.contains(&found) {
                    self.duplicates.push(found);
                }
            }
            self.path.truncate(base);
        }
        Ok(Value::Object(map))
    }
}

/// The key of a member: a string in JSON; in YAML also a number or a boolean, which upstream turns into the string that was written.
struct Key(String);

impl<'de> de::Deserialize<'de> for Key {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor).map(Self)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, v: &str) -> Result<String, E> {
        Ok(v.to_owned())
    }

    fn visit_string<E>(self, v: String) -> Result<String, E> {
        Ok(v)
    }

    fn visit_bool<E>(self, v: bool) -> Result<String, E> {
        Ok(v.to_string())
    }

    fn visit_i64<E>(self, v: i64) -> Result<String, E> {
        Ok(v.to_string())
    }

    fn visit_u64<E>(self, v: u64) -> Result<String, E> {
        Ok(v.to_string())
    }

    fn visit_f64<E>(self, v: f64) -> Result<String, E> {
        Ok(v.to_string())
    }
}

#[cfg(test)]
mod tests;
