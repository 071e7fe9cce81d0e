//! Claims of devices in pods: `validatePodResourceClaims`, `validateResourceClaimNames`, `validatePodResourceClaimStatuses`.

use serde_json::Value;
use xebec_machinery::field::{Error, Path};

use crate::errors::Errors;
use crate::names::{label, subdomain};
use crate::value::{at, is_set, items, string};

const SOURCES: [&str; 2] = ["resourceClaimName", "resourceClaimTemplateName"];

/// The claims of the pod, and those of them that its containers use.
pub fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut names: Vec<&str> = Vec::new();
    for (index, claim) in items(spec, "resourceClaims").iter().enumerate() {
        let path = path.child("resourceClaims").index(index);
        let name_path = path.child("name");
        match string(claim, "name") {
            "" => errors.required(&name_path, ""),
            name if names.contains(&name) => errors.duplicate(&name_path, name),
            name => {
                label(&name_path, name, errors);
                names.push(name);
            }
        }
        match SOURCES.iter().filter(|source| is_set(claim, source)).count() {
            0 => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&path, claim.clone(), detail);
            }
            1 => {}
            _ => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&path, claim.clone(), detail);
            }
        }
        for source in SOURCES {
            if let Some(name) = at(claim, source).as_str() {
                subdomain(&path.child(source), name, errors);
            }
        }
    }
    names.sort_unstable();
    for kind in ["initContainers", "containers"] {
        for (index, container) in items(spec, kind).iter().enumerate() {
            used(container, &names, &path.child(kind).index(index).child("resources").child("claims"), errors);
        }
    }
}

/// What a container uses: all of a claim, or what one request of it got.
fn used(container: &Value, names: &[&str], path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, claim) in items(container, "resources.claims").iter().enumerate() {
        let (name, request, path) = (string(claim, "name"), string(claim, "request"), path.index(index));
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let mut key = name.to_owned();
        if !request.is_empty() {
            label(&path.child("request"), request, errors);
            key = format!("{name}/{request}");
        }
        if seen.contains(&key) {
            errors.duplicate(&path, key.clone());
        }
        seen.push(key);
        if !names.contains(&name) {
            let known = if names.is_empty() { " which is empty".to_owned() } else { format!(": {}", names.join(", ")) };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{known}");
            errors.0.push(Error { detail, ..Error::not_found(&path, name) });
        }
    }
}

/// The claims that were made for the pod.
pub fn statuses(pod: &Value, path: &Path, errors: &mut Errors) {
    let statuses = items(pod, "status.resourceClaimStatuses");
    for (index, status) in statuses.iter().enumerate() {
        let (name, path) = (string(status, "name"), path.index(index).child("name"));
        if !items(pod, "spec.resourceClaims").iter().any(|claim| string(claim, "name") == name) {
            errors.invalid(&path, name, "must match the name of an entry in `spec.resourceClaims`");
        }
        if statuses[..index].iter().any(|earlier| string(earlier, "name") == name) {
            errors.duplicate(&path, name);
        }
        if let Some(claim) = at(status, "resourceClaimName").as_str() {
            // Upstream reports it under `name`, too.
            subdomain(&path, claim, errors);
        }
    }
}
