//! Types as values, which the interpreter does not have: `type(x)`, the names of types, and the conversion `bool(x)`.

use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::cel::objects::{Key, Map, Opaque};
use kube_cel::cel::{Context, ExecutionError, Value};

/// Names of types that stand for themselves in an expression; those of protobuf are below `google`.
pub const NAMES: [&str; 11] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "optional_type", "string", "type", "uint"];
const TIMESTAMP: &str = "google.protobuf.Timestamp";
const DURATION: &str = "google.protobuf.Duration";

#[derive(Clone, PartialEq, Eq, Debug)]
struct Type(String);

impl Opaque for Type {
    fn runtime_type_name(&self) -> &str {
        "type"
    }
}

pub fn add_to(context: &mut Context<'_>) {
    NAMES.into_iter().for_each(|name| context.add_variable_from_value(name, value(name)));
    let protobuf = object([("Timestamp", value(TIMESTAMP)), ("Duration", value(DURATION))]);
    context.add_variable_from_value("google", object([("protobuf", protobuf)]));
    context.add_function("type", |of: Value| Ok::<Value, ExecutionError>(value(name(&of))));
    context.add_function("bool", |from: Value| to_bool(&from));
}

fn value(name: &str) -> Value {
    Value::Opaque(Arc::new(Type(name.to_owned())))
}

fn name(value: &Value) -> &str {
    match value {
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Function(..) => "function",
        Value::Int(_) => "int",
        Value::UInt(_) => "uint",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::Bool(_) => "bool",
        Value::Duration(_) => DURATION,
        Value::Timestamp(_) => TIMESTAMP,
        Value::Opaque(opaque) => opaque.runtime_type_name(),
        Value::Null => "null_type",
    }
}

/// The words that Go's `strconv.ParseBool` takes.
fn to_bool(from: &Value) -> Result<Value, ExecutionError> {
    let is = match from {
        Value::Bool(is) => Some(*is),
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        },
        _ => None,
    };
    is.map(Value::Bool).ok_or_else(|| ExecutionError::function_error("bool", "type conversion error"))
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.map(|(name, value)| (Key::String(Arc::new(name.to_owned())), value));
    Value::Map(Map { map: Arc::new(HashMap::from(members)) })
}
