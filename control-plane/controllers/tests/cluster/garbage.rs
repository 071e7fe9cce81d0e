//! What goes with its owner, in which order, and what stays.

use crate::harness::Cluster;
use crate::raw::{controller, name, uid};
use crate::workload::template;
use serde_json::{Value, json};

fn pod(name: &str) -> Value {
    let mut pod = template("i");
    pod["metadata"]["name"] = name.into();
    pod
}

fn owner(kind: &str, object: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "name": name(object), "uid": uid(object),
        "controller": kind == "Pod", "blockOwnerDeletion": true})
}

async fn replicated(cluster: &Cluster, name: &str, replicas: usize) -> Value {
    let spec = json!({"replicas": replicas, "selector": {"app": "web", "of": name}, "template": {
        "metadata": {"labels": {"app": "web", "of": name}}, "spec": template("i")["spec"]}});
    let made = cluster.make("replicationcontrollers", &json!({"metadata": {"name": name}, "spec": spec})).await;
    let at = format!("replicationcontrollers/{name}");
    cluster.becomes(&at, "ready", |rc| rc["status"]["readyReplicas"].as_u64().unwrap_or(0) == replicas as u64).await;
    made
}

/// Conformance: "should not be blocked by dependency circle".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_of_owners_goes_as_a_whole() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let mut pods = Vec::new();
    for name in ["a", "b", "c"] {
        pods.push(cluster.make("pods", &pod(name)).await);
    }
    for (of, by) in [(0, 2), (1, 0), (2, 1)] {
        let owners = json!({"metadata": {"ownerReferences": [owner("Pod", &pods[by])]}});
        cluster.change(&format!("pods/{}", name(&pods[of])), &owners).await;
    }
    cluster.remove("pods/a", &json!({"propagationPolicy": "Foreground"})).await;
    for name in ["a", "b", "c"] {
        cluster.gone(&format!("pods/{name}")).await;
    }
}

/// Conformance: "should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_owner_keeps_what_the_first_would_take_along() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let doomed = replicated(&cluster, "doomed", 4).await;
    let stays = replicated(&cluster, "stays", 0).await;
    let pods = cluster.all_of("pods").await;
    let (kept, lost) = pods.split_at(2);
    for pod in kept {
        let mut owners = pod["metadata"]["ownerReferences"].as_array().expect("owners").clone();
        owners.push(owner("ReplicationController", &stays));
        cluster.change(&format!("pods/{}", name(pod)), &json!({"metadata": {"ownerReferences": owners}})).await;
    }
    cluster.remove("replicationcontrollers/doomed", &json!({"propagationPolicy": "Foreground"})).await;
    cluster.gone("replicationcontrollers/doomed").await;
    for pod in lost {
        cluster.gone(&format!("pods/{}", name(pod))).await;
    }
    for pod in kept {
        let left = cluster.read(&format!("pods/{}", name(pod))).await.expect("it has another owner");
        assert!(left["metadata"]["deletionTimestamp"].is_null(), "{left}");
        let owners = left["metadata"]["ownerReferences"].to_string();
        assert!(owners.contains(uid(&stays)) && !owners.contains(uid(&doomed)), "{owners}");
    }
}

/// Conformance: "should keep the rc around until all its pods are deleted if the deleteOptions says so".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_waits_for_the_last_of_its_pods() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    replicated(&cluster, "rc", 3).await;
    let pods = cluster.all_of("pods").await;
    let held = format!("pods/{}", name(&pods[0]));
    cluster.change(&held, &json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    cluster.remove("replicationcontrollers/rc", &json!({"propagationPolicy": "Foreground"})).await;
    for pod in &pods[1..] {
        cluster.gone(&format!("pods/{}", name(pod))).await;
    }
    let waiting = cluster.read("replicationcontrollers/rc").await.expect("a pod is left");
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    cluster.change(&held, &json!({"metadata": {"finalizers": null}})).await;
    cluster.gone("replicationcontrollers/rc").await;
    assert_eq!(cluster.all_of("pods").await.len(), 0);
}

/// Conformance: "should orphan pods created by rc if delete options say so", "should delete pods created by rc when not orphaning".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_with_their_controller_unless_they_are_orphaned() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    replicated(&cluster, "orphaned", 3).await;
    cluster.remove("replicationcontrollers/orphaned", &json!({"propagationPolicy": "Orphan"})).await;
    cluster.gone("replicationcontrollers/orphaned").await;
    let left = cluster.all_of("pods").await;
    assert_eq!(left.len(), 3);
    assert!(left.iter().all(|pod| controller(pod).is_none() && pod["metadata"]["deletionTimestamp"].is_null()));
    replicated(&cluster, "rc", 2).await;
    cluster.remove("replicationcontrollers/rc", &json!({"propagationPolicy": "Background"})).await;
    cluster.gone("replicationcontrollers/rc").await;
    let only_orphans = || async { (cluster.all_of("pods").await.len() == 3).then_some(()) };
    cluster.until("only orphans", only_orphans).await;
}

/// Conformance: "namespace deletion should delete pod first", "should ensure that all services are removed when a namespace is deleted".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_before_the_rest_of_their_namespace() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let mut held = pod("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.make("pods", &held).await;
    cluster.make("configmaps", &json!({"metadata": {"name": "kept"}})).await;
    cluster.make("services", &json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).await;
    cluster.remove("namespaces/ns", &Value::Null).await;
    let says = |object: &Value, kind: &str, message: &str| {
        let conditions = object["status"]["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|c| c["type"] == kind);
        found.is_some_and(|c| c["status"] == "True" && c["message"] == message)
    };
    let remaining = "Some resources are remaining: pods. has 1 resource instances";
    let finalizers = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
    cluster
        .becomes("namespaces/ns", "what remains is told", |namespace| {
            says(namespace, "NamespaceContentRemaining", remaining)
                && says(namespace, "NamespaceFinalizersRemaining", finalizers)
        })
        .await;
    for at in ["configmaps/kept", "services/s"] {
        assert!(cluster.read(at).await.is_some_and(|left| left["metadata"]["deletionTimestamp"].is_null()), "{at}");
    }
    cluster.change("pods/held", &json!({"metadata": {"finalizers": null}})).await;
    cluster.gone("namespaces/ns").await;
    cluster.namespace("ns").await;
    for resource in ["pods", "services"] {
        assert_eq!(cluster.all_of(resource).await, Vec::<Value>::new());
    }
}
