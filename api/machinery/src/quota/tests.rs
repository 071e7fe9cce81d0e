use serde_json::{Value, json};

use super::*;

fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

#[track_caller]
fn check_usage(group: &str, resource: &str, object: Value, expected: &str) {
    let now = crate::time::parse("2026-01-01T00:01:00Z").expect("a time");
    assert_eq!(shown(&usage(group, resource, &object, now)), expected);
}

#[test]
fn pods_are_charged_for_what_they_ask() {
    check_usage("", "pods", json!({"spec": {"containers": [{}]}}), "count/pods=1,pods=1");
    let resources = json!({"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": 1}});
    check_usage(
        "",
        "pods",
        json!({"spec": {"containers": [{"resources": resources}, {"resources": resources}]}}),
        "count/pods=1,cpu=200m,limits.cpu=2,memory=2Mi,pods=1,requests.cpu=200m,requests.memory=2Mi",
    );
    let gpu = json!({"requests": {"example.com/gpu": 2, "hugepages-2Mi": "2Mi"}});
    check_usage(
        "",
        "pods",
        json!({"spec": {"containers": [{"resources": gpu}]}}),
        "count/pods=1,hugepages-2Mi=2Mi,pods=1,requests.example.com/gpu=2,requests.hugepages-2Mi=2Mi",
    );
}

#[test]
fn init_containers_sidecars_and_overhead_count_as_the_scheduler_counts_them() {
    let cpu = |amount: &str| json!({"resources": {"requests": {"cpu": amount}}});
    let sidecar = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}});
    let check = |init: Value, overhead: Value, expected: &str| {
        let pod = json!({"spec": {"containers": [cpu("1")], "initContainers": init, "overhead": overhead}});
        assert_eq!(shown(&requests(&pod)), expected);
    };
    check(json!([cpu("3")]), json!({}), "cpu=3");
    check(json!([cpu("500m")]), json!({}), "cpu=1");
    check(json!([sidecar]), json!({}), "cpu=3");
    check(json!([sidecar, cpu("3")]), json!({}), "cpu=5");
    check(json!([]), json!({"cpu": "250m"}), "cpu=1250m");
}

#[test]
fn a_pod_that_is_over_costs_only_its_object() {
    check_usage("", "pods", json!({"status": {"phase": "Succeeded"}}), "count/pods=1");
    let deleted = |at: &str| json!({"metadata": {"deletionTimestamp": at, "deletionGracePeriodSeconds": 30}});
    check_usage("", "pods", deleted("2026-01-01T00:00:00Z"), "count/pods=1");
    check_usage("", "pods", deleted("2026-01-01T00:00:45Z"), "count/pods=1,pods=1");
}

#[test]
fn other_kinds_have_their_own_measures() {
    check_usage("", "configmaps", json!({}), "configmaps=1,count/configmaps=1");
    check_usage("batch", "jobs", json!({}), "count/jobs.batch=1");
    check_usage(
        "",
        "services",
        json!({"spec": {"type": "NodePort", "ports": [{}, {}]}}),
        "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2",
    );
    check_usage(
        "",
        "services",
        json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"nodePort": 30000}, {}]}}),
        "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1",
    );
    check_usage(
        "",
        "persistentvolumeclaims",
        json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}),
        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
         gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi",
    );
}

#[test]
fn a_name_says_what_it_counts() {
    let check = |name: &str, expected: Option<(&str, &str)>| assert_eq!(counted(name), expected, "{name}");
    check("count/deployments.apps", Some(("apps", "deployments")));
    check("count/crds.a.example.com", Some(("a.example.com", "crds")));
    check("pods", Some(("", "pods")));
    check("limits.ephemeral-storage", Some(("", "pods")));
    check("requests.nvidia.com/gpu", Some(("", "pods")));
    check("requests.storage", Some(("", "persistentvolumeclaims")));
    check("gold.storageclass.storage.k8s.io/requests.storage", Some(("", "persistentvolumeclaims")));
    check("services.nodeports", Some(("", "services")));
    check("unknown", None);
}

#[test]
fn scopes_select_pods_and_nothing_else() {
    let check = |scopes: Value, selector: Value, pod: Value, expected: bool| {
        let quota = json!({"spec": {"scopes": scopes, "scopeSelector": {"matchExpressions": selector}}});
        assert_eq!(in_scope(&quota, "", "pods", &pod), expected, "{quota} {pod}");
    };
    let deadline = json!({"spec": {"activeDeadlineSeconds": 5}});
    check(json!(["Terminating"]), json!([]), deadline.clone(), true);
    check(json!(["NotTerminating"]), json!([]), deadline, false);
    let asks = json!({"spec": {"containers": [{"resources": {"limits": {"memory": "1"}}}]}});
    check(json!(["BestEffort"]), json!([]), asks.clone(), false);
    check(json!(["NotBestEffort", "NotTerminating"]), json!([]), asks, true);
    let high = json!({"spec": {"priorityClassName": "high"}});
    let class = |operator: &str| json!([{"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]);
    check(json!([]), class("In"), high.clone(), true);
    check(json!([]), class("NotIn"), high.clone(), false);
    check(json!(["PriorityClass"]), json!([]), high, true);
    check(json!([]), class("In"), json!({}), false);
    let affinity = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}}}});
    check(json!(["CrossNamespacePodAffinity"]), json!([]), affinity, true);
    let quota = json!({"spec": {"scopes": ["NotTerminating"]}});
    assert!(!in_scope(&quota, "", "services", &json!({})), "only pods have scopes");
}

#[test]
fn limited_compute_must_be_stated_by_every_container() {
    let hard = amounts(Some(&json!({"limits.cpu": "1", "requests.memory": "1Gi", "pods": 3})));
    let check = |containers: Value, expected: Result<(), &str>| {
        let pod = json!({"spec": {"containers": containers}});
        assert_eq!(constraints(&hard, "", "pods", &pod), expected.map_err(String::from));
    };
    let whole = json!({"limits": {"cpu": "1"}, "requests": {"memory": "1Mi"}});
    check(json!([{"name": "a", "resources": whole}]), Ok(()));
    check(
        json!([{"name": "b"}, {"name": "a"}, {"name": "c", "resources": {"limits": {"cpu": 1}}}]),
        Err("must specify limits.cpu for: a,b; requests.memory for: a,b,c"),
    );
}

#[test]
fn claims_are_charged_for_the_devices_of_each_class() {
    let check = |requests: Value, expected: &str| {
        let claim = json!({"spec": {"devices": {"requests": requests}}});
        let expected = format!("count/resourceclaims.resource.k8s.io=1{expected}");
        check_usage("resource.k8s.io", "resourceclaims", claim, &expected);
    };
    let exact =
        |class: &str, count: i64| json!({"deviceClassName": class, "allocationMode": "ExactCount", "count": count});
    let all = json!({"deviceClassName": "gpu", "allocationMode": "All"});
    check(json!([]), "");
    check(
        json!([{"exactly": exact("gpu", 2)}, {"exactly": exact("gpu", 1)}, {"exactly": exact("nic", 1)}]),
        ",gpu.deviceclass.resource.k8s.io/devices=3,nic.deviceclass.resource.k8s.io/devices=1",
    );
    check(json!([{"exactly": all}]), ",gpu.deviceclass.resource.k8s.io/devices=32");
    // One of several: the worst of each class.
    let first = [exact("gpu", 1), exact("gpu", 4), exact("nic", 2)];
    check(
        json!([{"firstAvailable": first}, {"exactly": exact("gpu", 1)}]),
        ",gpu.deviceclass.resource.k8s.io/devices=5,nic.deviceclass.resource.k8s.io/devices=2",
    );
    let of_claims = Some(("resource.k8s.io", "resourceclaims"));
    assert_eq!(counted("gpu.example.com.deviceclass.resource.k8s.io/devices"), of_claims);
    assert_eq!(counted("count/resourceclaims.resource.k8s.io"), of_claims);
}
