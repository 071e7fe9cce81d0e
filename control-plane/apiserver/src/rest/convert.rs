//! Resources that are a view of objects stored in another form: `events.k8s.io/v1` of the core group's events
//! (`pkg/apis/events/v1/conversion.go`), `autoscaling/v1` of autoscaling/v2 ([`xebec_registry::autoscaling::convert`]).

use serde_json::Value;
use xebec_machinery::Status;
use xebec_machinery::selector::FieldSelector;
use xebec_registry::autoscaling;
use xebec_registry::core::event;

use crate::kinds::Resource;

/// A stored object as `resource` shows it.
pub fn shown(resource: &Resource, value: Value) -> Result<Value, Status> {
    Ok(match resource.row.group {
        _ if !resource.converted() => resource.in_this_version(value),
        "events.k8s.io" => event::to_events_v1(&value),
        _ => autoscaling::convert::to_v1(&value),
    })
}

/// A field selector of `resource`, by the names that the stored form has.
pub fn fields(resource: &Resource, selector: &FieldSelector) -> FieldSelector {
    let mut selector = selector.clone();
    if resource.row.group == "events.k8s.io" {
        for requirement in &mut selector.requirements {
            requirement.field = event::field_of_events_v1(&requirement.field);
        }
    }
    selector
}

/// An object of `resource` as it is stored; one that is in that form already stays.
pub fn stored(resource: &Resource, value: &mut Value) {
    if resource.converted() {
        *value = match resource.row.group {
            "events.k8s.io" => event::from_events_v1(value),
            _ => autoscaling::convert::from_v1(value),
        };
    }
}
