//! Ingresses: `ValidateIngress`, `printIngress`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::meta;
use crate::names::{is_ip, path_segment_name, subdomain};
use crate::strategy::{Column, Strategy, named};
use crate::value::{at, integer, is_set, items, string, strings};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
const PATH_SEQUENCES: [&str; 6] = ["//", "/./", "/../", "%2f", "%2F", "\\"];
const PATH_SUFFIXES: [&str; 2] = ["/..", "/."];
const HOSTS_MAX: usize = 3;

pub struct Ingress;

impl Strategy for Ingress {
    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &crate::Context, ingress: &mut Value) {
        crate::value::set(ingress, "status", json!({"loadBalancer": {}}));
    }

    fn validate_object(&self, ingress: &Value, errors: &mut Errors) {
        spec(at(ingress, "spec"), &Path::new("spec"), errors);
        let (annotation, class) = (at(ingress, "metadata.annotations").get(CLASS_ANNOTATION), "spec.ingressClassName");
        if let Some(annotation) = annotation.filter(|found| is_set(ingress, class) && *found != at(ingress, class)) {
            let path = Path::new("annotations").child(CLASS_ANNOTATION);
            errors.invalid(&path, annotation.clone(), "must match `ingressClassName` when both are specified");
        }
    }

    fn validate_object_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        spec(at(new, "spec"), &Path::new("spec"), errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        super::service::validate_load_balancer(new, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let is_new = old.is_none() && at(new, "metadata.annotations").get(CLASS_ANNOTATION).is_some();
        let text = format!("annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead");
        if is_new { vec![text] } else { Vec::new() }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Class", "The class of the ingress."),
                Column::string("Hosts", "The hosts that the rules are for."),
                Column::string("Address", "Where the ingress is reached."),
                Column::string("Ports", "The ports of the ingress."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, ingress: &Value, now: OffsetDateTime) -> Vec<Value> {
        let class = at(ingress, "spec.ingressClassName").as_str().unwrap_or("<none>");
        let ports = if items(ingress, "spec.tls").is_empty() { "80" } else { "80, 443" };
        named(ingress, now, [json!(class), json!(hosts(ingress)), json!(addresses(ingress)), json!(ports)])
    }
}

/// `ValidateIngressSpec`.
fn spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let rules = items(spec, "rules");
    if rules.is_empty() && !is_set(spec, "defaultBackend") {
        errors.invalid(path, at(spec, "rules").clone(), "either `defaultBackend` or `rules` must be specified");
    }
    if is_set(spec, "defaultBackend") {
        backend(at(spec, "defaultBackend"), &path.child("defaultBackend"), errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(index);
        let host = string(rule, "host");
        if is_ip(host) {
            errors.invalid(&path.child("host"), host, "must be a DNS name, not an IP address");
        }
        if !host.is_empty() {
            host_name(host, &path.child("host"), errors);
        }
        if is_set(rule, "http") {
            http(at(rule, "http"), &path.child("http"), errors);
        }
    }
    for (index, tls) in items(spec, "tls").iter().enumerate() {
        let path = path.child("tls").index(index);
        for (index, host) in strings(tls, "hosts").enumerate() {
            host_name(host, &path.child("hosts").index(index), errors);
        }
        let secret = string(tls, "secretName");
        if !secret.is_empty() {
            subdomain(&path.child("secretName"), secret, errors);
        }
    }
    if let Some(class) = at(spec, "ingressClassName").as_str() {
        subdomain(&path.child("ingressClassName"), class, errors);
    }
}

fn host_name(host: &str, path: &Path, errors: &mut Errors) {
    if host.contains('*') {
        errors.invalid_each(path, &json!(host), validation::wildcard_dns1123_subdomain(host));
    } else {
        subdomain(path, host, errors);
    }
}

fn http(rule: &Value, path: &Path, errors: &mut Errors) {
    let paths = items(rule, "paths");
    if paths.is_empty() {
        errors.required(&path.child("paths"), "");
    }
    for (index, item) in paths.iter().enumerate() {
        http_path(item, &path.child("paths").index(index), errors);
    }
}

/// `validateHTTPIngressPath`.
fn http_path(item: &Value, path: &Path, errors: &mut Errors) {
    let (target, target_path) = (string(item, "path"), path.child("path"));
    let Some(kind) = at(item, "pathType").as_str() else {
        errors.required(&path.child("pathType"), "pathType must be specified");
        return;
    };
    match kind {
        "Exact" | "Prefix" => {
            if !target.starts_with('/') {
                errors.invalid(&target_path, target, "must be an absolute path");
            }
            for sequence in PATH_SEQUENCES.iter().filter(|sequence| target.contains(**sequence)) {
                errors.invalid(&target_path, target, format!("must not contain '{sequence}'"));
            }
            for suffix in PATH_SUFFIXES.iter().filter(|suffix| target.ends_with(**suffix)) {
                errors.invalid(&target_path, target, format!("cannot end with '{suffix}'"));
            }
        }
        "ImplementationSpecific" => {
            if !target.is_empty() && !target.starts_with('/') {
                errors.invalid(&target_path, target, "must be an absolute path");
            }
        }
        other => errors.not_supported(&path.child("pathType"), other, PATH_TYPES),
    }
    backend(at(item, "backend"), &path.child("backend"), errors);
}

/// `validateIngressBackend`.
fn backend(backend: &Value, path: &Path, errors: &mut Errors) {
    let service = at(backend, "service");
    match (is_set(backend, "resource"), !service.is_null()) {
        (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (true, false) => typed_reference(at(backend, "resource"), &path.child("resource"), errors),
        (false, false) => errors.invalid(path, "", "resource or service backend is required"),
        (false, true) => {
            let service_path = path.child("service");
            match string(service, "name") {
                "" => errors.required(&service_path.child("name"), ""),
                name => errors.invalid_each(&service_path.child("name"), &json!(name), validation::dns1035_label(name)),
            }
            let port_path = service_path.child("port");
            match (string(service, "port.name"), integer(service, "port.number").unwrap_or(0)) {
                ("", 0) => errors.required(path, "port name or number is required"),
                ("", number) => {
                    errors.invalid_each(&port_path.child("number"), &json!(number), validation::port_num(number));
                }
                (name, 0) => errors.invalid_each(&port_path.child("name"), &json!(name), validation::port_name(name)),
                _ => errors.invalid(path, "", "cannot set both port name & port number"),
            }
        }
    }
}

/// `validateIngressTypedLocalObjectReference`.
pub fn typed_reference(reference: &Value, path: &Path, errors: &mut Errors) {
    if let Some(group) = at(reference, "apiGroup").as_str() {
        subdomain(&path.child("apiGroup"), group, errors);
    }
    for field in ["kind", "name"] {
        match string(reference, field) {
            "" => errors.required(&path.child(field), format!("{field} is required")),
            text => path_segment_name(&path.child(field), text, errors),
        }
    }
}

/// `formatHosts`.
fn hosts(ingress: &Value) -> String {
    let rules = items(ingress, "spec.rules");
    let mut list = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= list.len() == HOSTS_MAX;
        let host = string(rule, "host");
        if !more && !host.is_empty() {
            list.push(host);
        }
    }
    match list[..] {
        [] => "*".to_owned(),
        _ if more => format!("{} + {} more...", list.join(","), rules.len() - HOSTS_MAX),
        _ => list.join(","),
    }
}

/// `ingressLoadBalancerStatusStringer`, as narrow tables have it.
fn addresses(ingress: &Value) -> String {
    let points = items(ingress, "status.loadBalancer.ingress").iter();
    let mut list: Vec<&str> = points
        .map(|point| match string(point, "ip") {
            "" => string(point, "hostname"),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    list.sort_unstable();
    list.dedup();
    meta::clip(&list.join(","))
}
