use serde_json::json;

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

/// Ready, Status and Restarts of a pod with this spec and status.
#[track_caller]
fn check(spec: Value, status: Value, expected: [&str; 3]) {
    check_pod(
        json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, "status": status}),
        expected,
    );
}

#[track_caller]
fn check_pod(pod: Value, expected: [&str; 3]) {
    let cells = row(&pod, duration::parse(NOW).expect("a valid time"));
    assert_eq!(cells[1..4], expected.map(|cell| json!(cell)));
    assert_eq!(cells.len(), COLUMNS.len());
}

fn two() -> Value {
    json!({"containers": [{"name": "a"}, {"name": "b"}]})
}

fn init(restart_policy: Value) -> Value {
    json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i", "restartPolicy": restart_policy}, {"name": "j"}]})
}

#[test]
fn the_phase_shows_until_containers_have_more_to_say() {
    check(two(), json!({"phase": "Pending"}), ["0/2", "Pending", "0"]);
    check(two(), json!({"phase": "Failed", "reason": "Evicted"}), ["0/2", "Evicted", "0"]);
    check(
        two(),
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
        ["0/2", "SchedulingGated", "0"],
    );
}

#[test]
fn containers_give_readiness_reasons_and_restarts() {
    let running = json!({"name": "a", "ready": true, "state": {"running": {}}});
    check(two(), json!({"phase": "Running", "containerStatuses": [running, running]}), ["2/2", "Running", "0"]);
    check(
        two(),
        json!({"phase": "Running", "containerStatuses": [
            running,
            {"name": "b", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:00Z"}}},
        ]}),
        ["1/2", "CrashLoopBackOff", "3 (60s ago)"],
    );
    check(
        two(),
        json!({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}, {"state": {"terminated": {"signal": 9}}}]}),
        ["0/2", "ExitCode:3", "0"],
    );
    let done = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    check(two(), json!({"phase": "Running", "containerStatuses": [done, running]}), ["1/2", "NotReady", "0"]);
    check(
        two(),
        json!({"phase": "Running", "containerStatuses": [done, running], "conditions": [{"type": "Ready", "status": "True"}]}),
        ["1/2", "Running", "0"],
    );
}

#[test]
fn initialisation_shows_its_progress() {
    let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
    check(
        init(Value::Null),
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
        ["0/1", "Init:0/2", "0"],
    );
    check(
        init(Value::Null),
        json!({"phase": "Pending", "initContainerStatuses": [done, {"name": "j", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
        ["0/1", "Init:CrashLoopBackOff", "1"],
    );
    check(
        init(Value::Null),
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1}}}]}),
        ["0/1", "Init:ExitCode:1", "0"],
    );
}

#[test]
fn a_sidecar_counts_as_a_container() {
    let sidecar = json!({"name": "i", "started": true, "ready": true, "restartCount": 2, "state": {"running": {}}});
    let status = json!({
        "phase": "Running",
        "initContainerStatuses": [sidecar, {"name": "j", "restartCount": 5, "state": {"terminated": {"exitCode": 0}}}],
        "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}],
    });
    check(init(json!("Always")), status, ["2/2", "Running", "2"]);
}

#[test]
fn a_deleted_pod_is_terminating() {
    let pod = |status: Value| json!({"metadata": {"deletionTimestamp": NOW}, "spec": two(), "status": status});
    check_pod(pod(json!({"phase": "Running"})), ["0/2", "Terminating", "0"]);
    check_pod(pod(json!({"phase": "Running", "reason": "NodeLost"})), ["0/2", "Unknown", "0"]);
    check_pod(pod(json!({"phase": "Succeeded"})), ["0/2", "Succeeded", "0"]);
}

#[test]
fn wide_cells_say_none() {
    let cells = row(&json!({"spec": {"readinessGates": [{"conditionType": "x"}]}}), OffsetDateTime::UNIX_EPOCH);
    assert_eq!(cells[4..], ["<unknown>", "<none>", "<none>", "<none>", "0/1"].map(|cell| json!(cell)));
}
