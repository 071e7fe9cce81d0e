//! What objects cost against a ResourceQuota: upstream's `pkg/quota/v1` with its evaluators.
//!
//! Admission charges what a request would add; the resourcequota controller counts what is there. Both ask here.

mod devices;
mod pod;

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::Value;

use crate::Quantity;

pub use pod::{limits, requests};

/// Amounts by the names that quotas give to resources: `requests.cpu`, `count/jobs.batch`.
pub type Amounts = BTreeMap<String, Quantity>;

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Kinds of the core group that quotas also name without `count/`.
const BY_PLURAL: [&str; 7] =
    ["configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services"];

/// What an object costs.
pub fn usage(group: &str, resource: &str, object: &Value, now: SystemTime) -> Amounts {
    let mut usage = Amounts::from([(count_name(group, resource), one())]);
    match (group, resource) {
        ("", "pods") => pod::usage(object, now, &mut usage),
        ("", "services") => service(object, &mut usage),
        ("", "persistentvolumeclaims") => claim(object, &mut usage),
        ("resource.k8s.io", "resourceclaims") => devices::usage(object, &mut usage),
        ("", plural) if BY_PLURAL.contains(&plural) => {
            usage.insert(plural.to_owned(), one());
        }
        _ => {}
    }
    usage
}

/// `count/jobs.batch`
pub fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") }
}

/// The group and plural whose objects a quota counts under `name`; `None` for what a quota cannot know.
pub fn counted(name: &str) -> Option<(&str, &str)> {
    if let Some(resource) = name.strip_prefix("count/") {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        return Some((group, plural));
    }
    let of_claims = ["requests.storage", "persistentvolumeclaims"];
    if of_claims.contains(&name) || name.contains(STORAGE_CLASS) {
        return Some(("", "persistentvolumeclaims"));
    }
    if name.ends_with(devices::DEVICES) {
        return Some(("resource.k8s.io", "resourceclaims"));
    }
    if name == "services.nodeports" || name == "services.loadbalancers" {
        return Some(("", "services"));
    }
    if let Some(plural) = BY_PLURAL.iter().find(|plural| **plural == name) {
        return Some(("", plural));
    }
    pod::is_tracked(name).then_some(("", "pods"))
}

/// Whether a quota is about an object: it limits something of this resource, and every scope of it matches.
pub fn matches(quota: &Value, group: &str, resource: &str, object: &Value) -> bool {
    let hard = quota.pointer("/status/hard").and_then(Value::as_object);
    hard.into_iter().flatten().any(|(name, _)| counted(name) == Some((group, resource)))
        && in_scope(quota, group, resource, object)
}

/// Whether every scope of a quota matches. Only pods have scopes.
pub fn in_scope(quota: &Value, group: &str, resource: &str, object: &Value) -> bool {
    let of_pods = group.is_empty() && resource == "pods";
    let names = quota.pointer("/spec/scopes").and_then(Value::as_array);
    let selectors = quota.pointer("/spec/scopeSelector/matchExpressions").and_then(Value::as_array);
    let by_name = names.into_iter().flatten().all(|name| of_pods && pod::in_scope(name, "Exists", &[], object));
    by_name
        && selectors.into_iter().flatten().all(|selector| {
            let operator = selector.get("operator").and_then(Value::as_str).unwrap_or("");
            let values = selector.get("values").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
            of_pods && pod::in_scope(selector.get("scopeName").unwrap_or(&Value::Null), operator, values, object)
        })
}

/// The amounts that a map of quantities (`status.hard`) holds.
pub fn amounts(map: Option<&Value>) -> Amounts {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

/// A quantity, which JSON may carry as a string or a number.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// As JSON: `{"requests.cpu": "500m"}`.
pub fn to_value(amounts: &Amounts) -> Value {
    Value::Object(amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect())
}

pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *to.entry(name.clone()).or_default() += *amount;
    }
}

/// `a - b`, nothing below zero.
#[must_use]
pub fn subtract(a: &Amounts, b: &Amounts) -> Amounts {
    let left = |(name, amount): (&String, &Quantity)| {
        let left = *amount - b.get(name).copied().unwrap_or_default();
        (name.clone(), if left.is_negative() { Quantity::from_value(0) } else { left })
    };
    a.iter().map(left).collect()
}

/// The containers that do not say what the quota makes them say, as upstream words it: `must specify limits.cpu for: a,b`.
///
/// # Errors
/// The text of the refusal.
pub fn constraints(hard: &Amounts, group: &str, resource: &str, object: &Value) -> Result<(), String> {
    if group.is_empty() && resource == "pods" { pod::constraints(hard, object) } else { Ok(()) }
}

fn one() -> Quantity {
    Quantity::from_value(1)
}

/// `pkg/quota/v1/evaluator/core/services.go`
fn service(service: &Value, usage: &mut Amounts) {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    let count = |n: usize| Quantity::from_value(i64::try_from(n).unwrap_or(i64::MAX));
    let (mut node_ports, mut load_balancers) = (0, 0);
    match service.pointer("/spec/type").and_then(Value::as_str) {
        Some("NodePort") => node_ports = ports.len(),
        Some("LoadBalancer") => {
            load_balancers = 1;
            let allocates = service.pointer("/spec/allocateLoadBalancerNodePorts").and_then(Value::as_bool);
            let is_set = |port: &&Value| port.get("nodePort").and_then(Value::as_i64).is_some_and(|port| port != 0);
            node_ports = if allocates == Some(false) { ports.iter().filter(is_set).count() } else { ports.len() };
        }
        _ => {}
    }
    usage.insert("services".into(), one());
    usage.insert("services.nodeports".into(), count(node_ports));
    usage.insert("services.loadbalancers".into(), count(load_balancers));
}

/// `pkg/quota/v1/evaluator/core/persistent_volume_claims.go`
fn claim(claim: &Value, usage: &mut Amounts) {
    usage.insert("persistentvolumeclaims".into(), one());
    let class = claim.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    let class = class.or_else(|| claim.pointer("/spec/storageClassName")).and_then(Value::as_str).unwrap_or("");
    let named = |what: &str| format!("{class}{STORAGE_CLASS}{what}");
    if !class.is_empty() {
        usage.insert(named("persistentvolumeclaims"), one());
    }
    let requested = claim.pointer("/spec/resources/requests/storage").and_then(quantity);
    let allocated = claim.pointer("/status/allocatedResources/storage").and_then(quantity);
    if let Some(storage) = requested.map(|requested| allocated.map_or(requested, |a| a.max(requested))) {
        usage.insert("requests.storage".into(), storage);
        if !class.is_empty() {
            usage.insert(named("requests.storage"), storage);
        }
    }
}

#[cfg(test)]
mod tests;
