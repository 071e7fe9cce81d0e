//! Where a pod may run: node selection, affinity, tolerations, spreading.

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::meta::label_selector;
use crate::names::{EFFECTS, POSITIVE, label_name};
use crate::value::{at, integer, is_set, items, string, strings};

const WEIGHT: &str = "must be in the range 1-100";

/// `validateAffinity`.
pub fn affinity(affinity: &Value, path: &Path, errors: &mut Errors) {
    node_affinity(at(affinity, "nodeAffinity"), &path.child("nodeAffinity"), errors);
    for field in ["podAffinity", "podAntiAffinity"] {
        let (rules, path) = (at(affinity, field), path.child(field));
        let required = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in items(rules, "requiredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            pod_term(term, &required.index(index), errors);
        }
        let preferred = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (index, term) in items(rules, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            let path = preferred.index(index);
            weight(term, &path, errors);
            pod_term(at(term, "podAffinityTerm"), &path.child("podAffinityTerm"), errors);
        }
    }
}

/// `ValidateTolerations`.
pub fn tolerations(tolerations: &[Value], path: &Path, errors: &mut Errors) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let (key, operator, value) =
            (string(toleration, "key"), string(toleration, "operator"), string(toleration, "value"));
        let effect = string(toleration, "effect");
        if !key.is_empty() {
            label_name(&path.child("key"), key, errors);
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        if is_set(toleration, "tolerationSeconds") && effect != "NoExecute" {
            errors.invalid(&path.child("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator {
            "" | "Equal" => {
                let messages = validation::label_value(value);
                if !messages.is_empty() {
                    errors.invalid(&path.child("operator"), value, messages.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(
                    &path.child("operator"),
                    toleration.clone(),
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "Exists" => {}
            other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.not_supported(&path.child("effect"), effect, &EFFECTS);
        }
    }
}

/// `validateTopologySpreadConstraints`.
pub fn topology_spread(constraints: &[Value], path: &Path, errors: &mut Errors) {
    for (index, constraint) in constraints.iter().enumerate() {
        let path = path.index(index);
        let skew = integer(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&path.child("maxSkew"), skew, POSITIVE);
        }
        let (key, action) = (string(constraint, "topologyKey"), string(constraint, "whenUnsatisfiable"));
        topology_key(key, &path, errors);
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action) {
            errors.not_supported(&path.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let repeats =
            |later: &Value| string(later, "topologyKey") == key && string(later, "whenUnsatisfiable") == action;
        if constraints[index + 1..].iter().any(repeats) {
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = integer(constraint, "minDomains") {
            if domains <= 0 {
                errors.invalid(&path.child("minDomains"), domains, POSITIVE);
            }
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&path.child("minDomains"), domains, detail);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = string(constraint, field);
            if !["", "Honor", "Ignore"].contains(&policy) {
                errors.not_supported(&path.child(field), policy, &["Honor", "Ignore"]);
            }
        }
        match_label_keys(constraint, &path, errors);
        label_selector(at(constraint, "labelSelector"), &path.child("labelSelector"), errors);
    }
}

fn match_label_keys(constraint: &Value, path: &Path, errors: &mut Errors) {
    let selector = at(constraint, "labelSelector");
    for (index, key) in strings(constraint, "matchLabelKeys").enumerate() {
        let path = path.child("matchLabelKeys").index(index);
        label_name(&path, key, errors);
        let in_expressions =
            || items(selector, "matchExpressions").iter().any(|expression| string(expression, "key") == key);
        if at(selector, "matchLabels").get(key).is_some() || in_expressions() {
            errors.invalid(&path, key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}

/// `ValidateNodeSelectorTerm`.
pub fn node_selector_term(term: &Value, path: &Path, errors: &mut Errors) {
    for (index, requirement) in items(term, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        requirement_values(requirement, &path, errors);
        label_name(&path.child("key"), string(requirement, "key"), errors);
        for (index, value) in items(requirement, "values").iter().enumerate() {
            let messages = validation::label_value(value.as_str().unwrap_or(""));
            errors.invalid_each(&path.child("values").index(index), value, messages);
        }
    }
    for (index, requirement) in items(term, "matchFields").iter().enumerate() {
        let path = path.child("matchFields").index(index);
        match string(requirement, "operator") {
            "In" | "NotIn" if items(requirement, "values").len() != 1 => {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&path.child("values"), detail);
            }
            "In" | "NotIn" => {}
            operator => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
        match string(requirement, "key") {
            "metadata.name" => {
                for (index, value) in strings(requirement, "values").enumerate() {
                    let messages = validation::dns1123_subdomain(value);
                    errors.invalid_each(&path.child("values").index(index), &json!(value), messages);
                }
            }
            key => errors.invalid(&path.child("key"), key, "not a valid field selector key"),
        }
    }
}

fn requirement_values(requirement: &Value, path: &Path, errors: &mut Errors) {
    let values = items(requirement, "values");
    match string(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors
                .forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errors.required(&path.child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        operator => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
    }
}

fn node_affinity(rules: &Value, path: &Path, errors: &mut Errors) {
    let required = at(rules, "requiredDuringSchedulingIgnoredDuringExecution");
    if !required.is_null() {
        let path = path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        let terms = items(required, "nodeSelectorTerms");
        if terms.is_empty() {
            errors.required(&path, "must have at least one node selector term");
        }
        for (index, term) in terms.iter().enumerate() {
            node_selector_term(term, &path.index(index), errors);
        }
    }
    for (index, term) in items(rules, "preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
        let path = path.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
        weight(term, &path, errors);
        node_selector_term(at(term, "preference"), &path.child("preference"), errors);
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        label_selector(at(term, field), &path.child(field), errors);
    }
    for name in strings(term, "namespaces") {
        errors.invalid_each(&path.child("namespace"), &json!(name), validation::dns1123_label(name));
    }
    topology_key(string(term, "topologyKey"), path, errors);
}

fn topology_key(key: &str, path: &Path, errors: &mut Errors) {
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    } else {
        label_name(&path.child("topologyKey"), key, errors);
    }
}

fn weight(term: &Value, path: &Path, errors: &mut Errors) {
    let weight = integer(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, WEIGHT);
    }
}
