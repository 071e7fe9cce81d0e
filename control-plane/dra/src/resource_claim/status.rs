//! The status of a claim: who allocated what, and for whom (`validateResourceClaimStatusUpdate`).

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::validation;
use xebec_registry::errors::Errors;
use xebec_registry::meta;
use xebec_registry::names::required;
use xebec_registry::pod;
use xebec_registry::value::{at, default, is_set, items, items_mut, object_mut, remove, same, string};

use crate::set::{list, set};
use crate::{limits, name, request, taint};

/// Tolerations that were copied from a request.
pub fn defaults(claim: &mut Value) {
    for result in items_mut(claim, "status.allocation.devices.results") {
        items_mut(result, "tolerations").for_each(|toleration| default(toleration, "operator", "Equal"));
    }
}

/// What a driver said of a device goes with the allocation of the device (`dropDeallocatedStatusDevices`).
pub fn drop_deallocated(new: &mut Value, old: &Value) {
    const RESULTS: &str = "status.allocation.devices.results";
    if items(new, "status.devices").is_empty() {
        return;
    }
    let gone: Vec<Value> = items(old, RESULTS)
        .iter()
        .map(device)
        .filter(|id| !items(new, RESULTS).iter().any(|r| device(r) == *id))
        .collect();
    let kept: Vec<Value> =
        items(new, "status.devices").iter().filter(|status| !gone.contains(&device(status))).cloned().collect();
    if kept.is_empty() {
        remove(new, "status.devices");
    } else {
        object_mut(new, "status").insert("devices".into(), Value::Array(kept));
    }
}

/// What identifies a device.
fn device(of: &Value) -> Value {
    json!({"driver": string(of, "driver"), "pool": string(of, "pool"), "device": string(of, "device")})
}

pub fn check(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, path) = (at(new, "status"), Path::new("status"));
    let reserved_path = path.child("reservedFor");
    let reserved = items(status, "reservedFor");
    let by_uid = |consumer: &Value| json!(string(consumer, "uid"));
    set(reserved, limits::RESERVED_FOR_MAX, &reserved_path, errors, by_uid, |consumer, path, errors| {
        ["resource", "name", "uid"].iter().for_each(|field| required(consumer, field, path, errors));
    });
    let results = items(status, "allocation.devices.results");
    set(items(status, "devices"), usize::MAX, &path.child("devices"), errors, device, |status, path, errors| {
        device_status(status, results, path, errors);
    });
    if !reserved.is_empty() {
        if !is_set(status, "allocation") {
            errors.forbidden(&reserved_path, "may not be specified when `allocated` is not set");
        } else if is_set(new, "metadata.deletionTimestamp") {
            let before = items(old, "status.reservedFor");
            if reserved.iter().any(|consumer| !before.iter().any(|known| same(known, consumer))) {
                let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
                errors.forbidden(&reserved_path, why);
            }
        }
    }
    let (allocation, before) = (at(status, "allocation"), at(old, "status.allocation"));
    match (allocation.is_null(), before.is_null()) {
        (true, _) => {}
        (false, true) => check_allocation(new, allocation, &path.child("allocation"), errors),
        (false, false) => errors.immutable(&path.child("allocation"), allocation, before),
    }
}

/// `validateAllocationResult`.
fn check_allocation(claim: &Value, allocation: &Value, path: &Path, errors: &mut Errors) {
    let names = request::Names::of(at(claim, "spec"));
    let devices = path.child("devices");
    let results = items(allocation, "devices.results");
    list(results, limits::RESULTS_MAX, &devices.child("results"), errors, |result, path, errors| {
        names.check(string(result, "request"), &path.child("request"), errors);
        identity(result, path, errors);
        taint::tolerations(items(result, "tolerations"), &path.child("tolerations"), errors);
    });
    let configs = items(allocation, "devices.config");
    list(configs, 2 * limits::CONFIG_MAX, &devices.child("config"), errors, |config, path, errors| {
        errors.one_of(&path.child("source"), string(config, "source"), &["FromClaim", "FromClass"]);
        names.check_list(config, path, errors);
        request::config(config, path, errors);
    });
    if is_set(allocation, "nodeSelector") {
        node_selector(at(allocation, "nodeSelector"), &path.child("nodeSelector"), errors);
    }
}

/// `ValidateNodeSelector`.
pub fn node_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    let (terms, path) = (items(selector, "nodeSelectorTerms"), path.child("nodeSelectorTerms"));
    if terms.is_empty() {
        return errors.required(&path, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        pod::node_selector_term(term, &path.index(index), errors);
    }
}

fn identity(of: &Value, path: &Path, errors: &mut Errors) {
    name::driver(string(of, "driver"), &path.child("driver"), errors);
    name::pool(&path.child("pool"), string(of, "pool"), errors);
    name::label(&path.child("device"), string(of, "device"), errors);
}

/// `validateDeviceStatus`.
fn device_status(status: &Value, allocated: &[Value], path: &Path, errors: &mut Errors) {
    identity(status, path, errors);
    let id = device(status);
    if !allocated.iter().any(|result| device(result) == id) {
        errors.invalid(path, id, "must be an allocated device in the claim");
    }
    let conditions = items(status, "conditions").len();
    if conditions > limits::STATUS_CONDITIONS_MAX {
        errors.too_many(&path.child("conditions"), conditions, limits::STATUS_CONDITIONS_MAX);
    }
    meta::conditions(status, &path.child("conditions"), errors);
    if is_set(status, "data") {
        request::raw(at(status, "data"), limits::STATUS_DATA_BYTES_MAX, &path.child("data"), errors);
    }
    let (network, path) = (at(status, "networkData"), path.child("networkData"));
    for (field, max) in
        [("interfaceName", limits::INTERFACE_NAME_BYTES_MAX), ("hardwareAddress", limits::HARDWARE_ADDRESS_BYTES_MAX)]
    {
        if string(network, field).len() > max {
            errors.too_long(&path.child(field), max);
        }
    }
    set(items(network, "ips"), limits::IPS_MAX, &path.child("ips"), errors, Value::clone, |ip, path, errors| {
        let messages = validation::cidr(ip.as_str().unwrap_or(""));
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        errors.invalid_each(path, ip, messages.iter().map(|_| detail));
    });
}
