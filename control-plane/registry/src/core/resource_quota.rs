//! ResourceQuotas: `ValidateResourceQuota`, `printResourceQuota`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use super::quota_names::{SCOPES, is_quota, quota, scope_fits};
use crate::errors::Errors;
use crate::pod::resources::{amount, quantity};
use crate::strategy::{Column, Strategy, named};
use crate::value::{at, entries, items, string, strings};

const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["NotTerminating", "Terminating"]];
/// Scopes that are there or not; they have no values.
const PLAIN: [&str; 5] = ["Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity"];
const PLAIN_EXISTS: &str = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";

pub struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn has_status(&self) -> bool {
        true
    }

    fn validate_object(&self, quota: &Value, errors: &mut Errors) {
        let (spec, path) = (at(quota, "spec"), Path::new("spec"));
        amounts(at(spec, "hard"), &path.child("hard"), errors);
        scopes(spec, &path.child("scopes"), errors);
        scope_selector(spec, &path.child("scopeSelector").child("matchExpressions"), errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        let set = |quota| {
            let mut scopes: Vec<&str> = strings(quota, "spec.scopes").collect();
            scopes.sort_unstable();
            scopes.dedup();
            scopes
        };
        if set(new) != set(old) {
            let path = Path::new("spec").child("scopes");
            errors.invalid(&path, at(new, "spec.scopes").clone(), "field is immutable");
        }
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        for field in ["hard", "used"] {
            amounts(at(at(new, "status"), field), &Path::new("status").child(field), errors);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Request", "What is used of what is allowed, of counts and requests."),
                Column::string("Limit", "What is used of what is allowed, of limits."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, quota: &Value, now: OffsetDateTime) -> Vec<Value> {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        let text = |value: &Value| quantity(value).map_or_else(|| "0".to_owned(), |amount| amount.to_string());
        let used = at(quota, "status.used");
        for (name, hard) in entries(quota, "status.hard") {
            let used = used.get(name).unwrap_or(&Value::Null);
            let list = if name.starts_with("limits.") { &mut limits } else { &mut requests };
            list.push(format!("{name}: {}/{}", text(used), text(hard)));
        }
        named(quota, now, [json!(requests.join(", ")), json!(limits.join(", "))])
    }
}

fn amounts(amounts: &Value, path: &Path, errors: &mut Errors) {
    for (name, value) in amounts.as_object().into_iter().flatten() {
        quota(name, &path.key(name), errors);
        amount(name, value, &path.key(name), errors);
    }
}

/// Whether the scope applies to all that the quota limits.
fn fits(spec: &Value, scope: &str) -> impl Iterator<Item = ()> {
    entries(spec, "hard").filter(move |(name, _)| is_quota(name) && !scope_fits(scope, name)).map(|_| ())
}

/// `validateResourceQuotaScopes`.
fn scopes(spec: &Value, path: &Path, errors: &mut Errors) {
    let all = at(spec, "scopes");
    let names: Vec<&str> = strings(spec, "scopes").collect();
    for scope in &names {
        if !SCOPES.contains(scope) {
            errors.invalid(path, all.clone(), "unsupported scope");
        }
        for () in fits(spec, scope) {
            errors.invalid(path, all.clone(), "unsupported scope applied to resource");
        }
    }
    for _ in CONFLICTS.iter().filter(|pair| pair.iter().all(|scope| names.contains(scope))) {
        errors.invalid(path, all.clone(), "conflicting scopes");
    }
}

/// `validateScopedResourceSelectorRequirement`.
fn scope_selector(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut names = Vec::new();
    for requirement in items(spec, "scopeSelector.matchExpressions") {
        let (scope, operator) = (string(requirement, "scopeName"), string(requirement, "operator"));
        let values = items(requirement, "values");
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for () in fits(spec, scope) {
            errors.invalid(path, at(spec, "scopeSelector").clone(), "unsupported scope applied to resource");
        }
        if PLAIN.contains(&scope) && operator != "Exists" {
            errors.invalid(&path.child("operator"), operator, PLAIN_EXISTS);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&path.child("values"), detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&path.child("values"), at(requirement, "values").clone(), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        names.push(scope);
    }
    for _ in CONFLICTS.iter().filter(|pair| pair.iter().all(|scope| names.contains(scope))) {
        errors.invalid(path, at(spec, "scopes").clone(), "conflicting scopes");
    }
}
