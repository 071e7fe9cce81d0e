//! Events, stored once and served as core/v1 and events.k8s.io/v1.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use crate::duration;
use crate::errors::Errors;
use crate::strategy::{Column, Strategy};
use crate::value::{integer, is_set, set, string};

/// Field names: core/v1, events.k8s.io/v1.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Events in the form of core/v1.
pub struct Event;

impl Strategy for Event {
    /// `legacyValidateEvent`.
    fn validate_object(&self, event: &Value, errors: &mut Errors) {
        let (namespace, involved) = (crate::meta::namespace(event), string(event, "involvedObject.namespace"));
        let fits = if involved.is_empty() { ["", "default"].contains(&namespace) } else { namespace == involved };
        if !fits {
            let path = Path::new("involvedObject").child("namespace");
            errors.invalid(&path, involved, "does not match event.namespace");
        }
        if !is_set(event, "eventTime") {
            return;
        }
        for (field, name, max) in
            [("reportingComponent", "reportingController", 253), ("reportingInstance", "reportingInstance", 128)]
        {
            match string(event, field) {
                "" => errors.required(&Path::new(name), ""),
                text if text.len() > max => {
                    errors.invalid(&Path::new(name), "", format!("can have at most {max} characters"))
                }
                _ => {}
            }
        }
        for field in ["action", "reason"] {
            match string(event, field) {
                "" => errors.required(&Path::new(field), ""),
                text if text.len() > 128 => errors.invalid(&Path::new(field), "", "can have at most 128 characters"),
                _ => {}
            }
        }
        if string(event, "message").len() > 1024 {
            errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
        }
        let kind = string(event, "type");
        if !["Normal", "Warning"].contains(&kind) {
            errors.invalid(&Path::new("type"), "", format!("has invalid value: {kind}"));
        }
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn fields(&self, event: &Value) -> Vec<(&'static str, String)> {
        let text = |path| string(event, path).to_owned();
        let source = match string(event, "source.component") {
            "" => text("reportingComponent"),
            component => component.to_owned(),
        };
        vec![
            ("involvedObject.kind", text("involvedObject.kind")),
            ("involvedObject.namespace", text("involvedObject.namespace")),
            ("involvedObject.name", text("involvedObject.name")),
            ("involvedObject.uid", text("involvedObject.uid")),
            ("involvedObject.apiVersion", text("involvedObject.apiVersion")),
            ("involvedObject.resourceVersion", text("involvedObject.resourceVersion")),
            ("involvedObject.fieldPath", text("involvedObject.fieldPath")),
            ("reason", text("reason")),
            ("reportingComponent", text("reportingComponent")),
            ("source", source),
            ("type", text("type")),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::string("Last Seen", "When the event happened last."),
                Column::string("Type", "Normal or Warning."),
                Column::string("Reason", "Why the event happened, in a word."),
                Column::string("Object", "What the event is about."),
                Column::wide("Subobject", "The part of the object that the event is about."),
                Column::wide("Source", "Who reported the event."),
                Column::string("Message", "What happened."),
                Column::wide("First Seen", "When the event happened first."),
                Column { kind: "string", ..Column::wide("Count", "How often the event happened.") },
                Column { priority: 1, ..Column::NAME },
            ]
        }
    }

    fn row(&self, event: &Value, now: OffsetDateTime) -> Vec<Value> {
        let event_time = duration::since(string(event, "eventTime"), now);
        let first = if is_set(event, "firstTimestamp") {
            duration::since(string(event, "firstTimestamp"), now)
        } else {
            event_time
        };
        let mut last = if is_set(event, "lastTimestamp") {
            duration::since(string(event, "lastTimestamp"), now)
        } else {
            first.clone()
        };
        let mut count = integer(event, "count").unwrap_or(0).max(1);
        if is_set(event, "series") {
            last = duration::since(string(event, "series.lastObservedTime"), now);
            count = integer(event, "series.count").unwrap_or(0);
        }
        let kind = string(event, "involvedObject.kind").to_lowercase();
        let target = match string(event, "involvedObject.name") {
            "" => kind,
            name => format!("{kind}/{name}"),
        };
        vec![
            json!(last),
            json!(string(event, "type")),
            json!(string(event, "reason")),
            json!(target),
            json!(string(event, "involvedObject.fieldPath")),
            json!(source(event)),
            json!(string(event, "message").trim()),
            json!(first),
            json!(count.to_string()),
            json!(crate::meta::name(event)),
        ]
    }
}

/// The event as events.k8s.io/v1 has it.
pub fn to_events_v1(event: &Value) -> Value {
    rename(event, NAMES.map(|(core, events)| (core, events)), "events.k8s.io/v1")
}

/// The event as core/v1 has it.
pub fn from_events_v1(event: &Value) -> Value {
    rename(event, NAMES.map(|(core, events)| (events, core)), "v1")
}

/// The selectable field of core/v1 that a field selector of events.k8s.io/v1 means.
pub fn field_of_events_v1(field: &str) -> String {
    match field.split_once('.') {
        Some(("regarding", rest)) => format!("involvedObject.{rest}"),
        None if field == "reportingController" => "reportingComponent".to_owned(),
        _ => field.to_owned(),
    }
}

fn rename(event: &Value, names: [(&str, &str); 7], api_version: &str) -> Value {
    let fields = event.as_object().into_iter().flatten().map(|(field, value)| {
        let name = names.iter().find(|(from, _)| from == field).map_or(field.as_str(), |(_, to)| to);
        (name.to_owned(), value.clone())
    });
    let mut renamed = Value::Object(fields.collect());
    set(&mut renamed, "apiVersion", api_version);
    renamed
}

/// `formatEventSourceComponentInstance`.
fn source(event: &Value) -> String {
    let or = |first: &'_ str, second: &'_ str| match string(event, first) {
        "" => string(event, second).to_owned(),
        text => text.to_owned(),
    };
    let (component, instance) = (or("source.component", "reportingComponent"), or("source.host", "reportingInstance"));
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_event_say_the_same() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "a"}, "message": "m", "count": 2, "reportingComponent": "c"});
        let events = to_events_v1(&core);
        assert_eq!(
            events,
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "a"}, "note": "m", "deprecatedCount": 2, "reportingController": "c"})
        );
        assert_eq!(from_events_v1(&events), core);
        assert_eq!(field_of_events_v1("regarding.name"), "involvedObject.name");
        assert_eq!(field_of_events_v1("metadata.name"), "metadata.name");
    }
}
