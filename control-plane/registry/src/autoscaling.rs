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
        spec(at(autoscaler, "spec"), &Value::Null, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        spec(at(new, "spec"), at(old, "spec"), errors);
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

/// `validateHorizontalPodAutoscalerSpec`; what was accepted before may stay (`validationOptionsForHorizontalPodAutoscaler`).
fn spec(spec: &Value, old: &Value, errors: &mut Errors) {
    let (path, lowest) = (Path::new("spec"), i64::from(integer(old, "minReplicas") != Some(0)));
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
    let target = at(spec, "scaleTargetRef");
    let stays = ["apiVersion", "kind"]
        .iter()
        .all(|field| !old.is_null() && string(target, field) == string(at(old, "scaleTargetRef"), field));
    let rule = match string(target, "kind") {
        _ if stays => ApiVersion::Any,
        // The only kind of the core group that can be scaled.
        "ReplicationController" => ApiVersion::OfAnyGroup,
        _ => ApiVersion::OfGroup,
    };
    reference(target, rule, &path.child("scaleTargetRef"), errors);
    metric::validate(spec, metric::api_versions(old), &path.child("metrics"), errors);
    behavior::validate(at(spec, "behavior"), &path.child("behavior"), errors);
}

/// What the `apiVersion` of a reference may be (`CrossVersionObjectReferenceValidationOptions`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ApiVersion {
    Any,
    /// With a group or without.
    OfAnyGroup,
    OfGroup,
}

impl ApiVersion {
    /// `ValidateAPIVersion`.
    fn fault(self, api_version: &str) -> Option<String> {
        match (self, api_version.split('/').collect::<Vec<_>>().as_slice()) {
            (Self::Any, _) => None,
            (_, [_, _, _, ..]) => Some(format!("unexpected GroupVersion string: {api_version}")),
            (Self::OfGroup, [_] | ["", _]) => Some("apiVersion must specify API group".to_owned()),
            _ => None,
        }
    }
}

/// `ValidateCrossVersionObjectReference`.
fn reference(reference: &Value, rule: ApiVersion, path: &Path, errors: &mut Errors) {
    for field in ["kind", "name"] {
        match string(reference, field) {
            "" => errors.required(&path.child(field), ""),
            text => path_segment_name(&path.child(field), text, errors),
        }
    }
    let api_version = string(reference, "apiVersion");
    if let Some(fault) = rule.fault(api_version) {
        errors.invalid(&path.child("apiVersion"), api_version, fault);
    }
}

#[cfg(test)]
mod tests;
