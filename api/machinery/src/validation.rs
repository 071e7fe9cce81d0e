//! Checks of single values, each answering with apimachinery's messages (`util/validation`); no message means valid.

use std::net::IpAddr;

mod name;

pub use name::*;

pub const DNS1123_LABEL_MAX: usize = 63;
pub const DNS1123_SUBDOMAIN_MAX: usize = 253;

type Messages = Vec<String>;

pub(crate) fn one(ok: bool, message: impl FnOnce() -> String) -> Messages {
    if ok { Vec::new() } else { vec![message()] }
}

pub fn max_len_error(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

pub fn inclusive_range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// The message of a value that must match a regular expression.
pub fn regex_error(message: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{regex}')");
    }
    // The comma before each "or" is upstream's.
    let examples = examples.iter().map(|e| format!("'{e}', ")).collect::<Vec<_>>().join(" or ");
    format!("{message} (e.g. {examples}regex used for validation is '{regex}')")
}

pub fn in_range(value: i64, low: i64, high: i64) -> Messages {
    one((low..=high).contains(&value), || inclusive_range_error(low, high))
}

pub fn port_num(port: i64) -> Messages {
    in_range(port, 1, 65535)
}

pub fn non_negative(value: i64) -> Messages {
    one(value >= 0, || "must be greater than or equal to 0".to_owned())
}

pub fn ip(text: &str) -> Messages {
    one(text.parse::<IpAddr>().is_ok(), || "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned())
}

/// An address and a prefix length; bits behind the prefix may be set, as upstream allows.
pub fn cidr(text: &str) -> Messages {
    let valid = text.split_once('/').is_some_and(|(address, length)| {
        let max = match address.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        let canonical = length == "0" || !length.starts_with(['0', '+']);
        canonical && length.parse::<u8>().is_ok_and(|l| l <= max)
    });
    one(valid, || "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned())
}

/// `15%`.
pub fn percent(text: &str) -> Messages {
    let valid = text.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    one(valid, || {
        regex_error(
            "a valid percent string must be a numeric string followed by an ending '%'",
            "[0-9]+%",
            &["1%", "93%"],
        )
    })
}

pub fn env_var_name(name: &str) -> Messages {
    const REGEX: &str = "[ -<>-~]+";
    let valid = !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    one(valid, || {
        regex_error(
            "a valid environment variable name must consist only of printable ASCII characters other than '='",
            REGEX,
            &[],
        )
    })
}

/// The key of a ConfigMap or Secret: it becomes a file name.
pub fn config_map_key(key: &str) -> Messages {
    let mut messages = one(key.len() <= DNS1123_SUBDOMAIN_MAX, || max_len_error(DNS1123_SUBDOMAIN_MAX));
    let valid = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    messages.extend(one(valid, || {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        regex_error(message, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"])
    }));
    match key {
        "." => messages.push("must not be '.'".into()),
        ".." => messages.push("must not be '..'".into()),
        _ if key.starts_with("..") => messages.push("must not start with '..'".into()),
        _ => {}
    }
    messages
}

pub fn http_header_name(name: &str) -> Messages {
    let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    one(valid, || {
        regex_error(
            "a valid HTTP header must consist of alphanumeric characters or '-'",
            "[-A-Za-z0-9]+",
            &["X-Header-Name"],
        )
    })
}

/// A name that may be any segment of a path, as RBAC objects have.
pub fn path_segment_name(name: &str) -> Messages {
    match name {
        "." | ".." => vec![format!("may not be '{name}'")],
        _ => ["/", "%"].iter().filter(|c| name.contains(**c)).map(|c| format!("may not contain '{c}'")).collect(),
    }
}

#[cfg(test)]
mod tests;
