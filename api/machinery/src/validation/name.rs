//! Names: DNS labels and subdomains, qualified names, label values, port names.

use super::{DNS1123_LABEL_MAX, DNS1123_SUBDOMAIN_MAX, Messages, max_len_error, one, regex_error};

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Not empty; `edge` holds for the first and last byte, `inner` for the rest.
fn shaped(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [only] => edge(*only),
        [first, middle @ .., last] => edge(*first) && edge(*last) && middle.iter().all(|b| inner(*b)),
    }
}

fn is_label(text: &str) -> bool {
    shaped(text, is_lower_alnum, |b| is_lower_alnum(b) || b == b'-')
}

fn is_qualified(text: &str) -> bool {
    shaped(text, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The length and the shape, each with its message.
fn bounded(text: &str, max: usize, shape: bool, message: impl FnOnce() -> String) -> Messages {
    let mut messages = one(text.len() <= max, || max_len_error(max));
    messages.extend(one(shape, message));
    messages
}

/// A name of most namespaced things: `my-name`.
pub fn dns1123_label(name: &str) -> Messages {
    bounded(name, DNS1123_LABEL_MAX, is_label(name), || {
        let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
        regex_error(message, LABEL, &["my-name", "123-abc"])
    })
}

/// A name of one or more labels: `example.com`.
pub fn dns1123_subdomain(name: &str) -> Messages {
    bounded(name, DNS1123_SUBDOMAIN_MAX, name.split('.').all(is_label), || {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        regex_error(message, &format!("{LABEL}(\\.{LABEL})*"), &["example.com"])
    })
}

/// A subdomain whose first label may be `*`.
pub fn wildcard_dns1123_subdomain(name: &str) -> Messages {
    let shape = name.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_label));
    bounded(name, DNS1123_SUBDOMAIN_MAX, shape, || {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        regex_error(message, &format!("\\*\\.{LABEL}(\\.{LABEL})*"), &["*.example.com"])
    })
}

/// A name of a Service: a label that starts with a letter.
pub fn dns1035_label(name: &str) -> Messages {
    let shape = is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase());
    bounded(name, DNS1123_LABEL_MAX, shape, || {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        regex_error(message, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"])
    })
}

/// A label key, annotation key, condition type, finalizer: `example.com/MyName`, `MyName`.
pub fn qualified_name(text: &str) -> Messages {
    let parts: Vec<&str> = text.split('/').collect();
    let (prefix, name) = match parts[..] {
        [name] => (None, name),
        [prefix, name] => (Some(prefix), name),
        _ => {
            let message = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
            let message = regex_error(message, QUALIFIED, &["MyName", "my.name", "123-abc"]);
            return vec![message + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"];
        }
    };
    let mut messages = Vec::new();
    match prefix {
        None => {}
        Some("") => messages.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => messages.extend(dns1123_subdomain(prefix).into_iter().map(|m| format!("prefix part {m}"))),
    }
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    }
    let shape = bounded(name, DNS1123_LABEL_MAX, is_qualified(name), || {
        let message = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        regex_error(message, QUALIFIED, &["MyName", "my.name", "123-abc"])
    });
    messages.extend(shape.into_iter().map(|m| format!("name part {m}")));
    messages
}

/// As [`qualified_name`], but the prefix is demanded: a condition or a finalizer of a third party.
pub fn domain_prefixed(text: &str) -> bool {
    text.contains('/') && qualified_name(text).is_empty()
}

pub fn label_value(value: &str) -> Messages {
    bounded(value, DNS1123_LABEL_MAX, value.is_empty() || is_qualified(value), || {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        regex_error(message, &format!("({QUALIFIED})?"), &["MyValue", "my_value", "12345"])
    })
}

/// The name of a container's port (an IANA service name).
pub fn port_name(name: &str) -> Messages {
    let mut messages = one(name.len() <= 15, || max_len_error(15));
    let mut check = |ok: bool, message: &str| messages.extend(one(ok, || message.to_owned()));
    let charset = !name.is_empty() && name.bytes().all(|b| is_lower_alnum(b) || b == b'-');
    check(charset, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    check(name.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)");
    check(!name.contains("--"), "must not contain consecutive hyphens");
    check(!name.starts_with('-') && !name.ends_with('-'), "must not begin or end with a hyphen");
    messages
}
