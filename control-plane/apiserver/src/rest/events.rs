//! `events.k8s.io/v1` is a view of the core group's events: the same objects with other field names
//! (`k8s.io/kubernetes/pkg/apis/events/v1/conversion.go`).

use serde_json::Value;
use xebec_machinery::{Status, object};

use crate::kinds::Resource;

/// (core/v1, events.k8s.io/v1)
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A stored object as `resource` shows it.
pub fn shown(resource: &Resource, mut value: Value) -> Result<Value, Status> {
    if resource.converted() {
        rename(&mut value, |(core, event)| (core, event));
        object::set_type(&mut value, "events.k8s.io/v1", "Event");
    }
    Ok(value)
}

/// An object of `resource` as it is stored.
pub fn stored(resource: &Resource, value: &mut Value) {
    if resource.converted() {
        rename(value, |(core, event)| (event, core));
        object::set_type(value, "v1", "Event");
    }
}

fn rename(value: &mut Value, pair: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Value::Object(map) = value else { return };
    for (from, to) in NAMES.into_iter().map(pair) {
        if let Some(field) = map.remove(from) {
            map.insert(to.to_owned(), field);
        }
    }
}
