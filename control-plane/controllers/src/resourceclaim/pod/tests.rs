use serde_json::{Value, json};

use super::*;

fn pod(status: Value, more: Value) -> Pod {
    let claims =
        json!([{"name": "gpu", "resourceClaimTemplateName": "t"}, {"name": "nic", "resourceClaimName": "shared"}]);
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "resourceClaims": claims},
        "status": {"resourceClaimStatuses": status},
    });
    for (path, value) in more.as_object().expect("valid") {
        *pod.pointer_mut(path.rsplit_once('/').expect("valid").0)
            .expect("valid")
            .as_object_mut()
            .expect("valid")
            .entry(path.rsplit_once('/').expect("valid").1)
            .or_insert(Value::Null) = value.clone();
    }
    serde_json::from_value(pod).expect("valid")
}

/// A claim that was made for the pod of this uid, or by hand if it is empty.
fn claim(name: &str, of: &str, status: Value) -> Arc<ResourceClaim> {
    let mut claim = json!({"metadata": {"name": name, "namespace": "n"}, "spec": {}, "status": status});
    if !of.is_empty() {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": of, "controller": true});
        claim["metadata"]["ownerReferences"] = json!([owner]);
        claim["metadata"]["annotations"] = json!({"resource.kubernetes.io/pod-claim-name": "gpu"});
    }
    Arc::new(serde_json::from_value(claim).expect("valid"))
}

/// The step as lines: `make gpu of t`, `found gpu p-gpu-1`, `reserve shared`.
#[track_caller]
fn check(pod: &Pod, claims: &[Arc<ResourceClaim>], expected: &[&str]) {
    let owned: Vec<_> = claims.iter().filter(|claim| device::is_for_pod(claim, pod)).cloned().collect();
    let find = |name: &str| claims.iter().find(|claim| object::name(&claim.metadata) == name).cloned();
    let step = step(pod, &owned, find);
    let lines: Vec<String> = step
        .make
        .iter()
        .map(|(claim, template)| format!("make {claim} of {template}"))
        .chain(step.found.iter().map(|(claim, name)| format!("found {claim} {name}")))
        .chain(step.reserve.iter().map(|claim| format!("reserve {}", object::name(&claim.metadata))))
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_claim_is_made_once_from_its_template() {
    check(&pod(json!([]), json!({})), &[], &["make gpu of t"]);
    let told = json!([{"name": "gpu", "resourceClaimName": "p-gpu-1"}]);
    let mine = claim("p-gpu-1", "u", json!({}));
    check(&pod(told.clone(), json!({})), std::slice::from_ref(&mine), &[]);
    check(&pod(json!([]), json!({})), &[mine], &["found gpu p-gpu-1"]);
    // It was deleted, or is another pod's of the same name.
    check(&pod(told.clone(), json!({})), &[], &["make gpu of t"]);
    check(&pod(told, json!({})), &[claim("p-gpu-1", "other", json!({}))], &["make gpu of t"]);
    check(&pod(json!([{"name": "gpu"}]), json!({})), &[], &[]);
}

#[test]
fn a_pod_that_is_done_gets_nothing() {
    check(&pod(json!([]), json!({"/status/phase": "Succeeded"})), &[], &[]);
    check(&pod(json!([]), json!({"/metadata/deletionTimestamp": "2026-01-01T00:00:00Z"})), &[], &[]);
}

#[test]
fn claims_of_a_placed_pod_are_reserved() {
    let told = json!([{"name": "gpu", "resourceClaimName": "p-gpu-1"}]);
    let reserved =
        |uid: &str| json!({"allocation": {}, "reservedFor": [{"resource": "pods", "name": "p", "uid": uid}]});
    let own = claim("p-gpu-1", "u", reserved("u"));
    let placed = pod(told.clone(), json!({"/spec/nodeName": "n1"}));
    check(&placed, &[own.clone(), claim("shared", "", reserved("x"))], &["reserve shared"]);
    check(&placed, &[own.clone(), claim("shared", "", reserved("u"))], &[]);
    check(&placed, &[own.clone(), claim("shared", "", json!({}))], &[]);
    check(&pod(told, json!({})), &[own, claim("shared", "", reserved("x"))], &[]);
}

#[test]
fn names_begin_with_pod_and_claim() {
    assert_eq!(base_name("p", "gpu"), "p-gpu-");
    let long = base_name(&"p".repeat(60), &"c".repeat(30));
    assert!(long.len() <= BASE_BYTES_MAX && long.starts_with("ppp") && long.ends_with("-cccccccccccccccccc"), "{long}");
}
