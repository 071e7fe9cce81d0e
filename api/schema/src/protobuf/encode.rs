//! JSON values to protobuf messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use xebec_machinery::time;

use super::{Error, Writer};
use crate::{Alternative, DefId, Field, Type, schema};

pub(super) fn object(def: DefId, value: &Value, out: &mut Writer) -> Result<(), Error> {
    let Value::Object(map) = value else { return Err(unfit("an object", value)) };
    let mut embedded: Vec<(&Field, &Value)> = Vec::new();
    let definition = schema().definition(def);
    for (name, value) in map {
        match definition.field(name) {
            _ if value.is_null() => {}
            Some(field) if field.proto[1] != 0 => embedded.push((field, value)),
            Some(field) if field.proto[0] != 0 => self::value(field.ty, field.proto[0], value, out)?,
            // Either unknown, or without a protobuf form.
            _ => {}
        }
    }
    embedded.sort_by_key(|(field, _)| field.proto);
    nested(&embedded, 0, out)
}

/// Writes fields of embedded messages, those of one message together. `fields` are sorted by their numbers.
fn nested(fields: &[(&Field, &Value)], depth: usize, out: &mut Writer) -> Result<(), Error> {
    for group in fields.chunk_by(|a, b| a.0.proto[depth] == b.0.proto[depth]) {
        let [first, ..] = group else { continue };
        let tag = first.0.proto[depth];
        if first.0.proto.get(depth + 1).is_none_or(|next| *next == 0) {
            self::value(first.0.ty, tag, first.1, out)?;
        } else {
            out.message(tag, |out| nested(group, depth + 1, out))?;
        }
    }
    Ok(())
}

fn value(ty: Type, tag: u16, value: &Value, out: &mut Writer) -> Result<(), Error> {
    match ty {
        Type::String => out.bytes(tag, text(value)?.as_bytes()),
        Type::Bytes => {
            let bytes = STANDARD.decode(text(value)?).map_err(|_| unfit("base64", value))?;
            out.bytes(tag, &bytes);
        }
        Type::Bool => out.varint(tag, value.as_bool().ok_or_else(|| unfit("a boolean", value))?.into()),
        Type::Int32 | Type::Int64 => out.int(tag, value.as_i64().ok_or_else(|| unfit("an integer", value))?),
        Type::Double => out.double(tag, value.as_f64().ok_or_else(|| unfit("a number", value))?),
        Type::Time | Type::MicroTime => {
            let at = time::parse(text(value)?).ok_or_else(|| unfit("a time", value))?;
            let (seconds, nanos) = time::to_unix(at);
            out.message(tag, |out| {
                out.int(1, seconds);
                out.int(2, nanos.into());
                Ok(())
            })?;
        }
        Type::Quantity => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            message(tag, out, |out| out.bytes(1, text.as_bytes()))?;
        }
        Type::IntOrString => match value {
            Value::String(text) => message(tag, out, |out| {
                out.varint(1, 1);
                out.varint(2, 0);
                out.bytes(3, text.as_bytes());
            })?,
            number => {
                let number = number.as_i64().ok_or_else(|| unfit("an integer or a string", value))?;
                message(tag, out, |out| {
                    out.varint(1, 0);
                    out.int(2, number);
                    out.bytes(3, b"");
                })?;
            }
        },
        Type::RawExtension | Type::FieldsV1 | Type::Json => {
            let json = value.to_string();
            message(tag, out, |out| out.bytes(1, json.as_bytes()))?;
        }
        Type::WrappedStrings => out.message(tag, |out| list(Type::String, 1, value, out))?,
        Type::Object(def) => out.message(tag, |out| object(def, value, out))?,
        Type::List(item) => list(*item, tag, value, out)?,
        Type::Map(item) => {
            let Value::Object(entries) = value else { return Err(unfit("an object", value)) };
            map(*item, tag, entries, out)?;
        }
        Type::Or(def, other) => out.message(tag, |out| either(def, other, value, out))?,
        Type::Any => {}
    }
    Ok(())
}

/// As Go's struct of both; one of them is set (`apiextensions/v1/generated.proto`).
fn either(def: DefId, other: Alternative, value: &Value, out: &mut Writer) -> Result<(), Error> {
    match (other, value) {
        (Alternative::Bool, Value::Bool(allows)) => out.varint(1, (*allows).into()),
        (Alternative::Bool, schema) => {
            out.varint(1, 1);
            out.message(2, |out| object(def, schema, out))?;
        }
        (Alternative::List, Value::Array(_)) => list(Type::Object(def), 2, value, out)?,
        (Alternative::Strings, Value::Array(_)) => list(Type::String, 2, value, out)?,
        (_, schema) => out.message(1, |out| object(def, schema, out))?,
    }
    Ok(())
}

fn list(item: Type, tag: u16, value: &Value, out: &mut Writer) -> Result<(), Error> {
    let Value::Array(items) = value else { return Err(unfit("an array", value)) };
    items.iter().try_for_each(|value| self::value(item, tag, value, out))
}

fn map(item: Type, tag: u16, entries: &Map<String, Value>, out: &mut Writer) -> Result<(), Error> {
    entries.iter().try_for_each(|(key, value)| {
        out.message(tag, |out| {
            out.bytes(1, key.as_bytes());
            self::value(item, 2, value, out)
        })
    })
}

fn message(tag: u16, out: &mut Writer, write: impl FnOnce(&mut Writer)) -> Result<(), Error> {
    out.message(tag, |out| {
        write(out);
        Ok(())
    })
}

fn text(value: &Value) -> Result<&str, Error> {
    value.as_str().ok_or_else(|| unfit("a string", value))
}

fn unfit(expected: &str, value: &Value) -> Error {
    Error::Value(format!("cannot encode {value} as {expected}"))
}
