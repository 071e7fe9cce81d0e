//! Checks of names and values that several kinds share, in the words of apimachinery's `util/validation`.

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::value::{at, integer, string};

pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub const POSITIVE: &str = "must be greater than zero";
pub const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
const ENV: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
const DATA_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const DATA_KEY_MAX: usize = 253;

pub fn subdomain(path: &Path, value: &str, errors: &mut Errors) {
    errors.invalid_each(path, &json!(value), validation::dns1123_subdomain(value));
}

pub fn label(path: &Path, value: &str, errors: &mut Errors) {
    errors.invalid_each(path, &json!(value), validation::dns1123_label(value));
}

/// `ValidateLabelName`.
pub fn label_name(path: &Path, value: &str, errors: &mut Errors) {
    errors.invalid_each(path, &json!(value), validation::qualified_name(value));
}

pub fn port_number(path: &Path, port: i64, errors: &mut Errors) {
    errors.invalid_each(path, &json!(port), validation::port_num(port));
}

/// `ValidatePortNumOrName`: an IntOrString port.
pub fn port_or_name(path: &Path, port: &Value, errors: &mut Errors) {
    match port {
        Value::String(name) => errors.invalid_each(path, port, validation::port_name(name)),
        port => port_number(path, port.as_i64().unwrap_or(0), errors),
    }
}

/// An integer field that must not be negative.
pub fn not_negative(object: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if let Some(value) = integer(object, field).filter(|value| *value < 0) {
        errors.invalid(&path.child(field), value, NOT_NEGATIVE);
    }
}

pub fn required(object: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if string(object, field).is_empty() {
        errors.required(&path.child(field), "");
    }
}

/// A Unix user or group id.
pub fn id(object: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if let Some(value) = integer(object, field).filter(|value| !(0..=i64::from(i32::MAX)).contains(value)) {
        errors.invalid(&path.child(field), value, ID_RANGE);
    }
}

/// `IsRelaxedEnvVarName`.
pub fn env_var(path: &Path, name: &str, errors: &mut Errors) {
    if !name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        errors.invalid(path, name, ENV);
    }
}

pub fn http_header(path: &Path, name: &str, errors: &mut Errors) {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        errors.invalid(path, name, HEADER);
    }
}

/// `IsConfigMapKey`: a key of a ConfigMap or Secret.
pub fn data_key_errors(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > DATA_KEY_MAX {
        errors.push(format!("must be no more than {DATA_KEY_MAX} bytes"));
    }
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        errors.push(DATA_KEY.to_owned());
    } else if key == "." {
        errors.push("must not be '.'".to_owned());
    } else if key == ".." {
        errors.push("must not be '..'".to_owned());
    } else if key.starts_with("..") {
        errors.push("must not start with '..'".to_owned());
    }
    errors
}

/// `ValidatePathSegmentName`, for kinds whose names are otherwise free (RBAC).
pub fn path_segment_errors(name: &str, prefix: bool) -> Vec<String> {
    let mut errors = Vec::new();
    if !prefix && (name == "." || name == "..") {
        errors.push(format!("may not be '{name}'"));
    }
    errors.extend(['/', '%'].iter().filter(|c| name.contains(**c)).map(|c| format!("may not contain '{c}'")));
    errors
}

/// A percentage such as `25%`, as a number.
pub fn percent(text: &str) -> Option<i64> {
    text.strip_suffix('%')
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))?
        .parse()
        .ok()
}

/// `ValidateTaintEffect` and its like: the supported effects.
pub const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Whether an IP is written as one; kinds of issue with their legacy forms are accepted by neither Go nor us.
pub fn is_ip(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// The object reference's required `name`.
pub fn reference_name(reference: &Value, path: &Path, errors: &mut Errors) {
    if at(reference, "name").as_str().unwrap_or("").is_empty() {
        errors.required(&path.child("name"), "");
    }
}
