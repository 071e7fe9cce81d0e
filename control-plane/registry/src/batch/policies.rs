//! What makes a job fail, succeed or replace a pod: `validatePodFailurePolicy`, `validateSuccessPolicy`, `validatePodReplacementPolicy`.

use serde_json::Value;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use super::indexes;
use crate::errors::Errors;
use crate::names::not_negative;
use crate::value::{at, integer, is_set, items, string};

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;
const SUCCESS_RULES_MAX: usize = 20;
const SUCCEEDED_INDEXES_BYTES_MAX: usize = 64 << 10;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATES: &[&str] = &["False", "True", "Unknown"];

pub fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    if is_set(spec, "podFailurePolicy") {
        failure_policy(spec, &path.child("podFailurePolicy").child("rules"), errors);
    }
    if is_set(spec, "successPolicy") {
        let path = path.child("successPolicy");
        if string(spec, "completionMode") == "Indexed" {
            success_policy(spec, &path.child("rules"), errors);
        } else {
            errors.invalid(&path, at(spec, "successPolicy").clone(), "requires indexed completion mode");
        }
    }
    let path = path.child("podReplacementPolicy");
    match (at(spec, "podReplacementPolicy").as_str(), is_set(spec, "podFailurePolicy")) {
        (None | Some("Failed"), _) | (Some("TerminatingOrFailed"), false) => {}
        (Some(other), true) => errors.not_supported(&path, other, &["Failed"]),
        (Some(other), false) => errors.not_supported(&path, other, &["Failed", "TerminatingOrFailed"]),
    }
}

fn failure_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    let rules = items(spec, "podFailurePolicy.rules");
    if rules.len() > RULES_MAX {
        errors.too_many(path, rules.len(), RULES_MAX);
    }
    for (index, rule) in rules.iter().enumerate() {
        failure_rule(spec, rule, &path.index(index), errors);
    }
}

fn failure_rule(spec: &Value, rule: &Value, path: &Path, errors: &mut Errors) {
    let action_path = path.child("action");
    match string(rule, "action") {
        "" => errors.required(&action_path, valid_values(ACTIONS)),
        "FailIndex" if !is_set(spec, "backoffLimitPerIndex") => {
            errors.invalid(&action_path, "FailIndex", "requires the backoffLimitPerIndex to be set");
        }
        action if ACTIONS.contains(&action) => {}
        other => errors.not_supported(&action_path, other, ACTIONS),
    }
    let conditions = items(rule, "onPodConditions");
    if is_set(rule, "onExitCodes") {
        exit_codes(spec, at(rule, "onExitCodes"), &path.child("onExitCodes"), errors);
    }
    if !conditions.is_empty() {
        pod_conditions(conditions, &path.child("onPodConditions"), errors);
    }
    match (is_set(rule, "onExitCodes"), !conditions.is_empty()) {
        (true, true) => {
            errors.invalid_whole(path, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        (false, false) => {
            errors.invalid_whole(path, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        _ => {}
    }
}

fn exit_codes(spec: &Value, codes: &Value, path: &Path, errors: &mut Errors) {
    let operator = string(codes, "operator");
    match operator {
        "" => errors.required(&path.child("operator"), valid_values(OPERATORS)),
        known if OPERATORS.contains(&known) => {}
        other => errors.not_supported(&path.child("operator"), other, OPERATORS),
    }
    if let Some(name) = at(codes, "containerName").as_str() {
        let containers = ["containers", "initContainers"].map(|kind| items(at(spec, "template.spec"), kind));
        if !containers.into_iter().flatten().any(|container| string(container, "name") == name) {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.invalid(&path.child("containerName"), name, detail);
        }
    }
    let (values, path) = (items(codes, "values"), path.child("values"));
    if values.is_empty() {
        errors.invalid(&path, at(codes, "values").clone(), "at least one value is required");
    } else if values.len() > EXIT_CODES_MAX {
        errors.too_many(&path, values.len(), EXIT_CODES_MAX);
    }
    for (index, value) in values.iter().enumerate() {
        if operator == "In" && value.as_i64() == Some(0) {
            errors.invalid(&path.index(index), 0, "must not be 0 for the In operator");
        }
        if values[..index].contains(value) {
            errors.duplicate(&path.index(index), value.clone());
        }
    }
    if !values.is_sorted_by_key(|value| value.as_i64().unwrap_or(0)) {
        errors.invalid(&path, at(codes, "values").clone(), "must be ordered");
    }
}

fn pod_conditions(conditions: &[Value], path: &Path, errors: &mut Errors) {
    if conditions.len() > CONDITIONS_MAX {
        errors.too_many(path, conditions.len(), CONDITIONS_MAX);
    }
    for (index, pattern) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = string(pattern, "type");
        errors.invalid_each(&path.child("type"), &Value::from(kind), validation::qualified_name(kind));
        match string(pattern, "status") {
            "" => errors.required(&path.child("status"), valid_values(STATES)),
            state if STATES.contains(&state) => {}
            other => errors.not_supported(&path.child("status"), other, STATES),
        }
    }
}

fn success_policy(spec: &Value, path: &Path, errors: &mut Errors) {
    let rules = items(spec, "successPolicy.rules");
    if rules.is_empty() {
        errors.required(path, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > SUCCESS_RULES_MAX {
        errors.too_many(path, rules.len(), SUCCESS_RULES_MAX);
    }
    // Its absence is reported with the completion mode.
    let completions = integer(spec, "completions").unwrap_or(0);
    for (index, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, &path.index(index), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path, errors: &mut Errors) {
    let (count, indexes) = (integer(rule, "succeededCount"), at(rule, "succeededIndexes").as_str());
    if count.is_none() && indexes.is_none() {
        errors.required(path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(text) = indexes {
        let path = path.child("succeededIndexes");
        if text.len() > SUCCEEDED_INDEXES_BYTES_MAX {
            errors.too_long(&path, SUCCEEDED_INDEXES_BYTES_MAX);
        }
        match indexes::count(text, completions) {
            Ok(found) => total = found,
            Err(why) => errors.invalid(&path, text, format!("error parsing succeededIndexes: {why}")),
        }
    }
    let Some(count) = count else { return };
    not_negative(rule, "succeededCount", path, errors);
    let path = path.child("succeededCount");
    if count > completions {
        let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.invalid(&path, count, detail);
    }
    if indexes.is_some() && count > total {
        let detail = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.invalid(&path, count, detail);
    }
}

/// Go's `%q` of a list.
fn valid_values(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}
