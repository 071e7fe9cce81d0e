//! ResourceSlices: `ValidateResourceSlice`.

mod device;

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_registry::errors::Errors;
use xebec_registry::names::subdomain;
use xebec_registry::strategy::{Column, Context, Scope, Strategy, named};
use xebec_registry::value::{at, default, integer, is_set, items, items_mut, string};

use crate::resource_claim::node_selector;
use crate::set::{members, set};
use crate::{gate, limits, name};

const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

pub struct ResourceSlice;

impl Strategy for ResourceSlice {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, context: &Context, slice: &mut Value) {
        gate::slice(slice);
        stamp_taints(context, slice);
    }

    fn prepare_for_update(&self, context: &Context, new: &mut Value, _old: &Value) {
        gate::slice(new);
        stamp_taints(context, new);
    }

    fn validate_object(&self, slice: &Value, errors: &mut Errors) {
        check(slice, None, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        check(new, Some(old), errors);
    }

    fn fields(&self, slice: &Value) -> Vec<(&'static str, String)> {
        let text = |path| string(slice, path).to_owned();
        vec![("spec.nodeName", text("spec.nodeName")), ("spec.driver", text("spec.driver"))]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Node", "The node that the devices are on."),
                Column::string("Driver", "Whose devices they are."),
                Column::string("Pool", "The pool that the devices belong to."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, slice: &Value, now: OffsetDateTime) -> Vec<Value> {
        let text = |path| json!(string(slice, path));
        named(slice, now, [text("spec.nodeName"), text("spec.driver"), text("spec.pool.name")])
    }
}

/// `SetDefaults_DeviceTaint`.
fn stamp_taints(context: &Context, slice: &mut Value) {
    for device in items_mut(slice, "spec.devices") {
        items_mut(device, "taints").for_each(|taint| default(taint, "timeAdded", context.now_rfc3339()));
    }
}

/// `validateResourceSliceSpec`.
fn check(slice: &Value, old: Option<&Value>, errors: &mut Errors) {
    let (spec, path) = (at(slice, "spec"), Path::new("spec"));
    name::driver(string(spec, "driver"), &path.child("driver"), errors);
    pool(at(spec, "pool"), &path.child("pool"), errors);
    if let Some(old) = old.map(|old| at(old, "spec")) {
        errors.immutable(&path.child("pool").child("name"), at(spec, "pool.name"), at(old, "pool.name"));
        errors.immutable(&path.child("driver"), at(spec, "driver"), at(old, "driver"));
        errors.immutable(&path.child("nodeName"), at(spec, "nodeName"), at(old, "nodeName"));
    }
    let mut places = placement(spec, &path, "must be either unset or set to a non-empty string", errors);
    let terms = items(spec, "nodeSelector.nodeSelectorTerms");
    if is_set(spec, "nodeSelector") && terms.len() != 1 {
        let path = path.child("nodeSelector").child("nodeSelectorTerms");
        errors.invalid(&path, terms, "must have exactly one node selector term");
    }
    let per_device = at(spec, "perDeviceNodeSelection").as_bool();
    match per_device {
        Some(true) => places.push("`perDeviceNodeSelection`"),
        Some(false) => {
            errors.invalid(&path.child("perDeviceNodeSelection"), false, "must be either unset or set to true");
        }
        None => {}
    }
    match places.len() {
        0 => errors.required(&path, ONE),
        1 => {}
        _ => errors.invalid(&path, format!("{{{}}}", places.join(", ")), format!("{ONE}, but multiple fields are set")),
    }
    if is_set(spec, "sharedCounters") && is_set(spec, "devices") {
        errors.invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let devices = items(spec, "devices");
    let advanced = |device: &Value| ["taints", "consumesCounters"].iter().any(|field| !items(device, field).is_empty());
    let max = if devices.iter().any(advanced) { limits::ADVANCED_DEVICES_MAX } else { limits::DEVICES_MAX };
    let by_name = |item: &Value| json!(string(item, "name"));
    set(devices, max, &path.child("devices"), errors, by_name, |device, path, errors| {
        device::check(device, per_device == Some(true), path, errors);
    });
    let counters = items(spec, "sharedCounters");
    set(
        counters,
        limits::COUNTER_SETS_MAX,
        &path.child("sharedCounters"),
        errors,
        by_name,
        |counters, path, errors| {
            match string(counters, "name") {
                "" => errors.required(&path.child("name"), ""),
                text => name::label(&path.child("name"), text, errors),
            }
            counter_map(counters, path, errors);
        },
    );
}

/// Where devices are; the fields that say so.
fn placement(of: &Value, path: &Path, empty: &str, errors: &mut Errors) -> Vec<&'static str> {
    let mut places = Vec::new();
    match at(of, "nodeName").as_str() {
        None => {}
        Some("") => errors.invalid(&path.child("nodeName"), "", empty),
        Some(node) => {
            places.push("`nodeName`");
            subdomain(&path.child("nodeName"), node, errors);
        }
    }
    if is_set(of, "nodeSelector") {
        places.push("`nodeSelector`");
        node_selector(at(of, "nodeSelector"), &path.child("nodeSelector"), errors);
    }
    match at(of, "allNodes").as_bool() {
        None => {}
        Some(true) => places.push("`allNodes`"),
        Some(false) => errors.invalid(&path.child("allNodes"), false, "must be either unset or set to true"),
    }
    places
}

/// `validateResourcePool`.
fn pool(pool: &Value, path: &Path, errors: &mut Errors) {
    name::pool(&path.child("name"), string(pool, "name"), errors);
    let number = |field| integer(pool, field).unwrap_or(0);
    if number("resourceSliceCount") <= 0 {
        let detail = "must be greater than zero";
        errors.invalid(&path.child("resourceSliceCount"), number("resourceSliceCount"), detail);
    }
    if number("generation") < 0 {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.child("generation"), number("generation"), detail);
    }
}

/// The `counters` of a set, or what a device takes of them.
fn counter_map(of: &Value, path: &Path, errors: &mut Errors) {
    let (counters, path) = (at(of, "counters"), path.child("counters"));
    match counters.as_object().map_or(0, serde_json::Map::len) {
        0 => errors.required(&path, ""),
        count if count > limits::COUNTERS_MAX => errors.too_many(&path, count, limits::COUNTERS_MAX),
        _ => members(counters, &path).for_each(|(key, _, _)| name::label(&path, key, errors)),
    }
}
