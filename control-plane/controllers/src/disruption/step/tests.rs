use super::*;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T00:10:00Z";

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    let metadata = json!({"name": "b", "namespace": "ns", "generation": 3});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).expect("a budget")
}

fn pods(ready: usize, unready: usize) -> Vec<Arc<Pod>> {
    let pod = |n: usize| {
        let status = if n < ready { "True" } else { "False" };
        let pod = json!({"metadata": {"name": format!("p{n}")}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    };
    (0..ready + unready).map(pod).collect()
}

fn run(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], expected: i32) -> Status {
    let now = NOW.parse().expect("a time");
    step(&Observed { budget, pods, expected: &Ok(Expected(expected)), now })
}

/// Healthy, desired, allowed.
#[track_caller]
fn check(spec: Value, pods: &[Arc<Pod>], expected: i32, wanted: (i32, i32, i32)) {
    let status = run(&budget(spec, json!({})), pods, expected).wanted;
    let (healthy, desired, allowed) = wanted;
    assert_eq!(status.current_healthy, Some(healthy));
    assert_eq!((status.desired_healthy, status.disruptions_allowed), (Some(desired), Some(allowed)));
    assert_eq!((status.expected_pods, status.observed_generation), (Some(expected), Some(3)));
    let condition = &status.conditions.expect("conditions")[0];
    assert_eq!(condition.status == "True", wanted.2 > 0);
}

#[test]
fn numbers_and_shares_say_what_must_stay() {
    check(json!({"minAvailable": 2}), &pods(3, 0), 3, (3, 2, 1));
    check(json!({"minAvailable": 2}), &pods(1, 2), 3, (1, 2, 0));
    check(json!({"maxUnavailable": 1}), &pods(3, 0), 3, (3, 2, 1));
    check(json!({"maxUnavailable": 0}), &pods(3, 0), 3, (3, 3, 0));
    check(json!({"minAvailable": "50%"}), &pods(3, 0), 3, (3, 2, 1));
    check(json!({"maxUnavailable": "50%"}), &pods(3, 0), 3, (3, 1, 2));
    check(json!({"minAvailable": "100%"}), &pods(7, 0), 7, (7, 7, 0));
    check(json!({"minAvailable": 1}), &[], 0, (0, 1, 0));
}

#[test]
fn an_evicted_pod_is_not_healthy_until_its_deletion_failed() {
    let at = |time: &str| json!({"disruptedPods": {"p0": time}});
    let fresh = run(&budget(json!({"minAvailable": 1}), at("2026-01-01T00:09:00Z")), &pods(3, 0), 3);
    assert_eq!(fresh.wanted.current_healthy, Some(2));
    assert_eq!(fresh.recheck, Some(Duration::from_secs(60)));
    let late = run(&budget(json!({"minAvailable": 1}), at("2026-01-01T00:07:00Z")), &pods(3, 0), 3);
    assert_eq!(late.wanted.current_healthy, Some(3));
    assert_eq!(late.not_deleted, ["p0"]);
    assert_eq!(late.wanted.disrupted_pods, None);
}

#[test]
fn a_second_look_changes_nothing() {
    let mut budget = budget(json!({"minAvailable": 1}), json!({}));
    let first = run(&budget, &pods(2, 0), 2).wanted;
    budget.status = Some(first.clone());
    assert_eq!(run(&budget, &pods(2, 0), 2).wanted, first);
}

#[test]
fn what_cannot_be_counted_allows_nothing() {
    let known = json!({"disruptionsAllowed": 2, "currentHealthy": 3, "desiredHealthy": 1, "expectedPods": 3});
    let budget = budget(json!({"maxUnavailable": 1}), known);
    let expected = Err("found no controllers for pod \"p\"".to_owned());
    let status = step(&Observed { budget: &budget, pods: &[], expected: &expected, now: NOW.parse().expect("a time") });
    assert_eq!(status.wanted.disruptions_allowed, Some(0));
    assert_eq!(status.wanted.conditions.expect("conditions")[0].reason, "SyncFailed");
}
