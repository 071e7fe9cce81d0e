//! NetworkPolicies: `ValidateNetworkPolicy`.

use ipnet::IpNet;
use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::meta;
use crate::strategy::{Column, Strategy, named};
use crate::value::{at, default, integer, is_set, items, items_mut, string, strings};

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const TYPES: &[&str] = &["Ingress", "Egress"];
const NOT_ENFORCED: &str = "the datapath does not enforce NetworkPolicies: the object is stored and has no effect";

pub struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn default(&self, policy: &mut Value) {
        let Some(spec) = policy.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        if items(spec, "policyTypes").is_empty() {
            // Any policy is about ingress unless it says otherwise.
            let has_egress = !items(spec, "egress").is_empty();
            spec["policyTypes"] = if has_egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        }
        for direction in ["ingress", "egress"] {
            for port in items_mut(spec, direction).flat_map(|rule| items_mut(rule, "ports")) {
                default(port, "protocol", "TCP");
            }
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate_object(&self, policy: &Value, errors: &mut Errors) {
        let (spec, path) = (at(policy, "spec"), Path::new("spec"));
        meta::label_selector(at(spec, "podSelector"), &path.child("podSelector"), errors);
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for (index, rule) in items(spec, direction).iter().enumerate() {
                let path = path.child(direction).index(index);
                for (index, found) in items(rule, "ports").iter().enumerate() {
                    port(found, &path.child("ports").index(index), errors);
                }
                for (index, found) in items(rule, peers).iter().enumerate() {
                    peer(found, &path.child(peers).index(index), errors);
                }
            }
        }
        let (types, path) = (items(spec, "policyTypes"), path.child("policyTypes"));
        if types.len() > TYPES.len() {
            errors.invalid(&path, at(spec, "policyTypes").clone(), "may not specify more than two policyTypes");
            return;
        }
        for (index, kind) in types.iter().enumerate() {
            if !TYPES.contains(&kind.as_str().unwrap_or("")) {
                errors.not_supported(&path.index(index), kind.clone(), TYPES);
            }
        }
    }

    /// A policy that nothing enforces must not look as if it protected anything.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        vec![NOT_ENFORCED.to_owned()]
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Pod-Selector", "The pods that the policy is about."), Column::AGE] }
    }

    fn row(&self, policy: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(policy, now, [json!(meta::format_selector(at(policy, "spec.podSelector")))])
    }
}

/// `ValidateNetworkPolicyPort`.
fn port(port: &Value, path: &Path, errors: &mut Errors) {
    if let Some(protocol) = at(port, "protocol").as_str().filter(|protocol| !PROTOCOLS.contains(protocol)) {
        errors.not_supported(&path.child("protocol"), protocol, PROTOCOLS);
    }
    let (end, end_path) = (integer(port, "endPort"), path.child("endPort"));
    match (at(port, "port"), end) {
        (Value::Null, Some(end)) => errors.invalid(&end_path, end, "may not be specified when `port` is not specified"),
        (Value::Null, None) => {}
        (Value::String(name), end) => {
            if let Some(end) = end {
                errors.invalid(&end_path, end, "may not be specified when `port` is non-numeric");
            }
            errors.invalid_each(&path.child("port"), &json!(name), validation::port_name(name));
        }
        (number, end) => {
            let number = number.as_i64().unwrap_or(0);
            errors.invalid_each(&path.child("port"), &json!(number), validation::port_num(number));
            let Some(end) = end else { return };
            if end < number {
                errors.invalid(&end_path, number, "must be greater than or equal to `port`");
            }
            errors.invalid_each(&end_path, &json!(end), validation::port_num(end));
        }
    }
}

/// `ValidateNetworkPolicyPeer`.
fn peer(peer: &Value, path: &Path, errors: &mut Errors) {
    let selectors = ["podSelector", "namespaceSelector"];
    for field in selectors {
        meta::label_selector(at(peer, field), &path.child(field), errors);
    }
    let (has_selector, block) = (selectors.iter().any(|field| is_set(peer, field)), at(peer, "ipBlock"));
    if !block.is_null() {
        ip_block(block, &path.child("ipBlock"), errors);
    }
    match (has_selector, block.is_null()) {
        (false, true) => errors.required(path, "must specify a peer"),
        (true, false) => errors.forbidden(path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

/// `ValidateIPBlock`.
fn ip_block(block: &Value, path: &Path, errors: &mut Errors) {
    let cidr = string(block, "cidr");
    if cidr.is_empty() {
        errors.required(&path.child("cidr"), "");
        return;
    }
    errors.invalid_each(&path.child("cidr"), &json!(cidr), validation::cidr(cidr));
    let Ok(outer) = cidr.parse::<IpNet>() else { return };
    for (index, text) in strings(block, "except").enumerate() {
        let path = path.child("except").index(index);
        errors.invalid_each(&path, &json!(text), validation::cidr(text));
        let Ok(inner) = text.parse::<IpNet>() else { continue };
        if !outer.contains(&inner.network()) || outer.prefix_len() >= inner.prefix_len() {
            errors.invalid(&path, text, "must be a strict subset of `cidr`");
        }
    }
}
