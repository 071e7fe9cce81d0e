//! `ValidateRole`, `ValidateClusterRole`, `ValidateRoleBinding`, `ValidateClusterRoleBinding`.

use serde_json::{Value, json};
use xebec_machinery::field::Path;

use super::GROUP;
use crate::errors::Errors;
use crate::meta;
use crate::names::{path_segment_errors, subdomain};
use crate::strategy::Scope;
use crate::value::{at, is_set, items, string};

pub fn role(role: &Value, scope: Scope, errors: &mut Errors) {
    let path = Path::new("rules");
    for (index, rule) in items(role, "rules").iter().enumerate() {
        policy_rule(rule, scope, &path.index(index), errors);
    }
    if is_set(role, "aggregationRule") {
        let path = Path::new("aggregationRule").child("clusterRoleSelectors");
        let selectors = items(role, "aggregationRule.clusterRoleSelectors");
        if selectors.is_empty() {
            errors.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for (index, selector) in selectors.iter().enumerate() {
            meta::label_selector(selector, &path.index(index), errors);
        }
    }
}

pub fn binding(binding: &Value, scope: Scope, errors: &mut Errors) {
    let (reference, path) = (at(binding, "roleRef"), Path::new("roleRef"));
    let group = string(reference, "apiGroup");
    if group != GROUP {
        errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
    }
    let kinds: &[&str] = if scope == Scope::Cluster { &["ClusterRole"] } else { &["ClusterRole", "Role"] };
    let kind = string(reference, "kind");
    if !kinds.contains(&kind) {
        errors.not_supported(&path.child("kind"), kind, kinds);
    }
    match string(reference, "name") {
        "" => errors.required(&path.child("name"), ""),
        name => errors.invalid_each(&path.child("name"), &json!(name), path_segment_errors(name, false)),
    }
    for (index, found) in items(binding, "subjects").iter().enumerate() {
        subject(found, scope, &Path::new("subjects").index(index), errors);
    }
}

fn policy_rule(rule: &Value, scope: Scope, path: &Path, errors: &mut Errors) {
    let set = |field| !items(rule, field).is_empty();
    if !set("verbs") {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if set("nonResourceURLs") {
        let (urls, path) = (at(rule, "nonResourceURLs").clone(), path.child("nonResourceURLs"));
        if scope == Scope::Namespaced {
            errors.invalid(&path, urls.clone(), "namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].into_iter().any(set) {
            errors.invalid(&path, urls, "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if !set("apiGroups") {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if !set("resources") {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}

fn subject(subject: &Value, scope: Scope, path: &Path, errors: &mut Errors) {
    let (kind, name, group) = (string(subject, "kind"), string(subject, "name"), string(subject, "apiGroup"));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                subdomain(&path.child("name"), name, errors);
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if scope == Scope::Cluster && string(subject, "namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => errors.not_supported(&path.child("kind"), other, &["Group", "ServiceAccount", "User"]),
    }
}
