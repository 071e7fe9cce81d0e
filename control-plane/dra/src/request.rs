//! What a claim asks for: `validateDeviceClaim`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_registry::errors::Errors;
use xebec_registry::names;
use xebec_registry::value::{at, default, integer, is_set, items, items_mut, string};

use crate::set::{list, set};
use crate::{limits, name, selector, taint};

const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
const UNKNOWN: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// `SetDefaults_ExactDeviceRequest`, `SetDefaults_DeviceSubRequest` and `SetDefaults_DeviceToleration`, of a claim's `spec`.
pub fn defaults(spec: &mut Value) {
    for request in items_mut(spec, "devices.requests") {
        if let Some(exactly) = request.get_mut("exactly").filter(|exactly| exactly.is_object()) {
            one(exactly);
        }
        items_mut(request, "firstAvailable").for_each(one);
    }
}

fn one(request: &mut Value) {
    default(request, "allocationMode", "ExactCount");
    if string(request, "allocationMode") == "ExactCount" && integer(request, "count").unwrap_or(0) == 0 {
        request["count"] = json!(1);
    }
    items_mut(request, "tolerations").for_each(|toleration| default(toleration, "operator", "Equal"));
}

/// The requests of a claim, each with its subrequests.
pub struct Names<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Names<'a> {
    pub fn of(spec: &'a Value) -> Self {
        let subs = |request| items(request, "firstAvailable").iter().map(|sub| string(sub, "name")).collect();
        Self(items(spec, "devices.requests").iter().map(|request| (string(request, "name"), subs(request))).collect())
    }

    /// `validateRequestNameRef`: `request` or `request/subrequest`.
    pub fn check(&self, reference: &str, path: &Path, errors: &mut Errors) {
        let parts: Vec<&str> = reference.split('/').collect();
        if parts.len() > 2 {
            return errors.invalid(path, reference, UNKNOWN);
        }
        parts.iter().for_each(|part| name::label(path, part, errors));
        let known = match parts[..] {
            [request] => self.0.contains_key(request),
            [request, sub] => self.0.get(request).is_some_and(|subs| subs.contains(&sub)),
            _ => false,
        };
        if !known {
            errors.invalid(path, reference, UNKNOWN);
        }
    }

    /// The `requests` of a constraint or a configuration.
    pub fn check_list(&self, of: &Value, path: &Path, errors: &mut Errors) {
        let path = path.child("requests");
        set(items(of, "requests"), limits::REQUESTS_MAX, &path, errors, Value::clone, |reference, path, errors| {
            self.check(reference.as_str().unwrap_or(""), path, errors);
        });
    }
}

/// `validateResourceClaimSpec`.
pub fn spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let (devices, path, names) = (at(spec, "devices"), path.child("devices"), Names::of(spec));
    let by_name = |request: &Value| json!(string(request, "name"));
    set(items(devices, "requests"), limits::REQUESTS_MAX, &path.child("requests"), errors, by_name, request);
    let constraints = items(devices, "constraints");
    list(constraints, limits::CONSTRAINTS_MAX, &path.child("constraints"), errors, |constraint, path, errors| {
        names.check_list(constraint, path, errors);
        let path = path.child("matchAttribute");
        match at(constraint, "matchAttribute").as_str() {
            Some(attribute) => name::fully_qualified(&path, attribute, errors),
            None => errors.required(&path, ""),
        }
    });
    list(items(devices, "config"), limits::CONFIG_MAX, &path.child("config"), errors, |entry, path, errors| {
        names.check_list(entry, path, errors);
        config(entry, path, errors);
    });
}

/// `validateDeviceRequest`.
fn request(request: &Value, path: &Path, errors: &mut Errors) {
    name::label(&path.child("name"), string(request, "name"), errors);
    let alternatives = items(request, "firstAvailable");
    match (is_set(request, "exactly"), alternatives.is_empty()) {
        (false, true) => errors.required(path, ONE),
        (true, false) => errors.invalid(path, Value::Null, format!("{ONE}, but multiple fields are set")),
        (true, true) => wanted(at(request, "exactly"), &path.child("exactly"), errors),
        (false, false) => {
            let by_name = |sub: &Value| json!(string(sub, "name"));
            let path = path.child("firstAvailable");
            set(alternatives, limits::FIRST_AVAILABLE_MAX, &path, errors, by_name, |sub, path, errors| {
                name::label(&path.child("name"), string(sub, "name"), errors);
                wanted(sub, path, errors);
            });
        }
    }
}

/// `validateExactDeviceRequest`, and what a subrequest shares with it.
fn wanted(wanted: &Value, path: &Path, errors: &mut Errors) {
    match string(wanted, "deviceClassName") {
        "" => errors.required(&path.child("deviceClassName"), ""),
        class => names::subdomain(&path.child("deviceClassName"), class, errors),
    }
    selectors(items(wanted, "selectors"), &path.child("selectors"), errors);
    let count = integer(wanted, "count").unwrap_or(0);
    match string(wanted, "allocationMode") {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.invalid(&path.child("count"), count, detail);
        }
        "ExactCount" if count <= 0 => errors.invalid(&path.child("count"), count, names::POSITIVE),
        "All" | "ExactCount" => {}
        mode => errors.not_supported(&path.child("allocationMode"), mode, &["All", "ExactCount"]),
    }
    taint::tolerations(items(wanted, "tolerations"), &path.child("tolerations"), errors);
}

/// `validateSelectorSlice`.
pub fn selectors(selectors: &[Value], path: &Path, errors: &mut Errors) {
    list(selectors, limits::SELECTORS_MAX, path, errors, |entry, path, errors| {
        let path = path.child("cel");
        if !is_set(entry, "cel") {
            return errors.required(&path, "");
        }
        let (text, path) = (string(entry, "cel.expression"), path.child("expression"));
        if text.len() > limits::EXPRESSION_BYTES_MAX {
            return errors.too_long(&path, limits::EXPRESSION_BYTES_MAX);
        }
        match selector::Selector::compile(text) {
            Ok(selector) if selector.cost > limits::EXPRESSION_COST_MAX => {
                errors.forbidden(&path, "too complex, exceeds cost limit");
            }
            Ok(_) => {}
            Err(why) => errors.invalid(&path, text, why),
        }
    });
}

/// `validateDeviceConfiguration`.
pub fn config(config: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("opaque");
    if !is_set(config, "opaque") {
        return errors.required(&path, "");
    }
    name::driver(string(config, "opaque.driver"), &path.child("driver"), errors);
    raw(at(config, "opaque.parameters"), limits::PARAMETERS_BYTES_MAX, &path.child("parameters"), errors);
}

/// `validateRawExtension`: any JSON object of a limited length.
pub fn raw(parameters: &Value, max: usize, path: &Path, errors: &mut Errors) {
    match parameters {
        Value::Null => errors.required(path, ""),
        parameters if parameters.to_string().len() > max => errors.too_long(path, max),
        Value::Object(_) => {}
        _ => errors.invalid(path, "<value omitted>", "must be a valid JSON object"),
    }
}
