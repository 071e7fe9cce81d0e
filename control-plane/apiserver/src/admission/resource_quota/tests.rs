use std::time::SystemTime;

use serde_json::json;

use super::*;

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

fn pod(resources: Value) -> Charge {
    create("", "pods", json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}))
}

fn create(group: &str, resource: &str, object: Value) -> Charge {
    let (group, resource) = (group.to_owned(), resource.to_owned());
    Charge { group, resource, object, old: None, dry_run: false, now: SystemTime::UNIX_EPOCH }
}

#[track_caller]
fn check(quota: &Value, wanted: &Charge, expected: Result<Option<&str>, &str>) {
    let charged = charge(quota, wanted).map(|used| used.map(|used| shown(&used)));
    assert_eq!(charged, expected.map(|used| used.map(str::to_owned)).map_err(str::to_owned));
}

#[test]
fn what_fits_is_charged_and_what_does_not_is_named() {
    let limited = quota(json!({"pods": "2", "requests.cpu": "1"}), json!({"pods": "1", "requests.cpu": "500m"}));
    check(&limited, &pod(json!({"requests": {"cpu": "500m"}})), Ok(Some("pods=2,requests.cpu=1")));
    check(
        &limited,
        &pod(json!({"requests": {"cpu": "600m"}})),
        Err("exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1"),
    );
    let full = quota(json!({"pods": "1", "count/pods": 1}), json!({"pods": "1", "count/pods": 1}));
    check(
        &full,
        &pod(json!({})),
        Err(
            "exceeded quota: q, requested: count/pods=1,pods=1, used: count/pods=1,pods=1, limited: count/pods=1,pods=1",
        ),
    );
}

#[test]
fn a_quota_says_what_it_misses() {
    let limited = quota(json!({"limits.memory": "1Gi"}), json!({"limits.memory": "0"}));
    check(&limited, &pod(json!({})), Err("failed quota: q: must specify limits.memory for: c"));
    let fresh = quota(json!({"configmaps": 1, "pods": 3}), json!({}));
    check(&fresh, &create("", "configmaps", json!({})), Err("status unknown for quota: q, resources: configmaps"));
}

#[test]
fn what_is_not_limited_costs_nothing() {
    let limited = quota(json!({"count/jobs.batch": "1"}), json!({"count/jobs.batch": "0"}));
    check(&limited, &pod(json!({})), Ok(None));
    check(&limited, &create("batch", "jobs", json!({})), Ok(Some("count/jobs.batch=1")));
    check(&limited, &create("other", "jobs", json!({})), Ok(None));
}

#[test]
fn an_update_costs_what_it_adds() {
    let limited = quota(json!({"services.nodeports": "2"}), json!({"services.nodeports": "1"}));
    let service = |ports: usize| json!({"spec": {"type": "NodePort", "ports": vec![json!({}); ports]}});
    let update = |from: usize, to: usize| Charge { old: Some(service(from)), ..create("", "services", service(to)) };
    check(&limited, &update(1, 1), Ok(None));
    check(&limited, &update(1, 2), Ok(Some("services.nodeports=2")));
    check(&limited, &update(2, 1), Ok(None));
    check(
        &limited,
        &update(0, 2),
        Err(
            "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=1, limited: services.nodeports=2",
        ),
    );
}
