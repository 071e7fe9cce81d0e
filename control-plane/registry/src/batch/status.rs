//! `validateJobStatus`, `ValidateJobStatusUpdate`: conditions and counters that only go one way.

use serde_json::Value;
use xebec_machinery::field::Path;

use super::indexes;
use super::job::condition;
use crate::apps::status_counts;
use crate::duration;
use crate::errors::Errors;
use crate::value::{at, boolean, integer, is_set, items, string};

pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let status = at(new, "status");
    status_counts(status, &["active", "succeeded", "failed", "ready", "terminating"], errors);
    uncounted(status, errors);
    conditions(new, old, errors);
    times(new, old, errors);
    counters(new, old, errors);
    lists_of_indexes(new, errors);
    transition(new, old, errors);
}

/// Upstream checks most of this only where the update changes it, so that what is stored can still be written.
fn changed(new: &Value, old: &Value, field: &str) -> bool {
    at(at(new, "status"), field) != at(at(old, "status"), field)
}

fn path(field: &str) -> Path {
    Path::new("status").child(field)
}

fn uncounted(status: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for list in ["succeeded", "failed"] {
        for (index, uid) in items(at(status, "uncountedTerminatedPods"), list).iter().enumerate() {
            let path = path("uncountedTerminatedPods").child(list).index(index);
            match uid.as_str().unwrap_or("") {
                "" => errors.invalid(&path, "", "must not be empty"),
                uid if seen.contains(&uid) => errors.duplicate(&path, uid),
                uid => seen.push(uid),
            }
        }
    }
}

fn conditions(new: &Value, old: &Value, errors: &mut Errors) {
    let is = |kind| condition(new, kind);
    let path = path("conditions");
    let pairs = [
        ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
        ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
        ("SuccessCriteriaMet", "Failed", "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        ("SuccessCriteriaMet", "FailureTarget", "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
    ];
    if !changed(new, old, "conditions") {
        return;
    }
    for (one, other, detail) in pairs {
        if is(one) && is(other) {
            errors.invalid_whole(&path, detail);
        }
    }
    if is("Failed") && !is("FailureTarget") && !condition(old, "Failed") {
        errors.invalid_whole(&path, "cannot set Failed=True condition without the FailureTarget=true condition");
    }
    if is("Complete") && !is("SuccessCriteriaMet") && !condition(old, "Complete") {
        errors.invalid_whole(&path, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
}

fn times(new: &Value, old: &Value, errors: &mut Errors) {
    let status = at(new, "status");
    let complete = condition(new, "Complete");
    let finished = complete || condition(new, "Failed");
    let completion = at(status, "completionTime");
    if !completion.is_null() && !complete {
        let detail = "cannot set completionTime when there is no Complete=True condition";
        errors.invalid(&path("completionTime"), completion.clone(), detail);
    }
    if completion.is_null() && complete {
        errors.required(&path("completionTime"), "completionTime is required for Complete jobs");
    }
    let time = |field| duration::parse(string(status, field));
    if let (Some(start), Some(end)) = (time("startTime"), time("completionTime"))
        && end < start
    {
        errors.invalid(&path("completionTime"), completion.clone(), "completionTime cannot be set before startTime");
    }
    if !is_set(status, "startTime") && finished {
        errors.required(&path("startTime"), "startTime is required for finished job");
    }
    let (before, after) = (at(old, "status.completionTime"), completion);
    if !before.is_null() && !after.is_null() && before != after {
        errors.invalid(&path("completionTime"), after.clone(), "completionTime cannot be mutated");
    }
    let started = at(old, "status.startTime");
    if !started.is_null() && started != at(status, "startTime") && !boolean(new, "spec.suspend") {
        errors.required(&path("startTime"), "startTime cannot be removed for unsuspended job");
    }
}

fn counters(new: &Value, old: &Value, errors: &mut Errors) {
    let count = |object, field| integer(at(object, "status"), field).unwrap_or(0);
    let finished = condition(new, "Complete") || condition(new, "Failed");
    if finished {
        for field in ["active", "terminating"] {
            if count(new, field) > 0 {
                errors.invalid(&path(field), count(new, field), format!("{field}>0 is invalid for finished job"));
            }
        }
        let uncounted = at(new, "status.uncountedTerminatedPods");
        if !items(uncounted, "failed").is_empty() || !items(uncounted, "succeeded").is_empty() {
            let detail = "uncountedTerminatedPods needs to be empty for finished job";
            errors.invalid(&path("uncountedTerminatedPods"), uncounted.clone(), detail);
        }
    }
    if count(new, "ready") > count(new, "active") {
        errors.invalid(&path("ready"), count(new, "ready"), "cannot set more ready pods than active");
    }
    for field in ["failed", "succeeded"] {
        if count(new, field) < count(old, field) {
            errors.invalid(&path(field), count(new, field), format!("cannot decrease the {field} counter"));
        }
    }
}

fn lists_of_indexes(new: &Value, errors: &mut Errors) {
    let completed = string(new, "status.completedIndexes");
    let failed = at(new, "status.failedIndexes").as_str();
    if !completed.is_empty() && string(new, "spec.completionMode") != "Indexed" {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&path("completedIndexes"), completed, detail);
    }
    if let Some(failed) = failed.filter(|_| !is_set(new, "spec.backoffLimitPerIndex")) {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&path("failedIndexes"), failed, detail);
    }
    let Some(completions) = integer(new, "spec.completions") else { return };
    if let Err(why) = indexes::count(completed, completions) {
        errors.invalid(&path("completedIndexes"), completed, format!("error parsing completedIndexes: {why}"));
    }
    let Some(failed) = failed else { return };
    if is_set(new, "spec.backoffLimitPerIndex")
        && let Err(why) = indexes::count(failed, completions)
    {
        errors.invalid(&path("failedIndexes"), failed, format!("error parsing failedIndexes: {why}"));
    }
    if let Some(index) = indexes::overlap(completed, failed, completions) {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.invalid(&path("failedIndexes"), failed, detail);
    }
}

fn transition(new: &Value, old: &Value, errors: &mut Errors) {
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if condition(old, kind) && !condition(new, kind) {
            errors.invalid_whole(&path("conditions"), format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    let met = |job| condition(job, "SuccessCriteriaMet");
    if met(old) && !met(new) {
        errors.invalid_whole(&path("conditions"), "cannot disable the SuccessCriteriaMet=True condition");
    }
    if condition(old, "Complete") && !met(old) && met(new) {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.invalid_whole(&path("conditions"), detail);
    }
}
