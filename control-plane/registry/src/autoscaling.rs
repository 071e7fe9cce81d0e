//! HorizontalPodAutoscalers, stored as autoscaling/v2: `pkg/apis/autoscaling`.

pub mod convert;

mod behavior;
mod metric;
mod print;
mod scale;

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use crate::apps::status_counts;
use crate::errors::Errors;
use crate::names::path_segment_name;
use crate::strategy::{Column, Strategy};
use crate::value::{at, default, integer, items, string};

pub use scale::Scale;

/// `autoscaling.DefaultCPUUtilization`.
const CPU_UTILIZATION: i64 = 80;

pub struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn default(&self, autoscaler: &mut Value) {
        let Some(spec) = autoscaler.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        default(spec, "minReplicas", 1);
        if items(spec, "metrics").is_empty() {
            spec["metrics"] = json!([{
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_UTILIZATION}},
            }]);
        }
        behavior::default(spec);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &crate::Context, autoscaler: &mut Value) {
        crate::value::set(autoscaler, "status", json!({"desiredReplicas": 0, "currentMetrics": null}));
    }

    fn validate_object(&self, autoscaler: &Value, errors: &mut Errors) {
        spec(at(autoscaler, "spec"), 1, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let lowest = i64::from(integer(old, "spec.minReplicas") != Some(0));
        spec(at(new, "spec"), lowest, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        status_counts(at(new, "status"), &["currentReplicas", "desiredReplicas"], errors);
    }

    fn columns(&self) -> &'static [Column] {
        print::COLUMNS
    }

    fn row(&self, autoscaler: &Value, now: OffsetDateTime) -> Vec<Value> {
        print::row(autoscaler, now)
    }
}

/// `validateHorizontalPodAutoscalerSpec`.
fn spec(spec: &Value, lowest: i64, errors: &mut Errors) {
    let path = Path::new("spec");
    let (min, max) = (integer(spec, "minReplicas"), integer(spec, "maxReplicas").unwrap_or(0));
    if let Some(min) = min.filter(|min| *min < lowest) {
        errors.invalid(&path.child("minReplicas"), min, format!("must be greater than or equal to {lowest}"));
    }
    let max_path = path.child("maxReplicas");
    if max < 1 {
        errors.invalid(&max_path, max, "must be greater than 0");
    }
    if min.is_some_and(|min| max < min) {
        errors.invalid(&max_path, max, "must be greater than or equal to `minReplicas`");
    }
    reference(at(spec, "scaleTargetRef"), &path.child("scaleTargetRef"), errors);
    metric::validate(spec, &path.child("metrics"), errors);
    behavior::validate(at(spec, "behavior"), &path.child("behavior"), errors);
}

/// `ValidateCrossVersionObjectReference`.
fn reference(reference: &Value, path: &Path, errors: &mut Errors) {
    for field in ["kind", "name"] {
        match string(reference, field) {
            "" => errors.required(&path.child(field), ""),
            text => path_segment_name(&path.child(field), text, errors),
        }
    }
}

#[cfg(test)]
mod tests;
