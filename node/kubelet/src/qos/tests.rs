use serde_json::json;

use super::*;

fn pod(containers: serde_json::Value, init: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"spec": {"containers": containers, "initContainers": init}})).unwrap()
}

#[test]
fn class_follows_from_requests_and_limits() {
    let full = json!({"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}});
    let table = [
        (json!([{"name": "a"}]), QosClass::BestEffort),
        (json!([full]), QosClass::Guaranteed),
        (json!([full, {"name": "b"}]), QosClass::Burstable),
        (json!([{"name": "a", "resources": {"requests": {"cpu": "10m"}}}]), QosClass::Burstable),
        (json!([{"name": "a", "resources": {"requests": {"cpu": "0"}}}]), QosClass::BestEffort),
        (
            json!([{"name": "a", "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1Gi"}}}]),
            QosClass::Burstable,
        ),
    ];
    for (containers, want) in table {
        assert_eq!(class(&pod(containers.clone(), json!([]))), want, "{containers}");
    }
}

#[test]
fn the_pod_gets_the_larger_of_its_sum_and_its_init_containers() {
    let containers = json!([
        {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}},
        {"name": "b", "resources": {"limits": {"cpu": "250m"}}},
    ]);
    let init = json!([{"name": "i", "resources": {"limits": {"cpu": "2", "memory": "1Mi"}}}]);
    let amount = pod_amount(&pod(containers, init));
    assert_eq!(amount.cpu_limit, Some(2000));
    assert_eq!(amount.memory_limit, None);
    assert_eq!(amount.memory_request, Some(64 << 20));
}

#[test]
fn numbers_stay_within_what_the_kernel_takes() {
    assert_eq!([cpu_shares(None), cpu_shares(Some(1)), cpu_shares(Some(1000))], [2, 2, 1024]);
    assert_eq!([cpu_quota(None), cpu_quota(Some(1)), cpu_quota(Some(1500))], [None, Some(1000), Some(150_000)]);
    assert_eq!(oom_score_adj(QosClass::Burstable, Some(1 << 30), 4 << 30), 750);
    assert_eq!(oom_score_adj(QosClass::Burstable, Some(8 << 30), 4 << 30), 3);
}
