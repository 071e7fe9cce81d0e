//! The body of a write: read, of the right kind, and strict as far as the client asked for.

pub mod kind;

use bytes::Bytes;
use serde_json::Value;
use xebec_machinery::{GroupVersionKind, Status, json, object, yaml};
use xebec_schema::DefId;

use self::kind::Mismatch;
use super::Call;
use crate::negotiate::{self, Format};
use crate::options::FieldValidation;
use crate::wire;

/// An object of kind `expected` from the body.
pub fn object(
    call: &Call,
    body: &Bytes,
    expected: &GroupVersionKind,
    definition: Option<DefId>,
    validation: FieldValidation,
) -> Result<Value, Status> {
    let format = negotiate::content_type(&call.headers)?;
    if format == Format::Protobuf && is_custom(call, expected) {
        return Err(Status::unsupported_media_type(&negotiate::UNTYPED));
    }
    if format == Format::Protobuf
        && let Ok(given) = xebec_schema::protobuf::kind_of(body)
    {
        of_kind(call, body, (&given.api_version(), &given.kind), expected)?;
    }
    let (mut value, duplicates) = parse(body, format, &expected.kind)?;
    of_kind(call, body, (object::api_version(&value), object::kind(&value)), expected)?;
    let kind = Some(object::kind(&value)).filter(|kind| !kind.is_empty()).unwrap_or(&expected.kind).to_owned();
    object::set_type(&mut value, &expected.api_version(), &kind);
    if is_custom(call, expected) {
        kind::custom_kind(&call.resource, &value)?;
    }
    strict(call, &mut value, expected, definition, duplicates, validation)?;
    Ok(value)
}

/// What upstream reads from every body first.
const META: &str =
    "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";

fn parse(body: &Bytes, format: Format, kind: &str) -> Result<(Value, Vec<String>), Status> {
    let no_type = |why: &str| unrecognized(body, kind, &format!("couldn't get version/kind; json parse error: {why}"));
    let decoded = wire::decode(body, format).map_err(|status| match (status.code, format) {
        (400, Format::Json) => no_type(&status.message),
        (400, _) => unrecognized(body, kind, &status.message),
        _ => status,
    })?;
    if !decoded.value.is_object() {
        return Err(no_type(&json::mistyped(&decoded.value, META)));
    }
    Ok((decoded.value, decoded.duplicates))
}

fn unrecognized(body: &[u8], kind: &str, why: &str) -> Status {
    let summary = summary(body);
    Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why} ({summary})"))
}

/// The beginning of a body, in hexadecimal if it does not look like JSON (`summarizeData`).
fn summary(body: &[u8]) -> String {
    const MOST: usize = 30;
    let (shown, rest) = if body.len() > MOST { (&body[..MOST], " ...") } else { (body, "") };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{rest}", String::from_utf8_lossy(shown)),
        Some(_) => format!("{}{rest}", shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// Refuses an object of another type: `given` is what it says of its version and kind.
fn of_kind(call: &Call, body: &[u8], given: (&str, &str), expected: &GroupVersionKind) -> Result<(), Status> {
    let unrecognized = |why: &str| unrecognized(body, &expected.kind, why);
    // A Go type knows its kind; a custom resource has to say it.
    let is_custom = is_custom(call, expected);
    if is_custom && given.1.is_empty() {
        let body = String::from_utf8_lossy(body);
        return Err(unrecognized(&format!("Object 'Kind' is missing in '{body}'")));
    }
    let given = if is_custom { kind::stated(given) } else { kind::or_expected(given, expected) };
    let given = given.map_err(|why| unrecognized(&why))?;
    let fits = if is_custom { kind::custom } else { kind::built_in };
    fits(&given, expected).map_err(|mismatch| match mismatch {
        Mismatch::Version => kind::other_version(&given, expected),
        Mismatch::Unfit(why) => {
            let GroupVersionKind { version, kind, .. } = &given;
            let expected = &expected.kind;
            Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {expected}: {why}"))
        }
    })
}

/// Whether what is expected is the custom resource that the path is of.
fn is_custom(call: &Call, expected: &GroupVersionKind) -> bool {
    call.resource.as_custom().is_some() && *expected == call.resource.gvk
}

/// Unknown and duplicate fields: an error, a warning or nothing, as asked. Wrong types are always an error.
pub fn strict(
    call: &Call,
    value: &mut Value,
    kind: &GroupVersionKind,
    definition: Option<DefId>,
    duplicates: Vec<String>,
    validation: FieldValidation,
) -> Result<(), Status> {
    let handled = |why: &str| {
        let (kind, version) = (&kind.kind, &kind.version);
        Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
    };
    let custom = call.resource.as_custom().filter(|_| definition.is_none() && *kind == call.resource.gvk);
    let mut found = match custom {
        Some(custom) => custom.decode(value).map_err(|why| handled(&why))?,
        None => unknown(value, definition).map_err(|why| handled(&why))?,
    };
    // The parser of YAML complains before the decoder of its type, that of JSON after.
    let at = if duplicates.iter().any(|report| yaml::is_line(report)) { 0 } else { found.len() };
    found.splice(at..at, duplicates);
    if found.is_empty() {
        return Ok(());
    }
    match validation {
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            found.into_iter().for_each(|text| call.warn(text));
            Ok(())
        }
        FieldValidation::Strict => Err(handled(&format!("strict decoding error: {}", yaml::strict_error(&found)))),
    }
}

/// The fields of `value` that its definition does not have, which go; an error for a value of the wrong type.
pub fn unknown(value: &mut Value, definition: Option<DefId>) -> Result<Vec<String>, String> {
    match definition {
        Some(definition) => xebec_schema::decode::check(definition, value).map_err(|why| why.to_string()),
        None => Ok(Vec::new()),
    }
}

/// The optional body of a DELETE.
pub fn delete_options(call: &Call, body: &Bytes) -> Result<Value, Status> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let format = negotiate::content_type(&call.headers)?;
    let (value, _) = parse(body, format, "DeleteOptions")?;
    match object::kind(&value) {
        "" | "DeleteOptions" => Ok(value),
        other => Err(Status::bad_request(format!("decoded object cannot be converted to DeleteOptions: {other}"))),
    }
}
