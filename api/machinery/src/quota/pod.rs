//! Pods: `pkg/quota/v1/evaluator/core/pods.go`, with the sums of `component-helpers/resource`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{Amounts, add, amounts, one, quantity};

/// What pods are charged for besides extended resources and huge pages.
const TRACKED: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// What every container must state if a quota limits it; the sizes of other resources may be left out.
const VALIDATED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";

pub(super) fn is_tracked(name: &str) -> bool {
    let requested = name.strip_prefix("requests.").unwrap_or(name);
    TRACKED.contains(&name)
        || requested.starts_with(HUGE_PAGES)
        || (name.starts_with("requests.") && is_extended(requested))
}

/// `helper.IsExtendedResourceName`: a name of somebody's own domain.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

pub(super) fn usage(pod: &Value, now: SystemTime, usage: &mut Amounts) {
    if is_over(pod, now) {
        return;
    }
    add(usage, &compute(&requests(pod), &limits(pod)));
}

/// Whether a pod ended, or should have been gone by now: it no longer holds what it asked for.
fn is_over(pod: &Value, now: SystemTime) -> bool {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str);
    if matches!(text("/status/phase"), Some("Failed" | "Succeeded")) {
        return true;
    }
    let grace = pod.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64);
    let (Some(at), Some(grace)) = (text("/metadata/deletionTimestamp").and_then(crate::time::parse), grace) else {
        return false;
    };
    at.checked_add(Duration::from_secs(grace)).is_some_and(|end| now > end)
}

/// Requests and limits under the names that quotas use.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut result = Amounts::from([("pods".to_owned(), one())]);
    for (name, amount) in requests {
        if COMPUTE.contains(&name.as_str()) || name.starts_with(HUGE_PAGES) {
            result.insert(name.clone(), *amount);
            result.insert(format!("requests.{name}"), *amount);
        } else if is_extended(name) {
            result.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in COMPUTE {
        if let Some(amount) = limits.get(name) {
            result.insert(format!("limits.{name}"), *amount);
        }
    }
    result
}

/// What the scheduler reserves for a pod.
pub fn requests(pod: &Value) -> Amounts {
    total(pod, "requests")
}

pub fn limits(pod: &Value) -> Amounts {
    total(pod, "limits")
}

fn containers<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    pod.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array).into_iter().flatten()
}

/// The containers' sum, or what an init container needs beside the sidecars started before it, whichever is more;
/// what the pod says for itself overrides it; then the overhead.
fn total(pod: &Value, of: &str) -> Amounts {
    let own = |container: &Value| amounts(container.get("resources").and_then(|r| r.get(of)));
    let mut sum = Amounts::new();
    containers(pod, "containers").for_each(|container| add(&mut sum, &own(container)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in containers(pod, "initContainers") {
        let own = own(container);
        let is_sidecar = container.get("restartPolicy").and_then(Value::as_str) == Some("Always");
        if is_sidecar {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
        }
        let mut at_once = sidecars.clone();
        if !is_sidecar {
            add(&mut at_once, &own);
        }
        raise(&mut peak, &at_once);
    }
    raise(&mut sum, &peak);
    sum.extend(amounts(pod.pointer("/spec/resources").and_then(|r| r.get(of))));
    let overhead = amounts(pod.pointer("/spec/overhead"));
    // A resource without limit stays without.
    let counted = overhead.into_iter().filter(|(name, _)| of == "requests" || sum.contains_key(name)).collect();
    add(&mut sum, &counted);
    sum
}

fn raise(amounts: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let known = amounts.entry(name.clone()).or_insert(*amount);
        *known = (*known).max(*amount);
    }
}

pub(super) fn constraints(hard: &Amounts, pod: &Value) -> Result<(), String> {
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in containers(pod, "containers").chain(containers(pod, "initContainers")) {
        let of = |what: &str| amounts(container.get("resources").and_then(|r| r.get(what)));
        let stated = compute(&of("requests"), &of("limits"));
        let name = container.get("name").and_then(Value::as_str).unwrap_or("");
        for required in VALIDATED.iter().filter(|name| hard.contains_key(**name) && !stated.contains_key(**name)) {
            missing.entry(required).or_default().insert(name);
        }
    }
    if missing.is_empty() || has_own_resources(pod) {
        return Ok(());
    }
    let of = |(resource, names): (&&str, &BTreeSet<&str>)| {
        format!("{resource} for: {}", names.iter().copied().collect::<Vec<_>>().join(","))
    };
    Err(format!("must specify {}", missing.iter().map(of).collect::<Vec<_>>().join("; ")))
}

fn has_own_resources(pod: &Value) -> bool {
    let set = |what| pod.pointer("/spec/resources").and_then(|r| r.get(what)).is_some_and(|list| !list.is_null());
    set("requests") || set("limits")
}

pub(super) fn in_scope(scope: &Value, operator: &str, values: &[Value], pod: &Value) -> bool {
    match scope.as_str().unwrap_or("") {
        "Terminating" => terminates(pod),
        "NotTerminating" => !terminates(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = pod.pointer("/spec/priorityClassName").and_then(Value::as_str).filter(|name| !name.is_empty());
            let listed = class.is_some_and(|class| values.iter().any(|value| value == class));
            match operator {
                "Exists" => class.is_some(),
                "DoesNotExist" => class.is_none(),
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn terminates(pod: &Value) -> bool {
    pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Value) -> bool {
    let asks = |resources: Option<&Value>| {
        ["requests", "limits"].iter().any(|of| {
            let list = resources.and_then(|r| r.get(of));
            let positive = |name| list.and_then(|l| l.get(name)).and_then(quantity).is_some_and(|q| !q.is_zero());
            positive("cpu") || positive("memory")
        })
    };
    let mut all = containers(pod, "containers").chain(containers(pod, "initContainers"));
    !asks(pod.pointer("/spec/resources")) && !all.any(|container| asks(container.get("resources")))
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        let names = term.get("namespaces").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
        names || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let of = |when: &str| {
            let terms = pod.pointer("/spec/affinity").and_then(|a| a.get(kind)).and_then(|a| a.get(when));
            terms.and_then(Value::as_array).into_iter().flatten()
        };
        of("requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || of("preferredDuringSchedulingIgnoredDuringExecution")
                .any(|term| term.get("podAffinityTerm").is_some_and(crosses))
    })
}
