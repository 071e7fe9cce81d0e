//! What upstream says about pods, as tables: a change to a valid pod, and the errors it makes.

mod containers;
mod lifecycle;
mod spec;
mod volumes;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;

/// The least pod, as stored.
pub fn pod() -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", "resourceVersion": "1"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]},
    });
    Pod.default(&mut pod);
    pod
}

pub fn context() -> Context {
    Context { user: crate::UserInfo::default(), now: OffsetDateTime::UNIX_EPOCH }
}

fn messages(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// The errors of a pod whose spec has these fields changed, after defaulting.
#[track_caller]
pub fn check_spec(change: Value, expected: &[&str]) {
    let mut pod = pod();
    for (field, value) in change.as_object().expect("a change is an object") {
        pod["spec"][field] = value.clone();
    }
    Pod.default(&mut pod);
    assert_eq!(messages(Pod.validate(&pod)), expected);
}

/// The errors of a pod whose container has these fields changed.
#[track_caller]
pub fn check_container(change: Value, expected: &[&str]) {
    let mut container = json!({"name": "c", "image": "i:1"});
    for (field, value) in change.as_object().expect("a change is an object") {
        container[field] = value.clone();
    }
    check_spec(json!({"containers": [container], "volumes": [{"name": "v"}]}), expected);
}

/// The errors of an update of the spec.
#[track_caller]
pub fn check_update(old: Value, new: Value, expected: &[&str]) {
    let make = |change: &Value| {
        let mut pod = pod();
        for (field, value) in change.as_object().expect("a change is an object") {
            pod["spec"][field] = value.clone();
        }
        Pod.default(&mut pod);
        pod
    };
    assert_eq!(messages(Pod.validate_update(&make(&new), &make(&old))), expected);
}
