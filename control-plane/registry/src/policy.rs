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
