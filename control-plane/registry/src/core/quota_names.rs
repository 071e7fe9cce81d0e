//! Names of resources that quotas and limits are about: `pkg/apis/core/helper`.

use serde_json::json;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::pod::resources;

/// Counted or measured by quotas (`standardQuotaResources`).
const QUOTA: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const COMPUTE: &[&str] = &["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
pub const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

pub fn is_quota(name: &str) -> bool {
    QUOTA.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// `IsResourceQuotaScopeValidForResource`.
pub fn scope_fits(scope: &str, name: &str) -> bool {
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            name == "pods" || COMPUTE.contains(&name)
        }
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&name),
        _ => true,
    }
}

/// `validateResourceName`.
pub fn resource(name: &str, path: &Path, errors: &mut Errors) {
    let messages = validation::qualified_name(name);
    let known = name.contains('/') || QUOTA.contains(&name) || is_huge_page(name) || name == "storage";
    if messages.is_empty() && !known {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
    errors.invalid_each(path, &json!(name), messages);
}

/// `ValidateResourceQuotaResourceName`.
pub fn quota(name: &str, path: &Path, errors: &mut Errors) {
    resource(name, path, errors);
    if !name.contains('/') && !is_quota(name) {
        errors.invalid(path, name, "must be a standard resource for quota");
    }
}

/// `validateContainerResourceName`.
pub fn container(name: &str, path: &Path, errors: &mut Errors) {
    let before = errors.0.len();
    resource(name, path, errors);
    if errors.0.len() == before {
        resources::container_name(name, path, errors);
    }
}
