//! Checks of names and values that several kinds share, in the words of apimachinery's `util/validation`.

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::value::{at, integer, string};

pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub const POSITIVE: &str = "must be greater than zero";
pub const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const ENV: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";

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
    errors.invalid_each(path, &json!(name), validation::http_header_name(name));
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

/// `IsValidPathSegmentName`, of a field.
pub fn path_segment_name(path: &Path, name: &str, errors: &mut Errors) {
    errors.invalid_each(path, &json!(name), validation::path_segment_name(name));
}

/// `IsDomainPrefixedPath`: `acme.io/foo`.
pub fn domain_prefixed_path(path: &Path, text: &str, errors: &mut Errors) {
    match text.split_once('/') {
        _ if text.is_empty() => errors.required(path, ""),
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            let messages = validation::dns1123_subdomain(domain);
            errors.invalid_each(path, &json!(domain), messages.into_iter().map(|m| format!("prefix part {m}")));
            let known = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/".contains(&b);
            if !rest.bytes().all(known) {
                let message = validation::regex_error("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]);
                errors.invalid(path, rest, message);
            }
        }
        _ => errors.invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

/// A percentage such as `25%`, as a number.
pub fn percent(text: &str) -> Option<i64> {
    text.strip_suffix('%')
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))?
        .parse()
        .ok()
}

/// `ValidatePositiveIntOrPercent`.
pub fn int_or_percent(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(text) => errors.invalid_each(path, value, validation::percent(text)),
        Value::Number(count) if count.as_i64().is_some_and(|count| count < 0) => {
            errors.invalid(path, value.clone(), NOT_NEGATIVE);
        }
        _ => {}
    }
}

/// `IsNotMoreThan100Percent`.
pub fn at_most_100_percent(value: &Value, path: &Path, errors: &mut Errors) {
    if value.as_str().and_then(percent).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// `getIntOrPercentValue`: the number, whichever of the two it is.
pub fn int_or_percent_value(value: &Value) -> i64 {
    value.as_str().map_or_else(|| value.as_i64(), percent).unwrap_or(0)
}

/// A name that becomes part of pods' names should be a label, though it need not (`pkg/registry/apps/*/strategy.go`).
pub fn pod_name_warning(object: &Value) -> Option<String> {
    let messages = validation::dns1123_label(string(object, "metadata.name"));
    (!messages.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
            messages.join(" ")
        )
    })
}

/// `ValidateTaintEffect` and its like: the supported effects.
pub const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Whether the text is an address.
pub fn is_ip(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// The object reference's required `name`.
pub fn reference_name(reference: &Value, path: &Path, errors: &mut Errors) {
    if at(reference, "name").as_str().unwrap_or("").is_empty() {
        errors.required(&path.child("name"), "");
    }
}
