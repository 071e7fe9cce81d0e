//! Resource requirements of containers and pods: `ValidateResourceRequirements`.

use serde_json::{Value, json};
use xebec_machinery::Quantity;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::names::NOT_NEGATIVE;
use crate::value::{at, entries};

const HUGE_PAGES: &str = "hugepages-";
const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const INTEGERS: [&str; 9] = [
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.loadbalancers",
    "services.nodeports",
];

/// A quantity, which JSON may carry as a string or a number.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Whether the pod has resources of its own, besides its containers'.
pub fn pod_level(spec: &Value) -> bool {
    let set = |field| entries(at(spec, "resources"), field).next().is_some();
    set("requests") || set("limits")
}

pub fn validate(resources: &Value, path: &Path, errors: &mut Errors) {
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    for (name, limit) in entries(resources, "limits") {
        let path = limits_path.key(name);
        container_name(name, &path, errors);
        amount(name, limit, &path, errors);
        whole_pages(name, limit, &path, errors);
    }
    for (name, request) in entries(resources, "requests") {
        let path = requests_path.key(name);
        container_name(name, &path, errors);
        amount(name, request, &path, errors);
        whole_pages(name, request, &path, errors);
        let Some(asked) = quantity(request) else { continue };
        match at(resources, "limits").get(name).and_then(quantity) {
            Some(limit) if asked != limit && !may_overcommit(name) => {
                errors.invalid(&requests_path, asked.to_string(), format!("must be equal to {name} limit of {limit}"));
            }
            Some(limit) if asked > limit => {
                errors.invalid(
                    &requests_path,
                    asked.to_string(),
                    format!("must be less than or equal to {name} limit of {limit}"),
                );
            }
            None if !may_overcommit(name) => {
                errors.required(&limits_path, "Limit must be set for non overcommitable resources")
            }
            _ => {}
        }
    }
    let names = || entries(resources, "limits").chain(entries(resources, "requests")).map(|(name, _)| name.as_str());
    if names().any(is_huge_page) && !names().any(|name| name == "cpu" || name == "memory") {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

/// `ValidateResourceQuantityValue`.
pub fn amount(name: &str, value: &Value, path: &Path, errors: &mut Errors) {
    let Some(quantity) = quantity(value) else { return };
    if quantity.is_negative() {
        errors.invalid(path, quantity.to_string(), NOT_NEGATIVE);
    }
    if (INTEGERS.contains(&name) || is_extended(name)) && quantity != Quantity::from_value(quantity.value()) {
        errors.invalid(path, json!(quantity.to_string()), "must be an integer");
    }
}

/// `validateResourceQuantityHugePageValue`.
fn whole_pages(name: &str, value: &Value, path: &Path, errors: &mut Errors) {
    let size = name.strip_prefix(HUGE_PAGES).and_then(|size| size.parse::<Quantity>().ok()).map_or(0, Quantity::value);
    let Some(quantity) = quantity(value).filter(|_| size > 0) else { return };
    if quantity.value() <= 0 || quantity.value() % size != 0 {
        errors.invalid(path, quantity.to_string(), format!("{quantity} is not positive integer multiple of {name}"));
    }
}

/// A resource outside the kubernetes.io domains (`IsExtendedResourceName`).
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && validation::qualified_name(&format!("requests.{name}")).is_empty()
}

/// What `validateContainerResourceName` adds to the checks of any resource's name.
pub fn container_name(name: &str, path: &Path, errors: &mut Errors) {
    let messages = validation::qualified_name(name);
    if !messages.is_empty() {
        errors.invalid_each(path, &json!(name), messages);
    } else if !name.contains('/') {
        if !CONTAINER.contains(&name) && !is_huge_page(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

/// `IsOvercommitAllowed`.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}
