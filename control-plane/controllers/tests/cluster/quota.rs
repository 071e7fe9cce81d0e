//! What each kind costs while it lives, and which quotas of several it is charged to.

use crate::harness::Cluster;
use crate::raw::{path, replicated};
use crate::workload::template;
use serde_json::{Value, json};
use xebec_client::Error;

async fn quota(cluster: &Cluster, name: &str, hard: Value, scopes: Value) {
    let spec = json!({"hard": hard, "scopes": scopes});
    cluster.make("resourcequotas", &json!({"metadata": {"name": name}, "spec": spec})).await;
    uses(cluster, name, &[]).await;
}

/// Waits until the quota's status says what is hard, and that this is used; a figure that is not named is as it was.
async fn uses(cluster: &Cluster, name: &str, used: &[(&str, &str)]) {
    let what = format!("use of {used:?}");
    cluster
        .becomes(&format!("resourcequotas/{name}"), &what, |quota| {
            let status = &quota["status"];
            status["hard"] == quota["spec"]["hard"]
                && used.iter().all(|(name, amount)| status["used"][*name] == *amount)
        })
        .await;
}

async fn refused(cluster: &Cluster, resource: &str, object: &Value, message: &str) {
    let error = cluster.try_make(resource, object).await.expect_err("too much");
    let Error::Api(status) = &error else { panic!("{error}") };
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"), "{} {status:?}", path(resource));
    assert!(status.message.contains(message), "{} does not say {message}", status.message);
}

/// Creates an object, looks what it costs, and that it costs nothing any more when it is gone.
async fn check(cluster: &Cluster, resource: &str, spec: Value, costs: &[(&str, &str, &str)]) {
    let mut object = json!({"metadata": {"name": "x"}});
    object.as_object_mut().expect("an object").extend(spec.as_object().expect("fields").clone());
    cluster.make(resource, &object).await;
    let with: Vec<_> = costs.iter().map(|(name, with, _)| (*name, *with)).collect();
    uses(cluster, "q", &with).await;
    cluster.remove(&format!("{resource}/x"), &json!({"propagationPolicy": "Background"})).await;
    let without: Vec<_> = costs.iter().map(|(name, _, without)| (*name, *without)).collect();
    uses(cluster, "q", &without).await;
}

fn pod(name: &str, requests: Value) -> Value {
    let mut pod = template("i");
    pod["metadata"]["name"] = name.into();
    let limits: serde_json::Map<_, _> = requests
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.contains('/'))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    pod["spec"]["containers"][0]["resources"] = json!({"requests": requests, "limits": limits});
    pod
}

/// Conformance: ResourceQuota "should create a ResourceQuota and capture the life of a" configMap, replica set, replication controller,
/// secret, service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_costs_what_it_is_while_it_lives() {
    let cluster = Cluster::start(0).await;
    cluster.namespace("ns").await;
    cluster.until("the root CA", || cluster.read("configmaps/kube-root-ca.crt")).await;
    let hard = json!({"configmaps": "2", "secrets": "10", "services": "3", "services.nodeports": "1", "services.loadbalancers": "1",
        "replicationcontrollers": "1", "count/replicasets.apps": "1", "count/secrets": "1"});
    quota(&cluster, "q", hard, Value::Null).await;
    uses(&cluster, "q", &[("configmaps", "1"), ("secrets", "0"), ("services", "0")]).await;
    check(&cluster, "configmaps", json!({"data": {"a": "1"}}), &[("configmaps", "2", "1")]).await;
    check(&cluster, "secrets", json!({"data": {}}), &[("secrets", "1", "0"), ("count/secrets", "1", "0")]).await;
    let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 80}]}});
    let (nodeports, balancers) = ("services.nodeports", "services.loadbalancers");
    check(&cluster, "services", service("ClusterIP"), &[("services", "1", "0"), (nodeports, "0", "0")]).await;
    check(&cluster, "services", service("NodePort"), &[("services", "1", "0"), (nodeports, "1", "0")]).await;
    check(
        &cluster,
        "services",
        service("LoadBalancer"),
        &[("services", "1", "0"), (balancers, "1", "0"), (nodeports, "1", "0")],
    )
    .await;
    let of = replicated(0, &template("i"));
    check(&cluster, "replicasets", json!({"spec": of}), &[("count/replicasets.apps", "1", "0")]).await;
    let of = json!({"replicas": 0, "selector": {"app": "web"}, "template": template("i")});
    check(&cluster, "replicationcontrollers", json!({"spec": of}), &[("replicationcontrollers", "1", "0")]).await;
    let named = |name: &str, spec: &Value| json!({"metadata": {"name": name}, "spec": spec["spec"]});
    cluster.make("services", &named("a", &service("NodePort"))).await;
    let why =
        "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1";
    refused(&cluster, "services", &named("b", &service("NodePort")), why).await;
    cluster.make("services", &named("b", &service("ClusterIP"))).await;
    uses(&cluster, "q", &[("services", "2"), (nodeports, "1")]).await;
}

/// Conformance: ResourceQuota "should create a ResourceQuota and capture the life of a pod", "should be able to update and delete
/// ResourceQuota".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_costs_what_it_requests() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let dongle = "requests.example.com/dongle";
    let hard = json!({"pods": "5", "cpu": "1", "memory": "500Mi", "ephemeral-storage": "50Gi", dongle: "3"});
    quota(&cluster, "q", hard, Value::Null).await;
    let requests = json!({"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"});
    cluster.make("pods", &pod("a", requests)).await;
    let with = [("pods", "1"), ("cpu", "500m"), ("memory", "252Mi"), ("ephemeral-storage", "30Gi"), (dongle, "2")];
    uses(&cluster, "q", &with).await;
    let more = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory, "ephemeral-storage": "1Gi"});
    refused(
        &cluster,
        "pods",
        &pod("b", more("600m", "100Mi")),
        "exceeded quota: q, requested: cpu=600m, used: cpu=500m, limited: cpu=1",
    )
    .await;
    let mut gadgets = more("100m", "100Mi");
    gadgets["example.com/dongle"] = "2".into();
    refused(&cluster, "pods", &pod("b", gadgets), "requested: requests.example.com/dongle=2").await;
    refused(&cluster, "pods", &pod("b", json!({"cpu": "100m"})), "failed quota: q: must specify memory for: c").await;
    // What changes of a pod is not what it requests.
    cluster.change("pods/a", &json!({"metadata": {"labels": {"b": "c"}}})).await;
    uses(&cluster, "q", &with).await;
    cluster.remove("pods/a", &Value::Null).await;
    uses(&cluster, "q", &[("pods", "0"), ("cpu", "0"), ("memory", "0"), ("ephemeral-storage", "0"), (dongle, "0")])
        .await;
    cluster.change("resourcequotas/q", &json!({"spec": {"hard": {"cpu": "100m"}}})).await;
    uses(&cluster, "q", &[]).await;
    refused(&cluster, "pods", &pod("b", more("200m", "100Mi")), "requested: cpu=200m, used: cpu=0, limited: cpu=100m")
        .await;
    cluster.remove("resourcequotas/q", &Value::Null).await;
    cluster.gone("resourcequotas/q").await;
    let free = || async { cluster.try_make("pods", &pod("b", more("200m", "100Mi"))).await.ok() };
    cluster.until("a pod without quota", free).await;
}

/// Conformance: ResourceQuota "should verify ResourceQuota with best effort scope", "should verify ResourceQuota with terminating scopes".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_charged_to_the_quotas_of_its_scope() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let scopes = ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating"];
    for scope in scopes {
        quota(&cluster, &scope.to_lowercase(), json!({"pods": "5"}), json!([scope])).await;
    }
    let cpu = json!({"cpu": "100m", "memory": "10Mi"});
    let mut ending = [pod("ending", json!({})), pod("ending", cpu.clone())];
    ending.iter_mut().for_each(|pod| pod["spec"]["activeDeadlineSeconds"] = 3600.into());
    let [ending_idle, ending_busy] = ending;
    for (pod, expected) in [
        (pod("idle", json!({})), ["1", "0", "0", "1"]),
        (pod("busy", cpu), ["0", "1", "0", "1"]),
        (ending_idle, ["1", "0", "1", "0"]),
        (ending_busy, ["0", "1", "1", "0"]),
    ] {
        let at = format!("pods/{}", cluster.make("pods", &pod).await["metadata"]["name"].as_str().expect("a name"));
        for (scope, count) in scopes.iter().zip(expected) {
            uses(&cluster, &scope.to_lowercase(), &[("pods", count)]).await;
        }
        cluster.remove(&at, &Value::Null).await;
        cluster.gone(&at).await;
        for scope in scopes {
            uses(&cluster, &scope.to_lowercase(), &[("pods", "0")]).await;
        }
    }
}
