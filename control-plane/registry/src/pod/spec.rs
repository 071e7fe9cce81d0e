//! `ValidatePodSpec`: everything of a pod spec that is not inside a container.

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use super::{affinity, container, resource_claim, resources, security, volume};
use crate::errors::Errors;
use crate::meta;
use crate::names::{is_ip, label, label_name, reference_name, subdomain};
use crate::value::{at, entries, integer, is_set, items, string, strings};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

pub fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    volume::volumes(items(spec, "volumes"), &path.child("volumes"), errors);
    container::validate(spec, path, errors);
    errors.one_of(&path.child("restartPolicy"), string(spec, "restartPolicy"), &["Always", "OnFailure", "Never"]);
    let dns_policies = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    errors.one_of(&path.child("dnsPolicy"), string(spec, "dnsPolicy"), dns_policies);
    meta::labels(at(spec, "nodeSelector"), &path.child("nodeSelector"), errors);
    security::pod(spec, path, errors);
    for (index, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        reference_name(secret, &path.child("imagePullSecrets").index(index), errors);
    }
    affinity::affinity(at(spec, "affinity"), &path.child("affinity"), errors);
    dns_config(spec, &path.child("dnsConfig"), errors);
    gates(spec, path, errors);
    affinity::topology_spread(
        items(spec, "topologySpreadConstraints"),
        &path.child("topologySpreadConstraints"),
        errors,
    );
    identity(spec, path, errors);
    affinity::tolerations(items(spec, "tolerations"), &path.child("tolerations"), errors);
    host_aliases(spec, &path.child("hostAliases"), errors);
    for field in ["priorityClassName", "runtimeClassName"] {
        let name = string(spec, field);
        if !name.is_empty() {
            subdomain(&path.child(field), name, errors);
        }
    }
    let policy = string(spec, "preemptionPolicy");
    if !["", "Never", "PreemptLowerPriority"].contains(&policy) {
        errors.not_supported(&path.child("preemptionPolicy"), policy, &["Never", "PreemptLowerPriority"]);
    }
    for (name, amount) in entries(spec, "overhead") {
        resources::amount(name, amount, &path.child("overhead").key(name), errors);
    }
    resource_claim::validate(spec, path, errors);
    if is_set(spec, "os") {
        match string(spec, "os.name") {
            "" => errors.required(&path.child("os").child("name"), "cannot be empty"),
            "linux" | "windows" => {}
            other => errors.not_supported(&path.child("os"), other, &["linux", "windows"]),
        }
    }
}

/// Names in the spec, and the deadline.
fn identity(spec: &Value, path: &Path, errors: &mut Errors) {
    for field in ["serviceAccountName", "nodeName"] {
        let name = string(spec, field);
        if !name.is_empty() {
            subdomain(&path.child(field), name, errors);
        }
    }
    if let Some(seconds) = integer(spec, "activeDeadlineSeconds").filter(|s| !(1..=i64::from(i32::MAX)).contains(s)) {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, "must be between 1 and 2147483647, inclusive");
    }
    for field in ["hostname", "subdomain"] {
        let name = string(spec, field);
        if !name.is_empty() {
            label(&path.child(field), name, errors);
        }
    }
}

/// `validatePodDNSConfig`.
fn dns_config(spec: &Value, path: &Path, errors: &mut Errors) {
    let config = at(spec, "dnsConfig");
    let servers: Vec<&str> = strings(config, "nameservers").collect();
    if string(spec, "dnsPolicy") == "None" {
        if config.is_null() {
            errors.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            errors.required(
                &path.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
        }
    }
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&path.child("nameservers"), json!(servers), detail);
    }
    for (index, server) in servers.iter().enumerate().filter(|(_, server)| !is_ip(server)) {
        errors.invalid(
            &path.child("nameservers").index(index),
            *server,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    }
    let searches: Vec<&str> = strings(config, "searches").collect();
    if searches.len() > SEARCHES_MAX {
        errors.invalid(
            &path.child("searches"),
            json!(searches),
            format!("must not have more than {SEARCHES_MAX} search paths"),
        );
    }
    if searches.join(" ").len() > SEARCH_CHARS_MAX {
        let detail =
            format!("must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list");
        errors.invalid(&path.child("searches"), json!(searches), detail);
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| **search != ".") {
        subdomain(&path.child("searches").index(index), search.strip_suffix('.').unwrap_or(search), errors);
    }
    for (index, option) in items(config, "options").iter().enumerate() {
        if string(option, "name").is_empty() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

/// Readiness gates and scheduling gates.
fn gates(spec: &Value, path: &Path, errors: &mut Errors) {
    for (index, gate) in items(spec, "readinessGates").iter().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        label_name(&path, string(gate, "conditionType"), errors);
    }
    let mut seen = Vec::new();
    for (index, gate) in items(spec, "schedulingGates").iter().enumerate() {
        let (name, path) = (string(gate, "name"), path.child("schedulingGates").index(index));
        errors.invalid_each(&path, &json!(name), validation::qualified_name(name));
        if seen.contains(&name) {
            errors.duplicate(&path, name);
        }
        seen.push(name);
    }
}

fn host_aliases(spec: &Value, path: &Path, errors: &mut Errors) {
    for (index, alias) in items(spec, "hostAliases").iter().enumerate() {
        let (ip, path) = (string(alias, "ip"), path.index(index));
        if !is_ip(ip) {
            errors.invalid(&path.child("ip"), ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        }
        for (index, name) in strings(alias, "hostnames").enumerate() {
            subdomain(&path.child("hostnames").index(index), name, errors);
        }
    }
}
