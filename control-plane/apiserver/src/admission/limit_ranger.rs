//! LimitRanges: defaults for containers, and bounds of containers, pods and claims (`plugin/pkg/admission/limitranger`).

use async_trait::async_trait;
use serde_json::Value;
use xebec_machinery::quota::{self, Amounts};
use xebec_machinery::{Quantity, Status};
use xebec_registry::value::{at, items, items_mut, object_mut, set, string};

use super::{Attributes, Operation, Plugin, Reader};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        if attributes.is("", "pods") && attributes.operation == Operation::Create {
            for range in reader.list("", "limitranges", attributes.namespace).await? {
                default_pod(&mut attributes.object, &range);
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        // The resources of a pod change after its creation by a resize alone.
        let resize = attributes.resource.group.is_empty()
            && attributes.resource.resource == "pods"
            && attributes.subresource == "resize";
        let of_pod = resize || (attributes.is("", "pods") && attributes.operation == Operation::Create);
        let of_claim = attributes.is("", "persistentvolumeclaims");
        if !of_pod && !of_claim {
            return Ok(());
        }
        for range in reader.list("", "limitranges", attributes.namespace).await? {
            let check = if of_pod { pod_errors } else { claim_errors };
            let errors = check(&attributes.object, &range);
            if !errors.is_empty() {
                let resource = attributes.resource.group_resource();
                return Err(Status::forbidden(&resource, attributes.name, aggregate(&errors)));
            }
        }
        Ok(())
    }
}

/// As `utilerrors.Aggregate` reads.
fn aggregate(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn default_pod(pod: &mut Value, range: &Value) {
    let mut set_here = Vec::new();
    let limits = items(range, "spec.limits");
    for limit in limits.iter().filter(|limit| string(limit, "type") == "Container") {
        for (list, what) in [("spec.containers", "container"), ("spec.initContainers", "init container")] {
            for container in items_mut(pod, list) {
                let name = string(container, "name").to_owned();
                for (from, to, noun) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")] {
                    let added = merge(container, to, at(limit, from));
                    if !added.is_empty() {
                        set_here.push(format!("{} {noun} for {what} {name}", added.join(", ")));
                    }
                }
            }
        }
    }
    if !set_here.is_empty() {
        let text = format!("LimitRanger plugin set: {}", set_here.join("; "));
        object_mut(pod, "metadata.annotations").insert(ANNOTATION.to_owned(), text.into());
    }
}

/// Adds what a container does not say; returns the names of it.
fn merge(container: &mut Value, to: &str, defaults: &Value) -> Vec<String> {
    let mut added = Vec::new();
    for (name, amount) in defaults.as_object().into_iter().flatten() {
        if at(container, &format!("resources.{to}")).get(name).is_none() {
            object_mut(container, &format!("resources.{to}")).insert(name.clone(), amount.clone());
            added.push(name.clone());
        }
    }
    if !added.is_empty() && at(container, "resources").is_null() {
        set(container, "resources", serde_json::json!({}));
    }
    added
}

fn pod_errors(pod: &Value, range: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in items(range, "spec.limits") {
        match string(limit, "type") {
            "Container" => {
                for container in items(pod, "spec.containers").iter().chain(items(pod, "spec.initContainers")) {
                    let of = |what: &str| quota::amounts(Some(at(container, &format!("resources.{what}"))));
                    check(limit, "Container", &of("requests"), &of("limits"), &mut errors);
                }
            }
            "Pod" => check(limit, "Pod", &sum(pod, "requests"), &sum(pod, "limits"), &mut errors),
            _ => {}
        }
    }
    errors
}

/// What a pod asks for; a resource that some container leaves open is left out, so that a bound on it refuses the pod.
fn sum(pod: &Value, what: &str) -> Amounts {
    let total = if what == "requests" { quota::requests(pod) } else { quota::limits(pod) };
    let own = at(pod, &format!("spec.resources.{what}"));
    let stated = |name: &String| {
        let mut containers = items(pod, "spec.containers").iter();
        own.get(name).is_some() || containers.all(|c| at(c, &format!("resources.{what}")).get(name).is_some())
    };
    total.into_iter().filter(|(name, _)| stated(name)).collect()
}

fn claim_errors(claim: &Value, range: &Value) -> Vec<String> {
    let requests = quota::amounts(Some(at(claim, "spec.resources.requests")));
    let mut errors = Vec::new();
    for limit in items(range, "spec.limits").iter().filter(|l| string(l, "type") == "PersistentVolumeClaim") {
        let bound = Bound { kind: "PersistentVolumeClaim", requests: &requests, limits: &Amounts::new() };
        errors.extend(quota::amounts(Some(at(limit, "min"))).iter().filter_map(|(name, min)| bound.min(name, *min)));
        let over = quota::amounts(Some(at(limit, "max")));
        errors.extend(over.iter().filter_map(|(name, max)| bound.max_request(name, *max)));
    }
    errors
}

fn check(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    let bound = Bound { kind, requests, limits };
    errors.extend(quota::amounts(Some(at(limit, "min"))).iter().filter_map(|(name, min)| bound.min(name, *min)));
    errors.extend(quota::amounts(Some(at(limit, "max"))).iter().filter_map(|(name, max)| bound.max(name, *max)));
    let ratios = quota::amounts(Some(at(limit, "maxLimitRequestRatio")));
    errors.extend(ratios.iter().filter_map(|(name, ratio)| bound.ratio(name, *ratio)));
}

/// What is held against a limit, and what to call it.
struct Bound<'a> {
    kind: &'a str,
    requests: &'a Amounts,
    limits: &'a Amounts,
}

impl Bound<'_> {
    fn min(&self, name: &str, min: Quantity) -> Option<String> {
        let what = format!("minimum {name} usage per {} is {min}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{what}.  No request is specified")),
            (Some(request), _) if *request < min => Some(format!("{what}, but request is {request}")),
            (_, Some(limit)) if *limit < min => Some(format!("{what}, but limit is {limit}")),
            _ => None,
        }
    }

    fn max(&self, name: &str, max: Quantity) -> Option<String> {
        let what = format!("maximum {name} usage per {} is {max}", self.kind);
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Some(format!("{what}.  No limit is specified")),
            (_, Some(limit)) if *limit > max => Some(format!("{what}, but limit is {limit}")),
            (Some(request), _) if *request > max => Some(format!("{what}, but request is {request}")),
            _ => None,
        }
    }

    fn max_request(&self, name: &str, max: Quantity) -> Option<String> {
        let what = format!("maximum {name} usage per {} is {max}", self.kind);
        match self.requests.get(name) {
            None => Some(format!("{what}.  No request is specified")),
            Some(request) if *request > max => Some(format!("{what}, but request is {request}")),
            Some(_) => None,
        }
    }

    #[allow(clippy::cast_precision_loss)] // The ratio is shown and compared with six digits.
    fn ratio(&self, name: &str, most: Quantity) -> Option<String> {
        let what = format!("{name} max limit to request ratio per {} is {most}", self.kind);
        let positive = |amounts: &Amounts| amounts.get(name).filter(|q| !q.is_zero()).map(|q| q.as_milli() as f64);
        let Some(request) = positive(self.requests) else {
            return Some(format!("{what}, but no request is specified or request is 0"));
        };
        let Some(limit) = positive(self.limits) else {
            return Some(format!("{what}, but no limit is specified or limit is 0"));
        };
        let ratio = limit / request;
        (ratio * 1000.0 > most.as_milli() as f64).then(|| format!("{what}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests;
