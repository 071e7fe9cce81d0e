use serde_json::{Value, json};

use super::*;

const PROTECTION: &str = finalizer::DELETE_PROTECTION;

fn pod(uid: &str, phase: &str) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": uid}, "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": phase}});
    Arc::new(serde_json::from_value(pod).expect("valid"))
}

fn claim(metadata: Value, status: Value) -> ResourceClaim {
    let mut claim = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {}, "status": status});
    claim["metadata"].as_object_mut().expect("valid").extend(metadata.as_object().expect("valid").clone());
    serde_json::from_value(claim).expect("valid")
}

fn reserved(uids: &[&str]) -> Value {
    let consumers: Vec<Value> = uids.iter().map(|uid| json!({"resource": "pods", "name": "p", "uid": uid})).collect();
    json!({"allocation": {"devices": {}}, "reservedFor": consumers})
}

#[track_caller]
fn check(claim: &ResourceClaim, pod: Option<Arc<Pod>>, gone: &[&str], expected: &ClaimStep) {
    let gone = gone.iter().map(|uid| (*uid).to_owned()).collect();
    assert_eq!(&step(claim, &gone, |_| pod.clone()), expected);
}

#[test]
fn a_reservation_ends_with_its_pod_and_the_allocation_with_the_last() {
    let protected = json!({"finalizers": [PROTECTION, "example.com/f"]});
    let used = claim(protected.clone(), reserved(&["u"]));
    check(&used, Some(pod("u", "Running")), &[], &ClaimStep::default());
    let free = ClaimStep {
        status: Some(json!({"reservedFor": null, "allocation": null})),
        finalizers: Some(vec!["example.com/f".into()]),
        delete: false,
    };
    check(&used, Some(pod("u", "Succeeded")), &[], &free);
    check(&used, Some(pod("other", "Running")), &[], &free);
    check(&used, None, &["u"], &free);
    check(&used, None, &[], &ClaimStep::default());
    let left = json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "v"}]});
    let less = ClaimStep { status: Some(left), ..ClaimStep::default() };
    check(&claim(protected, reserved(&["u", "v"])), None, &["u"], &less);
    // Whoever allocated it without protection takes it back.
    let kept = ClaimStep { status: Some(json!({"reservedFor": null})), ..ClaimStep::default() };
    check(&claim(json!({}), reserved(&["u"])), None, &["u"], &kept);
}

#[test]
fn a_deleted_claim_goes_when_nobody_uses_it() {
    let deleted = json!({"finalizers": [PROTECTION], "deletionTimestamp": "2026-01-01T00:00:00Z"});
    check(&claim(deleted.clone(), reserved(&["u"])), Some(pod("u", "Running")), &[], &ClaimStep::default());
    let free = ClaimStep { status: Some(json!({"allocation": null})), finalizers: Some(Vec::new()), delete: false };
    check(&claim(deleted.clone(), reserved(&[])), None, &[], &free);
    let open = ClaimStep { finalizers: Some(Vec::new()), ..ClaimStep::default() };
    check(&claim(deleted, json!({})), None, &[], &open);
    // Allocated and not used yet: it may be about to be reserved.
    check(&claim(json!({"finalizers": [PROTECTION]}), reserved(&[])), None, &[], &ClaimStep::default());
}

#[test]
fn a_generated_claim_goes_when_its_pod_is_done() {
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true});
    let made = claim(json!({"ownerReferences": [owner]}), json!({}));
    let delete = ClaimStep { delete: true, ..ClaimStep::default() };
    check(&made, Some(pod("u", "Pending")), &[], &ClaimStep::default());
    check(&made, Some(pod("u", "Failed")), &[], &delete);
    check(&made, Some(pod("other", "Running")), &[], &delete);
    // Without the pod the garbage collector does it.
    check(&made, None, &[], &ClaimStep::default());
}

#[test]
fn consumers_of_other_kinds_are_left_alone() {
    let other =
        json!({"allocation": {}, "reservedFor": [{"apiGroup": "x.io", "resource": "things", "name": "p", "uid": "u"}]});
    check(&claim(json!({"finalizers": [PROTECTION]}), other), None, &["u"], &ClaimStep::default());
}
