//! Builders of clusters for tests of plugins.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

/// A node with 4 CPUs, 8 GiB and room for 110 pods, and what `more` overrides.
pub fn node(name: &str, more: Value) -> Node {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    });
    merge(&mut node, more);
    serde_json::from_value(node).unwrap()
}

/// A pod in `default` with one container, and what `more` overrides.
pub fn pod(name: &str, more: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [{"name": "c", "image": "app"}]},
    });
    merge(&mut pod, more);
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// A cluster of these nodes, with these pods on them.
pub fn cluster(nodes: &[(&str, Value)], pods: &[(&str, &str, Value)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, more) in nodes {
        cluster.put_node(&node(name, more.clone()));
    }
    for (name, on, more) in pods {
        cluster.put_pod(Cluster::compile(&pod(name, more.clone())), on, false);
    }
    cluster
}

fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| merge(base.entry(key).or_insert(Value::Null), value));
        }
        (base, more) => *base = more,
    }
}

#[track_caller]
fn check_requests(spec: Value, expected: (i64, i64)) {
    let info = PodInfo::new(&pod("p", json!({"spec": spec})));
    assert_eq!((info.requests.milli_cpu, info.requests.memory), expected);
}

#[test]
fn requests_are_what_a_pod_needs_at_once() {
    let container = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1k"}}});
    let sidecar = |cpu: &str| {
        let mut sidecar = container(cpu);
        sidecar["restartPolicy"] = json!("Always");
        sidecar
    };
    check_requests(json!({"containers": [container("100m"), container("1")]}), (1100, 2000));
    check_requests(
        json!({"containers": [container("1")], "initContainers": [container("3"), container("2")]}),
        (3000, 1000),
    );
    let init = json!([sidecar("500m"), container("1"), sidecar("2")]);
    check_requests(json!({"containers": [container("1")], "initContainers": init}), (3500, 3000));
    check_requests(json!({"containers": [container("1")], "overhead": {"cpu": "250m"}}), (1250, 1000));
    check_requests(json!({"containers": [container("1")], "resources": {"requests": {"cpu": "2"}}}), (2000, 1000));
}

#[track_caller]
fn check_held(asked: &str, status: Value, pending: &str, expected: i64) {
    let mut status = status;
    status["name"] = json!("c");
    let spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": asked}}}]});
    let conditions = json!([{"type": "PodResizePending", "status": "True", "reason": pending}]);
    let pod = pod("p", json!({"spec": spec, "status": {"containerStatuses": [status], "conditions": conditions}}));
    assert_eq!(requests(&pod).milli_cpu, expected, "{pod:?}");
}

#[test]
fn a_pod_holds_the_most_of_its_resize_until_it_is_done() {
    let status = |granted: &str, has: &str| json!({"allocatedResources": {"cpu": granted}, "resources": {"requests": {"cpu": has}}});
    check_held("1", json!({}), "", 1000);
    check_held("3", status("1", "1"), "Deferred", 3000);
    check_held("3", status("1", "1"), "Infeasible", 1000);
    check_held("1", status("1", "2"), "", 2000);
    check_held("1", status("2", "1"), "", 2000);
    check_held("1", status("1", "1"), "", 1000);
}

#[test]
fn a_node_is_the_sum_of_its_pods() {
    let ports = json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}],
        "resources": {"requests": {"cpu": "1", "example.com/gpu": "2"}}}]}});
    let mut cluster = cluster(&[("a", json!({}))], &[("p", "a", ports), ("q", "elsewhere", json!({}))]);
    let index = cluster.find_node("a").unwrap();
    let info = cluster.node(index);
    assert_eq!((info.pods, info.requested.milli_cpu, info.requested.scalar("example.com/gpu")), (1, 1000, 2));
    assert!(info.port_is_taken(&HostPort { ip: "127.0.0.1".into(), protocol: "TCP".into(), port: 80 }));
    cluster.remove_pod("p");
    let info = cluster.node(index);
    assert_eq!((info.pods, info.requested.milli_cpu, info.requested.scalar("example.com/gpu")), (0, 0, 0));
    assert!(cluster.find_node("elsewhere").is_none(), "a pod does not make a node");
    assert_eq!(cluster.nodes().len(), 1);
    cluster.remove_node("a");
    assert!(cluster.nodes().is_empty());
    assert!(cluster.put_node(&node("elsewhere", json!({}))) == NodeChange::everything());
    assert_eq!(cluster.node(cluster.find_node("elsewhere").unwrap()).pods, 1);
}
