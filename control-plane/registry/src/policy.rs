//! PodDisruptionBudgets: `pkg/apis/policy/validation`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use crate::apps::status_counts;
use crate::errors::Errors;
use crate::meta;
use crate::names::{at_most_100_percent, int_or_percent};
use crate::strategy::{Column, Strategy, named};
use crate::value::{at, integer, is_set};

const EVICTION_POLICIES: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];

pub struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// Every update names the version that it is made from.
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_object(&self, budget: &Value, errors: &mut Errors) {
        let (spec, path) = (at(budget, "spec"), Path::new("spec"));
        let bounds = ["minAvailable", "maxUnavailable"];
        if bounds.iter().all(|field| is_set(spec, field)) {
            errors.invalid(&path, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
        }
        for field in bounds.into_iter().filter(|field| is_set(spec, field)) {
            int_or_percent(at(spec, field), &path.child(field), errors);
            at_most_100_percent(at(spec, field), &path.child(field), errors);
        }
        meta::label_selector(at(spec, "selector"), &path.child("selector"), errors);
        if let Some(policy) = at(spec, "unhealthyPodEvictionPolicy").as_str()
            && !EVICTION_POLICIES.contains(&policy)
        {
            errors.not_supported(&path.child("unhealthyPodEvictionPolicy"), policy, EVICTION_POLICIES);
        }
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let status = at(new, "status");
        meta::conditions(status, &Path::new("status").child("conditions"), errors);
        status_counts(status, &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"], errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Min Available", "How many pods must stay available."),
                Column::string("Max Unavailable", "How many pods may be unavailable."),
                Column::integer("Allowed Disruptions", "How many pods may be disrupted at this time."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, budget: &Value, now: OffsetDateTime) -> Vec<Value> {
        let bound = |field| match at(at(budget, "spec"), field) {
            Value::Null => json!("N/A"),
            Value::Number(count) => json!(count.to_string()),
            percent => percent.clone(),
        };
        let allowed = json!(integer(budget, "status.disruptionsAllowed").unwrap_or(0));
        named(budget, now, [bound("minAvailable"), bound("maxUnavailable"), allowed])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spec: Value, expected: &[&str]) {
        let budget = json!({"metadata": {"name": "b", "namespace": "n"}, "spec": spec});
        let errors: Vec<String> = PodDisruptionBudget.validate(&budget).iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected);
    }

    #[test]
    fn a_budget_has_one_bound() {
        check(json!({"minAvailable": 1}), &[]);
        check(json!({"maxUnavailable": "50%", "unhealthyPodEvictionPolicy": "AlwaysAllow"}), &[]);
        check(
            json!({"minAvailable": 1, "maxUnavailable": 1}),
            &[
                "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
            ],
        );
        check(
            json!({"minAvailable": "101%", "unhealthyPodEvictionPolicy": "Never"}),
            &[
                "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ],
        );
        check(
            json!({"maxUnavailable": -1}),
            &["spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0"],
        );
    }

    #[test]
    fn a_budget_is_a_row() {
        let budget =
            json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 2}, "status": {"disruptionsAllowed": 1}});
        let cells = PodDisruptionBudget.row(&budget, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(cells[..4], [json!("b"), json!("2"), json!("N/A"), json!(1)]);
    }
}
