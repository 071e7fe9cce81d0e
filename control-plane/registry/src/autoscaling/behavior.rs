//! How fast an autoscaler may scale: defaults and `validateBehavior`.

use serde_json::{Value, json};
use xebec_machinery::field::Path;

use crate::errors::Errors;
use crate::names::POSITIVE;
use crate::pod::resources::quantity;
use crate::value::{at, default as fill, integer, is_set, items, object_mut, string};

const WINDOW_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;
const SELECTIONS: &[&str] = &["Disabled", "Max", "Min"];
const POLICY_TYPES: &[&str] = &["Percent", "Pods"];

/// `SetDefaults_HorizontalPodAutoscalerBehavior`: who says something of one direction gets the whole of both.
pub fn default(spec: &mut Value) {
    if !is_set(spec, "behavior") {
        return;
    }
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (direction, policies) in [("scaleUp", json!([pods, percent])), ("scaleDown", json!([percent]))] {
        object_mut(spec, "behavior").entry(direction).or_insert(Value::Null);
        let rules = &mut spec["behavior"][direction];
        if rules.is_null() {
            *rules = json!({});
        }
        fill(rules, "selectPolicy", "Max");
        if !rules["policies"].is_array() {
            rules["policies"] = policies;
        }
        // How long to wait before scaling down is the controller's to decide.
        if direction == "scaleUp" {
            fill(rules, "stabilizationWindowSeconds", 0);
        }
    }
}

pub fn validate(behavior: &Value, path: &Path, errors: &mut Errors) {
    for direction in ["scaleUp", "scaleDown"] {
        if is_set(behavior, direction) {
            rules(at(behavior, direction), &path.child(direction), errors);
        }
    }
}

/// `validateScalingRules`.
fn rules(rules: &Value, path: &Path, errors: &mut Errors) {
    if let Some(window) = integer(rules, "stabilizationWindowSeconds") {
        let path = path.child("stabilizationWindowSeconds");
        if window < 0 {
            errors.invalid(&path, window, "must be greater than or equal to zero");
        }
        if window > WINDOW_SECONDS_MAX {
            errors.invalid(&path, window, format!("must be less than or equal to {WINDOW_SECONDS_MAX}"));
        }
    }
    if let Some(selection) = at(rules, "selectPolicy").as_str().filter(|policy| !SELECTIONS.contains(policy)) {
        errors.not_supported(&path.child("selectPolicy"), selection, SELECTIONS);
    }
    let (policies, policies_path) = (items(rules, "policies"), path.child("policies"));
    if policies.is_empty() {
        errors.required(&policies_path, "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = policies_path.index(index);
        let kind = string(policy, "type");
        if !POLICY_TYPES.contains(&kind) {
            errors.not_supported(&path.child("type"), kind, POLICY_TYPES);
        }
        for field in ["value", "periodSeconds"] {
            let value = integer(policy, field).unwrap_or(0);
            if value <= 0 {
                errors.invalid(&path.child(field), value, POSITIVE);
            }
        }
        if let Some(period) = integer(policy, "periodSeconds").filter(|period| *period > PERIOD_SECONDS_MAX) {
            let detail = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            errors.invalid(&path.child("periodSeconds"), period, detail);
        }
    }
    if let Some(tolerance) = quantity(at(rules, "tolerance")).filter(|tolerance| tolerance.is_negative()) {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("tolerance"), tolerance.to_string(), detail);
    }
}
