use serde_json::json;

use super::*;

fn range(limit: &Value) -> Value {
    json!({"spec": {"limits": [limit]}})
}

#[track_caller]
fn check_pod(limit: Value, containers: Value, expected: &[&str]) {
    let pod = json!({"spec": {"containers": containers}});
    assert_eq!(pod_errors(&pod, &range(&limit)), expected);
}

#[test]
fn defaults_fill_what_containers_leave_open() {
    let limit = json!({"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1", "memory": "1Gi"}});
    let mut pod = json!({"spec": {
        "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m"}}}],
        "initContainers": [{"name": "i"}],
    }});
    default_pod(&mut pod, &range(&limit));
    let expected = json!({"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "2"}});
    assert_eq!(pod["spec"]["containers"][0]["resources"], expected);
    assert_eq!(string(&pod, "metadata.annotations"), "", "annotations are a map");
    assert_eq!(
        pod["metadata"]["annotations"][ANNOTATION],
        "LimitRanger plugin set: memory request for container a; cpu limit for container a; \
         cpu, memory request for init container i; cpu limit for init container i"
    );
    let before = pod.clone();
    default_pod(&mut pod, &range(&limit));
    assert_eq!(pod, before, "twice is once");
}

#[test]
fn containers_stay_between_min_and_max() {
    let limit = json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"}});
    let with =
        |request: &str, max: &str| json!([{"resources": {"requests": {"cpu": request}, "limits": {"cpu": max}}}]);
    check_pod(limit.clone(), with("100m", "1"), &[]);
    check_pod(limit.clone(), with("50m", "1"), &["minimum cpu usage per Container is 100m, but request is 50m"]);
    check_pod(limit.clone(), with("100m", "2"), &["maximum cpu usage per Container is 1, but limit is 2"]);
    check_pod(
        limit,
        json!([{}]),
        &[
            "minimum cpu usage per Container is 100m.  No request is specified",
            "maximum cpu usage per Container is 1.  No limit is specified",
        ],
    );
}

#[test]
fn pods_are_bounded_by_their_sum() {
    let limit = json!({"type": "Pod", "max": {"memory": "1Gi"}});
    let of = |amount: &str| json!({"resources": {"limits": {"memory": amount}}});
    check_pod(limit.clone(), json!([of("512Mi"), of("512Mi")]), &[]);
    check_pod(
        limit.clone(),
        json!([of("512Mi"), of("1Gi")]),
        &["maximum memory usage per Pod is 1Gi, but limit is 1536Mi"],
    );
    check_pod(limit, json!([of("512Mi"), {}]), &["maximum memory usage per Pod is 1Gi.  No limit is specified"]);
}

#[test]
fn the_ratio_of_limit_to_request_is_bounded() {
    let limit = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}});
    let with =
        |request: &str, max: &str| json!([{"resources": {"requests": {"cpu": request}, "limits": {"cpu": max}}}]);
    check_pod(limit.clone(), with("1", "2"), &[]);
    check_pod(
        limit.clone(),
        with("1", "3"),
        &["cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"],
    );
    check_pod(
        limit,
        json!([{}]),
        &["cpu max limit to request ratio per Container is 2, but no request is specified or request is 0"],
    );
}

#[test]
fn claims_are_bounded_by_their_request() {
    let limit = json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}});
    let check = |storage: &str, expected: &[&str]| {
        let claim = json!({"spec": {"resources": {"requests": {"storage": storage}}}});
        assert_eq!(claim_errors(&claim, &range(&limit)), expected);
    };
    check("1Gi", &[]);
    check("500Mi", &["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"]);
    check("3Gi", &["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]);
}
