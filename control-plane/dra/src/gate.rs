//! Fields of features that do not exist here. They are dropped when an object is written, as upstream does where a feature gate is off: a client that
//! sends them sees that they are gone, instead of relying on what nobody does.
//!
//! `DRAConsumableCapacity`, `DRADeviceBindingConditions`, `DRAExtendedResource`, `DRAListTypeAttributes` and `DRANodeAllocatableResources`.

use serde_json::Value;
use xebec_registry::value::{at_mut, items_mut, remove};

/// Of a device class.
pub fn class(class: &mut Value) {
    remove(class, "spec.extendedResourceName");
}

/// Of the `spec` of a claim.
pub fn claim(spec: &mut Value) {
    for request in items_mut(spec, "devices.requests") {
        remove(request, "exactly.capacity");
        items_mut(request, "firstAvailable").for_each(|sub| remove(sub, "capacity"));
    }
    items_mut(spec, "devices.constraints").for_each(|constraint| remove(constraint, "distinctAttribute"));
}

/// Of the `status` of a claim.
pub fn status(status: &mut Value) {
    for result in items_mut(status, "allocation.devices.results") {
        for field in ["bindingConditions", "bindingFailureConditions", "consumedCapacity", "shareID"] {
            remove(result, field);
        }
    }
    remove(status, "allocation.allocationTimestamp");
    items_mut(status, "devices").for_each(|device| remove(device, "shareID"));
}

/// Of a slice's devices.
pub fn slice(slice: &mut Value) {
    for device in items_mut(slice, "spec.devices") {
        let dropped = [
            "allowMultipleAllocations",
            "bindingConditions",
            "bindingFailureConditions",
            "bindsToNode",
            "nodeAllocatableResourceMappings",
        ];
        for field in dropped {
            remove(device, field);
        }
        for attribute in
            at_mut(device, "attributes").and_then(Value::as_object_mut).into_iter().flat_map(|a| a.values_mut())
        {
            for field in ["bools", "ints", "strings", "versions"] {
                remove(attribute, field);
            }
        }
        for capacity in
            at_mut(device, "capacity").and_then(Value::as_object_mut).into_iter().flat_map(|c| c.values_mut())
        {
            remove(capacity, "requestPolicy");
        }
    }
}
