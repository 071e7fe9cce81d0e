//! Pods that have to leave: taints of their nodes, and evictions that budgets allow or not.

use crate::harness::Cluster;
use crate::raw::replicated;
use crate::workload::template;
use serde_json::{Value, json};
use xebec_client::Error;
use xebec_types::Time;

const KEY: &str = "kubernetes.io/e2e-evict-taint-key";

async fn pod_on(cluster: &Cluster, name: &str, node: &str, seconds: u32) {
    let mut pod = template("i");
    pod["metadata"] = json!({"name": name, "finalizers": ["example.com/keep"]});
    pod["spec"]["nodeName"] = node.into();
    pod["spec"]["tolerations"] = json!([
        {"key": KEY, "operator": "Equal", "value": "evictTaintVal", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    cluster.make("pods", &pod).await;
}

/// When the taint was added.
async fn taint(cluster: &Cluster, node: &str) -> Time {
    let taint = json!({"key": KEY, "value": "evictTaintVal", "effect": "NoExecute", "timeAdded": now()});
    let tainted = cluster.change(&format!("nodes/{node}"), &json!({"spec": {"taints": [taint]}})).await;
    serde_json::from_value(tainted["spec"]["taints"][0]["timeAdded"].clone()).expect("a time")
}

fn now() -> Value {
    serde_json::to_value(xebec_types::time::time(xebec_types::time::now())).expect("a time")
}

/// When its deletion was asked for; the pods have no grace period.
async fn evicted(cluster: &Cluster, name: &str) -> Time {
    let at = format!("pods/{name}");
    let marked = cluster.becomes(&at, "eviction", |pod| pod["metadata"]["deletionTimestamp"].is_string()).await;
    let condition =
        marked["status"]["conditions"].as_array().and_then(|all| all.iter().find(|c| c["type"] == "DisruptionTarget"));
    assert_eq!(condition.map(|c| &c["reason"]), Some(&json!("DeletionByTaintManager")), "{marked}");
    serde_json::from_value(marked["metadata"]["deletionTimestamp"].clone()).expect("a time")
}

/// Conformance: NoExecuteTaintManager Multiple Pods "evicts pods with minTolerationSeconds".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_pod_leaves_a_tainted_node_when_its_own_time_is_over() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    for (name, seconds) in [("soon", 1), ("later", 3), ("never", 3600)] {
        pod_on(&cluster, name, "n0", seconds).await;
    }
    let added = taint(&cluster, "n0").await;
    for (name, seconds) in [("soon", 1), ("later", 3)] {
        let passed = evicted(&cluster, name).await.0.as_second() - added.0.as_second();
        assert!(passed >= seconds, "{name} after {passed} s");
    }
    assert!(cluster.read("pods/never").await.expect("it stays")["metadata"]["deletionTimestamp"].is_null());
}

/// Conformance: NoExecuteTaintManager Single Pod "removing taint cancels eviction".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taint_that_goes_in_time_evicts_nobody() {
    let cluster = Cluster::start(2).await;
    cluster.namespace("ns").await;
    pod_on(&cluster, "stays", "n0", 3).await;
    pod_on(&cluster, "goes", "n1", 4).await;
    taint(&cluster, "n0").await;
    taint(&cluster, "n1").await;
    cluster.change("nodes/n0", &json!({"spec": {"taints": null}})).await;
    // The other pod's time ends after its own would have.
    evicted(&cluster, "goes").await;
    assert!(cluster.read("pods/stays").await.expect("it stays")["metadata"]["deletionTimestamp"].is_null());
}

/// Conformance: DisruptionController "should block an eviction until the PDB is updated to allow it".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_waits_for_its_budget() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    cluster.make("replicasets", &json!({"metadata": {"name": "rs"}, "spec": replicated(3, &template("i"))})).await;
    cluster.ready_pods("ns", 3).await;
    let spec = json!({"minAvailable": 3, "selector": {"matchLabels": {"app": "web"}}});
    let at = "poddisruptionbudgets/b";
    cluster.make("poddisruptionbudgets", &json!({"metadata": {"name": "b"}, "spec": spec})).await;
    let healthy = |budget: &Value| budget["status"]["currentHealthy"] == 3;
    cluster.becomes(at, "three healthy pods", healthy).await;
    let victim = cluster.all_of("pods").await[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": victim}});
    let evict = || cluster.try_make_at(&victim, &eviction);
    let refused = evict().await.expect_err("nothing may go");
    assert!(matches!(&refused, Error::Api(status) if status.code == 429), "{refused}");
    cluster.change(at, &json!({"spec": {"minAvailable": 2}})).await;
    cluster.becomes(at, "an allowed disruption", |budget| budget["status"]["disruptionsAllowed"] == 1).await;
    evict().await.expect("one may go");
    cluster.gone(&format!("pods/{victim}")).await;
    // And not again, when it is patched back.
    cluster.becomes(at, "three healthy pods", healthy).await;
    cluster.change(at, &json!({"spec": {"minAvailable": "100%"}})).await;
    cluster.becomes(at, "no allowed disruption", |budget| budget["status"]["disruptionsAllowed"] == 0).await;
    cluster.remove(at, &Value::Null).await;
}

impl Cluster {
    async fn try_make_at(&self, pod: &str, eviction: &Value) -> Result<Value, Error> {
        self.try_make(&format!("pods/{pod}/eviction"), eviction).await
    }
}
