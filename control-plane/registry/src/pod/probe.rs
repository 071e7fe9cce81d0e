//! Probes and lifecycle handlers.

use serde_json::Value;
use xebec_machinery::field::Path;

use crate::errors::Errors;
use crate::names::{http_header, not_negative, port_or_name, required};
use crate::value::{at, integer, is_set, items, string};

/// The three probes of a container and its lifecycle, for containers that may have them.
pub fn validate(container: &Value, grace_seconds: i64, path: &Path, errors: &mut Errors) {
    for hook in ["postStart", "preStop"] {
        let found = at(at(container, "lifecycle"), hook);
        if !found.is_null() {
            handler(found, grace_seconds, &path.child("lifecycle").child(hook), errors);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let found = at(container, name);
        if !found.is_null() {
            probe(found, name, grace_seconds, &path.child(name), errors);
        }
    }
}

fn probe(probe: &Value, name: &str, grace_seconds: i64, path: &Path, errors: &mut Errors) {
    handler(probe, grace_seconds, path, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        not_negative(probe, field, path, errors);
    }
    if let Some(seconds) = integer(probe, "terminationGracePeriodSeconds") {
        let path = path.child("terminationGracePeriodSeconds");
        if name == "readinessProbe" {
            errors.invalid(&path, seconds, "must not be set for readinessProbes");
        } else if seconds <= 0 {
            errors.invalid(&path, seconds, "must be greater than 0");
        }
    }
    let threshold = integer(probe, "successThreshold").unwrap_or(0);
    if name != "readinessProbe" && threshold != 1 {
        errors.invalid(&path.child("successThreshold"), threshold, "must be 1");
    }
}

/// `validateHandler`: exactly one action.
fn handler(handler: &Value, grace_seconds: i64, path: &Path, errors: &mut Errors) {
    let mut handlers = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        if !is_set(handler, kind) {
            continue;
        }
        let (action, path) = (at(handler, kind), path.child(kind));
        if handlers > 0 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        handlers += 1;
        match kind {
            "exec" if items(action, "command").is_empty() => errors.required(&path.child("command"), ""),
            "exec" => {}
            "httpGet" => http_get(action, &path, errors),
            "sleep" => sleep(action, grace_seconds, &path, errors),
            _ => port_or_name(&path.child("port"), at(action, "port"), errors),
        }
    }
    if handlers == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(action: &Value, path: &Path, errors: &mut Errors) {
    required(action, "path", path, errors);
    port_or_name(&path.child("port"), at(action, "port"), errors);
    let scheme = string(action, "scheme");
    if !["HTTP", "HTTPS"].contains(&scheme) {
        errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in items(action, "httpHeaders") {
        http_header(&path.child("httpHeaders"), string(header, "name"), errors);
    }
}

fn sleep(action: &Value, grace_seconds: i64, path: &Path, errors: &mut Errors) {
    let seconds = integer(action, "seconds").unwrap_or(0);
    if seconds < 0 || seconds > grace_seconds {
        errors.invalid(
            path,
            seconds,
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})"),
        );
    }
}
