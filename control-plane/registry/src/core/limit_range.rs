//! LimitRanges: `ValidateLimitRange`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::{Quantity, validation};

use super::quota_names;
use crate::errors::Errors;
use crate::pod::resources::{may_overcommit, quantity};
use crate::strategy::Strategy;
use crate::value::{at, entries, items, items_mut, object_mut, string};

const TYPES: &[&str] = &["Container", "PersistentVolumeClaim", "Pod"];
const BOUNDS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub struct LimitRange;

impl Strategy for LimitRange {
    /// `SetDefaults_LimitRangeItem`: what a container gets follows from what it may have.
    fn default(&self, range: &mut Value) {
        for item in items_mut(range, "spec.limits").filter(|item| string(item, "type") == "Container") {
            for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
                let known = item[from].as_object().cloned().unwrap_or_else(Map::new);
                if known.is_empty() {
                    continue;
                }
                let target = object_mut(item, to);
                for (name, amount) in known {
                    target.entry(name).or_insert(amount);
                }
            }
        }
    }

    fn validate_object(&self, range: &Value, errors: &mut Errors) {
        let limits = items(range, "spec.limits");
        for (index, item) in limits.iter().enumerate() {
            let path = Path::new("spec").child("limits").index(index);
            let kind = string(item, "type");
            limit_type(kind, &path.child("type"), errors);
            if limits[..index].iter().any(|earlier| string(earlier, "type") == kind) {
                errors.duplicate(&path.child("type"), kind);
            }
            limit(item, kind, &path, errors);
        }
    }
}

fn limit_type(kind: &str, path: &Path, errors: &mut Errors) {
    let messages = validation::qualified_name(kind);
    if messages.is_empty() && !kind.contains('/') && !TYPES.contains(&kind) {
        errors.invalid(path, kind, "must be a standard limit type or fully qualified");
    }
    errors.invalid_each(path, &json!(kind), messages);
}

fn limit(item: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for bound in BOUNDS {
        let is_default = ["default", "defaultRequest"].contains(&bound);
        if kind == "Pod" && is_default {
            if entries(item, bound).next().is_some() {
                errors.forbidden(&path.child(bound), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, _) in entries(item, bound) {
            let path = path.child(bound).key(name);
            if ["Pod", "Container"].contains(&kind) {
                quota_names::container(name, &path, errors);
            } else {
                quota_names::resource(name, &path, errors);
            }
            names.insert(name.as_str());
        }
    }
    let has_storage = ["min", "max"].iter().any(|bound| at(item, bound).get("storage").is_some());
    if kind == "PersistentVolumeClaim" && !has_storage {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    for name in names {
        compare(item, name, path, errors);
    }
}

/// What the bounds of one resource must be to each other.
fn compare(item: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let of = |bound: &str| at(item, bound).get(name).and_then(quantity);
    let [max, min, default, request, ratio] = BOUNDS.map(of);
    // Field, value shown, and the two that are in the wrong order, as they are called.
    let orders = [
        ("min", min, min, "min value", max, "max value"),
        ("defaultRequest", request, min, "min value", request, "default request value"),
        ("defaultRequest", request, request, "default request value", max, "max value"),
        ("defaultRequest", request, request, "default request value", default, "default limit value"),
        ("default", min, min, "min value", default, "default value"),
        ("default", max, default, "default value", max, "max value"),
    ];
    for (field, shown, low, low_name, high, high_name) in orders {
        if let (Some(shown), Some(low), Some(high)) = (shown, low, high)
            && low > high
        {
            let detail = format!("{low_name} {low} is greater than {high_name} {high}");
            errors.invalid(&path.child(field).key(name), shown.to_string(), detail);
        }
    }
    let ratio_path = path.child("maxLimitRequestRatio").key(name);
    if let Some(ratio) = ratio.filter(|ratio| *ratio < Quantity::from_value(1)) {
        errors.invalid(&ratio_path, ratio.to_string(), format!("ratio {ratio} is less than 1"));
    }
    if let (Some(ratio), Some(min), Some(max)) = (ratio, min, max) {
        let most = max.as_milli() as f64 / min.as_milli() as f64;
        if ratio.as_milli() as f64 / 1000.0 > most {
            let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
            errors.invalid(&ratio_path, ratio.to_string(), detail);
        }
    }
    if let (Some(default), Some(request)) = (default, request)
        && !may_overcommit(name)
        && default != request
    {
        let detail = format!("default value {default} must equal to defaultRequest value {request} in {name}");
        errors.invalid(&path.child("defaultRequest").key(name), request.to_string(), detail);
    }
}
