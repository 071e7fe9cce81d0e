//! Scalars: whether a JSON value fits, and its canonical form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use xebec_machinery::{Quantity, time};

use crate::Type;

pub(super) enum Error {
    /// The JSON value is of another type.
    Mismatch,
    /// The type's own decoder refuses the value.
    Message(String),
}

pub(super) fn check(ty: Type, value: &mut Value) -> Result<(), Error> {
    let fits = match ty {
        Type::String => value.is_string(),
        Type::Bool => value.is_boolean(),
        Type::Int32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Type::Int64 => value.is_i64(),
        Type::Double => value.is_number(),
        Type::Bytes => return bytes(value),
        Type::Quantity => return quantity(value),
        Type::IntOrString => return int_or_string(value),
        Type::Time | Type::MicroTime => return timestamp(value, ty == Type::MicroTime),
        _ => true,
    };
    if fits { Ok(()) } else { Err(Error::Mismatch) }
}

fn bytes(value: &mut Value) -> Result<(), Error> {
    let text = value.as_str().ok_or(Error::Mismatch)?;
    // Go's decoder skips line breaks, which multi-line YAML brings.
    if text.contains(['\n', '\r']) {
        *value = text.replace(['\n', '\r'], "").into();
    }
    let text = value.as_str().unwrap_or_default();
    STANDARD.decode(text).map(drop).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(length) => length,
            base64::DecodeError::InvalidPadding => text.len(),
        };
        Error::Message(format!("illegal base64 data at input byte {at}"))
    })
}

fn quantity(value: &mut Value) -> Result<(), Error> {
    let parsed: Result<Quantity, _> = match *value {
        Value::String(ref text) => text.parse(),
        ref other => other.to_string().parse(),
    };
    let quantity = parsed.map_err(|e| Error::Message(e.to_string()))?;
    let canonical = quantity.to_string();
    if value.as_str() != Some(&canonical) {
        *value = canonical.into();
    }
    Ok(())
}

fn int_or_string(value: &Value) -> Result<(), Error> {
    let found = match value {
        Value::String(_) => return Ok(()),
        Value::Number(n) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => return Ok(()),
        Value::Number(n) => format!("number {n}"),
        Value::Bool(_) => "bool".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) | Value::Null => "object".into(),
    };
    Err(Error::Message(format!("json: cannot unmarshal {found} into Go value of type int32")))
}

fn timestamp(value: &mut Value, micro: bool) -> Result<(), Error> {
    let Value::String(text) = value else {
        return Err(Error::Message(format!("json: cannot unmarshal {} into Go value of type string", name(value))));
    };
    let Some(at) = time::parse(text) else {
        let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
        return Err(Error::Message(format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")));
    };
    let canonical = if micro { time::rfc3339_micro(at) } else { time::rfc3339(at) };
    if *text != canonical {
        *text = canonical;
    }
    Ok(())
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Array(_) => "array",
        _ => "object",
    }
}
