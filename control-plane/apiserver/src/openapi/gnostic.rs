//! Swagger 2.0 as protobuf: the `openapi.v2.Document` of google/gnostic (`openapiv2/OpenAPIv2.proto`), which kubectl before 1.33 asks for.
//!
//! Every message of that schema is a row of fields, so the document is encoded by walking its JSON along the rows.

use serde_json::Value;

/// What a member of a JSON object becomes.
enum Kind {
    Text,
    /// A list of strings; a single string counts as a list of one.
    Texts,
    Flag,
    Integer,
    Double,
    /// `Any`: the value as YAML, of which JSON is a part.
    Any,
    Anys,
    Message(&'static Message),
    Messages(&'static Message),
    /// A map, as a message with pairs of name and message in its first field.
    Map(&'static Message),
    /// A message wrapped in the first field of another, which has no other fields set.
    Boxed(&'static Message),
    /// `TypeItem`: a message of strings.
    TypeItem,
    /// `AdditionalPropertiesItem`: a schema or a boolean.
    Additional,
    /// `ParametersItem`s.
    Parameters,
}

use Kind::{
    Additional, Any, Anys, Boxed, Double, Flag, Integer, Map, Message as One, Messages, Parameters, Text, Texts,
    TypeItem,
};

struct Message {
    fields: &'static [(&'static str, u32, Kind)],
    /// The field of members whose name starts with `x-`.
    extensions: u32,
    /// The field of all other members, as pairs of name and message.
    others: Option<(u32, Kind)>,
}

const fn message(fields: &'static [(&'static str, u32, Kind)], extensions: u32) -> Message {
    Message { fields, extensions, others: None }
}

static DOCUMENT: Message = message(
    &[
        ("swagger", 1, Text),
        ("info", 2, One(&INFO)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Texts),
        ("consumes", 6, Texts),
        ("produces", 7, Texts),
        ("paths", 8, One(&PATHS)),
        ("definitions", 9, Map(&SCHEMA)),
    ],
    16,
);

static INFO: Message = message(&[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], 7);

static PATHS: Message = Message { fields: &[], extensions: 1, others: Some((2, One(&PATH_ITEM))) };

static PATH_ITEM: Message = message(
    &[
        ("$ref", 1, Text),
        ("get", 2, One(&OPERATION)),
        ("put", 3, One(&OPERATION)),
        ("post", 4, One(&OPERATION)),
        ("delete", 5, One(&OPERATION)),
        ("options", 6, One(&OPERATION)),
        ("head", 7, One(&OPERATION)),
        ("patch", 8, One(&OPERATION)),
        ("parameters", 9, Parameters),
    ],
    10,
);

static OPERATION: Message = message(
    &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Parameters),
        ("responses", 9, One(&RESPONSES)),
        ("schemes", 10, Texts),
        ("deprecated", 11, Flag),
    ],
    13,
);

/// `Responses`: each a `ResponseValue`, whose first field is the response.
static RESPONSES: Message = Message { fields: &[], extensions: 2, others: Some((1, Boxed(&RESPONSE))) };

/// The schema is a `SchemaItem`, whose first field it is.
static RESPONSE: Message = message(&[("description", 1, Text), ("schema", 2, Boxed(&SCHEMA))], 5);

static BODY_PARAMETER: Message = message(
    &[("description", 1, Text), ("name", 2, Text), ("in", 3, Text), ("required", 4, Flag), ("schema", 5, One(&SCHEMA))],
    6,
);

static QUERY_PARAMETER: Message = message(
    &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Flag),
        ("type", 6, Text),
        ("format", 7, Text),
        ("default", 10, Any),
        ("uniqueItems", 20, Flag),
        ("enum", 21, Anys),
    ],
    23,
);

/// Of header parameters too.
static PATH_PARAMETER: Message = message(
    &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("default", 9, Any),
        ("uniqueItems", 19, Flag),
        ("enum", 20, Anys),
    ],
    22,
);

static SCHEMA: Message = message(
    &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Double),
        ("maximum", 7, Double),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Double),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Integer),
        ("minLength", 12, Integer),
        ("pattern", 13, Text),
        ("maxItems", 14, Integer),
        ("minItems", 15, Integer),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Integer),
        ("minProperties", 18, Integer),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, Additional),
        ("type", 22, TypeItem),
        ("items", 23, Boxed(&SCHEMA)),
        ("allOf", 24, Messages(&SCHEMA)),
        ("properties", 25, Map(&SCHEMA)),
        ("discriminator", 26, Text),
        ("readOnly", 27, Flag),
        ("example", 30, Any),
    ],
    31,
);

/// The document as protobuf.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    fields(&mut out, &DOCUMENT, document);
    out
}

fn fields(out: &mut Vec<u8>, message: &Message, value: &Value) {
    let Some(members) = value.as_object() else { return };
    for (name, value) in members {
        if let Some((_, number, kind)) = message.fields.iter().find(|(known, ..)| known == name) {
            field(out, *number, kind, value);
        } else if name.starts_with("x-") {
            pair(out, message.extensions, name, &Any, value);
        } else if let Some((number, kind)) = &message.others {
            pair(out, *number, name, kind, value);
        }
    }
}

/// A `Named…` message: a name, and a value of the kind.
fn pair(out: &mut Vec<u8>, number: u32, name: &str, kind: &Kind, value: &Value) {
    nested(out, number, |out| {
        bytes(out, 1, name.as_bytes());
        field(out, 2, kind, value);
    });
}

fn field(out: &mut Vec<u8>, number: u32, kind: &Kind, value: &Value) {
    let each = || value.as_array().into_iter().flatten();
    match kind {
        Text => bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Texts => texts(out, number, value),
        Flag => varint(out, number, u64::from(value.as_bool().unwrap_or_default())),
        Integer => varint(out, number, value.as_u64().unwrap_or_default()),
        Double => {
            key(out, number, 1);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        Any => nested(out, number, |out| bytes(out, 2, value.to_string().as_bytes())),
        Anys => each().for_each(|value| field(out, number, &Any, value)),
        One(message) => nested(out, number, |out| fields(out, message, value)),
        Messages(message) => each().for_each(|value| nested(out, number, |out| fields(out, message, value))),
        Map(message) => nested(out, number, |out| {
            for (name, value) in value.as_object().into_iter().flatten() {
                nested(out, 1, |out| {
                    bytes(out, 1, name.as_bytes());
                    nested(out, 2, |out| fields(out, message, value));
                });
            }
        }),
        Boxed(message) => nested(out, number, |out| nested(out, 1, |out| fields(out, message, value))),
        TypeItem => nested(out, number, |out| texts(out, 1, value)),
        Additional => nested(out, number, |out| match value {
            Value::Bool(flag) => varint(out, 2, u64::from(*flag)),
            schema => nested(out, 1, |out| fields(out, &SCHEMA, schema)),
        }),
        Parameters => each().for_each(|value| parameter(out, number, value)),
    }
}

/// `ParametersItem` of a `Parameter` of a `BodyParameter` or a `NonBodyParameter` of one of four.
fn parameter(out: &mut Vec<u8>, number: u32, value: &Value) {
    let (place, message) = match value.get("in").and_then(Value::as_str) {
        Some("body") => (None, &BODY_PARAMETER),
        Some("header") => (Some(1), &PATH_PARAMETER),
        Some("path") => (Some(4), &PATH_PARAMETER),
        _ => (Some(3), &QUERY_PARAMETER),
    };
    nested(out, number, |out| {
        nested(out, 1, |out| match place {
            None => nested(out, 1, |out| fields(out, message, value)),
            Some(place) => nested(out, 2, |out| nested(out, place, |out| fields(out, message, value))),
        });
    });
}

fn texts(out: &mut Vec<u8>, number: u32, value: &Value) {
    match value {
        Value::String(text) => bytes(out, number, text.as_bytes()),
        list => list.as_array().into_iter().flatten().for_each(|text| texts(out, number, text)),
    }
}

fn nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(out, number, &inner);
}

fn bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    key(out, number, 2);
    number_of(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, number: u32, value: u64) {
    key(out, number, 0);
    number_of(out, value);
}

fn key(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    number_of(out, u64::from(number << 3 | wire_type));
}

#[allow(clippy::cast_possible_truncation)] // Seven bits at a time.
fn number_of(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
