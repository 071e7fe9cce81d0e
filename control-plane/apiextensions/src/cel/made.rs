//! How much memory values take. The interpreter copies them; what a rule makes of them is bounded in bytes, as units do not
//! measure it everywhere: upstream's interpreter shares what this one copies.

use std::sync::Arc;

use kube_cel::cel::extractors::{Arguments, This};
use kube_cel::cel::objects::{Key, OptionalValue};
use kube_cel::cel::{Context, ExecutionError, Value};

use super::Budget;

/// `@made(value)`: the value, once the room for it is there.
pub const MADE: &str = "@made";
/// A value, and the place where it is.
const VALUE_BYTES: usize = 48;

/// The bytes that a value takes, roughly.
pub fn weight(value: &Value) -> usize {
    let key = |key: &Key| match key {
        Key::String(text) => VALUE_BYTES + text.len(),
        _ => VALUE_BYTES,
    };
    VALUE_BYTES
        + match value {
            Value::List(items) => items.iter().map(weight).sum(),
            Value::Map(map) => map.map.iter().map(|(k, v)| key(k) + weight(v)).sum(),
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Opaque(_) => match <&OptionalValue>::try_from(value) {
                Ok(optional) => optional.value().map_or(0, weight),
                Err(_) => 0,
            },
            _ => 0,
        }
}

/// The functions whose results may be much larger than what they are given, and [`MADE`].
pub fn add_to(context: &mut Context<'_>, budget: &Budget) {
    let room = budget.clone();
    context.add_function(MADE, move |value: Value| room.make(weight(&value)).map(|()| value));
    let room = budget.clone();
    context.add_function("join", move |This(items): This<Arc<Vec<Value>>>, Arguments(given): Arguments| {
        join(&items, &given, &room)
    });
    let room = budget.clone();
    context.add_function("replace", move |This(text): This<Arc<String>>, Arguments(given): Arguments| {
        replace(&text, &given, &room)
    });
}

fn join(items: &[Value], given: &[Value], room: &Budget) -> Result<Value, ExecutionError> {
    let texts: Option<Vec<&str>> = items.iter().map(text).collect();
    let separator = match given {
        [] => Some(""),
        [separator] => text(separator),
        _ => None,
    };
    let (Some(texts), Some(separator)) = (texts, separator) else { return Err(ExecutionError::NoSuchOverload) };
    let length: usize = texts.iter().map(|text| text.len()).sum();
    room.make(length.saturating_add(separator.len().saturating_mul(texts.len())))?;
    Ok(texts.join(separator).into())
}

/// As Go's `strings.Replace`: no count and a negative one mean all.
fn replace(subject: &str, given: &[Value], room: &Budget) -> Result<Value, ExecutionError> {
    let (old, new, count) = match given {
        [old, new] => (text(old), text(new), -1),
        [old, new, Value::Int(count)] => (text(old), text(new), *count),
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    let (Some(old), Some(new)) = (old, new) else { return Err(ExecutionError::NoSuchOverload) };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let found = subject.matches(old).take(count).count();
    room.make(subject.len().saturating_add(found.saturating_mul(new.len())))?;
    Ok(subject.replacen(old, new, count).into())
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
