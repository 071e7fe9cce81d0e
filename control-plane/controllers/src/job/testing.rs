//! Jobs and pods in few words, for tables.

use serde_json::{Value, json};
use std::sync::Arc;
use xebec_types::batch::Job;
use xebec_types::core::Pod;
use xebec_types::time::{self, Timestamp};

pub(super) const NOW: i64 = 1_000_000;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

pub(super) fn job(spec: &Value, status: &Value) -> Job {
    let mut spec = spec.clone();
    spec["template"] = json!({"spec": {"restartPolicy": spec["restartPolicy"], "containers": []}});
    let job = json!({"metadata": {"name": "j", "namespace": "ns", "uid": "job"}, "spec": spec, "status": status});
    serde_json::from_value(job).expect("a Job")
}

/// `name[#index]:state[@seconds ago][*restarts][~failures]`; states: pending, running, done, failed, and
/// exitN for a failure with a code; a trailing `-` is being deleted, `!` is without finalizer.
pub(super) fn pod(text: &str) -> Arc<Pod> {
    let (name, rest) = text.split_once(':').expect("state");
    let (name, index) = name.split_once('#').map_or((name, None), |(name, index)| (name, Some(index)));
    let rest = rest.trim_end_matches(['-', '!']);
    let part = |mark: char| {
        let (_, tail) = rest.split_once(mark)?;
        tail.split(['@', '*', '~']).next()?.parse::<i64>().ok()
    };
    let state = rest.split(['@', '*', '~']).next().unwrap_or_default();
    let code = state.strip_prefix("exit").and_then(|code| code.parse::<i32>().ok());
    let (phase, code) = match state {
        "pending" => ("Pending", None),
        "running" => ("Running", None),
        "done" => ("Succeeded", Some(0)),
        _ => ("Failed", Some(code.unwrap_or(1))),
    };
    let ended = time::time(at(NOW - part('@').unwrap_or_default()));
    let state = code.map(|code| json!({"terminated": {"exitCode": code, "finishedAt": ended}}));
    let mut annotations = json!({});
    if let Some(index) = index {
        annotations["batch.kubernetes.io/job-completion-index"] = json!(index);
    }
    if let Some(failures) = part('~') {
        annotations["batch.kubernetes.io/job-index-failure-count"] = json!(failures.to_string());
    }
    let finalizers = if text.ends_with('!') { json!([]) } else { json!(["batch.kubernetes.io/job-tracking"]) };
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "annotations": annotations, "finalizers": finalizers},
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": phase, "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": part('*').unwrap_or_default(), "state": state}]},
    }))
    .expect("a Pod");
    if text.ends_with('-') {
        pod.metadata.deletion_timestamp = Some(time::time(at(NOW)));
    }
    Arc::new(pod)
}

pub(super) fn pods(text: &str) -> Vec<Arc<Pod>> {
    text.split_whitespace().map(pod).collect()
}
