//! One device of a slice: `validateDevice`.

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_registry::errors::Errors;
use xebec_registry::value::{at, is_set, items, string};

use super::{counter_map, placement};
use crate::set::{members, set};
use crate::{limits, name, selector, taint};

const PER_DEVICE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
const PER_SLICE: &str = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";

pub fn check(device: &Value, per_device: bool, path: &Path, errors: &mut Errors) {
    name::label(&path.child("name"), string(device, "name"), errors);
    let (attributes, capacity) = (at(device, "attributes"), at(device, "capacity"));
    let count =
        [attributes, capacity].iter().filter_map(|map| map.as_object()).map(serde_json::Map::len).sum::<usize>();
    if count > limits::ATTRIBUTES_AND_CAPACITIES_MAX {
        let max = limits::ATTRIBUTES_AND_CAPACITIES_MAX;
        errors.invalid(path, count, format!("the total number of attributes and capacities must not exceed {max}"));
    }
    let attributes_path = path.child("attributes");
    for (key, value, path) in members(attributes, &attributes_path) {
        name::qualified(&attributes_path, key, errors);
        attribute(value, &path, errors);
    }
    let capacity_path = path.child("capacity");
    members(capacity, &capacity_path).for_each(|(key, _, _)| name::qualified(&capacity_path, key, errors));
    taint::taints(items(device, "taints"), &path.child("taints"), errors);
    let consumed = items(device, "consumesCounters");
    let by_set = |consumed: &Value| json!(string(consumed, "counterSet"));
    let consumed_path = path.child("consumesCounters");
    set(consumed, limits::CONSUMED_SETS_MAX, &consumed_path, errors, by_set, |consumed, path, errors| {
        match string(consumed, "counterSet") {
            "" => errors.required(&path.child("counterSet"), ""),
            text => name::label(&path.child("counterSet"), text, errors),
        }
        counter_map(consumed, path, errors);
    });
    if per_device {
        let places = placement(device, path, "must not be empty", errors);
        match places.len() {
            0 => errors.required(path, PER_DEVICE),
            1 => {}
            _ => errors.invalid(path, format!("{{{}}}", places.join(", ")), PER_DEVICE),
        }
    } else if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| is_set(device, field)) {
        errors.invalid(path, Value::Null, PER_SLICE);
    }
}

/// `validateDeviceAttribute`.
fn attribute(attribute: &Value, path: &Path, errors: &mut Errors) {
    for field in ["string", "version"] {
        let Some(text) = at(attribute, field).as_str() else { continue };
        let path = path.child(field);
        if field == "version" && !selector::is_version(text) {
            errors.invalid(&path, text, "must be a string compatible with semver.org spec 2.0.0");
        }
        if text.len() > limits::ATTRIBUTE_BYTES_MAX {
            errors.too_long(&path, limits::ATTRIBUTE_BYTES_MAX);
        }
    }
    match ["bool", "int", "string", "version"].iter().filter(|field| is_set(attribute, field)).count() {
        0 => errors.invalid(path, "", "exactly one value must be specified"),
        1 => {}
        _ => errors.invalid(path, attribute.clone(), "exactly one value must be specified"),
    }
}
