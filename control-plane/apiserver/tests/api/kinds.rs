//! Kinds whose wire has something of its own: two versions of one object, generated fields, deletion that leaves dependents.

use serde_json::{Value, json};

use crate::harness::Cluster;

const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const CONTROLLERS: &str = "/api/v1/namespaces/default/replicationcontrollers";

fn template(policy: &str) -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i:1"}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_is_one_object_in_two_versions() {
    let cluster = Cluster::start().await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let sent = json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": target}});
    let made = cluster.post(V1, &sent).await.expect(201);
    assert_eq!((&made["apiVersion"], &made["spec"]["minReplicas"]), (&json!("autoscaling/v1"), &json!(1)));
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 50);
    let newer = cluster.get(&format!("{V2}/a")).await.expect(200);
    assert_eq!(newer["apiVersion"], "autoscaling/v2");
    assert_eq!(newer["metadata"]["uid"], made["metadata"]["uid"]);
    let utilization = json!({"type": "Utilization", "averageUtilization": 50});
    assert_eq!(newer["spec"]["metrics"][0]["resource"], json!({"name": "cpu", "target": utilization}));
    // What the older version has no field for survives a change made through it.
    let mut changed = newer.clone();
    changed["spec"]["behavior"] = json!({"scaleUp": {"selectPolicy": "Min"}});
    cluster.put(&format!("{V2}/a"), &changed).await.expect(200);
    let mut older = cluster.get(&format!("{V1}/a")).await.expect(200);
    assert!(older["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"].is_string());
    older["spec"]["maxReplicas"] = json!(5);
    cluster.put(&format!("{V1}/a"), &older).await.expect(200);
    let newer = cluster.get(&format!("{V2}/a")).await.expect(200);
    assert_eq!(newer["spec"]["maxReplicas"], 5);
    assert_eq!(newer["spec"]["behavior"]["scaleUp"]["selectPolicy"], "Min");
    assert_eq!(newer["metadata"].get("annotations"), None);
    // Both versions list it, also as a table.
    let list = cluster.get(V1).await.expect(200);
    assert_eq!(
        (&list["kind"], &list["items"][0]["apiVersion"]),
        (&json!("HorizontalPodAutoscalerList"), &json!("autoscaling/v1"))
    );
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    for path in [V1.to_owned(), V2.to_owned(), format!("{V1}/a")] {
        let table = cluster.send("GET", &path, &accept, String::new()).await.expect(200);
        assert_eq!(table["rows"][0]["cells"][2], "cpu: <unknown>/50%", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_is_patched_and_applied_in_either_version() {
    let cluster = Cluster::start().await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let config = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": target}});
    let path = format!("{V1}/a?fieldManager=m");
    cluster.patch("apply", &path, &config).await.expect(201);
    let again = cluster.patch("apply", &path, &config).await.expect(200);
    assert_eq!((&again["apiVersion"], &again["metadata"]["generation"]), (&json!("autoscaling/v1"), &json!(1)));
    let merge = "merge";
    let patch = json!({"spec": {"targetCPUUtilizationPercentage": 60}});
    assert_eq!(cluster.patch(merge, &format!("{V1}/a"), &patch).await.expect(200)["spec"]["maxReplicas"], 3);
    let newer = cluster.get(&format!("{V2}/a")).await.expect(200);
    assert_eq!(newer["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 60);
    // The status is written in either version, too.
    let patch = json!({"status": {"currentReplicas": 2, "desiredReplicas": 2}});
    cluster.patch(merge, &format!("{V1}/a/status"), &patch).await.expect(200);
    assert_eq!(cluster.get(&format!("{V2}/a")).await.expect(200)["status"]["currentReplicas"], 2);
}

/// Upstream's status subresources write metadata as well, and clients use it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_annotation_may_come_with_a_status() {
    let cluster = Cluster::start().await;
    let job = json!({"metadata": {"name": "j"}, "spec": {"suspend": true, "template": template("Never")}});
    cluster.post(JOBS, &job).await.expect(201);
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    cluster.post(ingresses, &json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}})).await.expect(201);
    let annotations = json!({"patchedstatus": "true"});
    for (path, status) in [
        (format!("{JOBS}/j/status"), json!({"startTime": "2026-01-02T03:04:05Z"})),
        (format!("{ingresses}/i/status"), json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}})),
    ] {
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"suspend": false}, "status": status});
        let patched = cluster.patch("merge", &path, &patch).await.expect(200);
        assert_eq!((&patched["metadata"]["annotations"], &patched["status"]), (&annotations, &status), "{path}");
        assert_ne!(patched["spec"]["suspend"], false, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_gets_a_selector_of_its_own() {
    let cluster = Cluster::start().await;
    let sent = json!({"metadata": {"generateName": "j-"}, "spec": {"template": template("Never")}});
    let made = cluster.post(JOBS, &sent).await.expect(201);
    let (name, uid) = (&made["metadata"]["name"], &made["metadata"]["uid"]);
    assert_eq!(made["spec"]["selector"]["matchLabels"], json!({"batch.kubernetes.io/controller-uid": uid}));
    let labels = &made["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        (&labels["job-name"], &labels["batch.kubernetes.io/job-name"], &labels["controller-uid"]),
        (name, name, uid)
    );
    assert_eq!(made["metadata"]["labels"], json!({"app": "a"}));
    // Nobody who says nothing loses pods, and they are told.
    let path = format!("{JOBS}/{}", name.as_str().unwrap());
    let answer = cluster.send("DELETE", &path, &[], String::new()).await;
    let warning = answer.headers.get("warning").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    assert!(warning.contains("child pods are preserved by default when jobs are deleted"), "{warning}");
    assert_eq!(answer.expect(200)["metadata"]["finalizers"], json!(["orphan"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_is_scaled_by_its_plain_selector() {
    let cluster = Cluster::start().await;
    let sent = json!({"metadata": {"name": "r"}, "spec": {"replicas": 2, "template": template("Always")}});
    let made = cluster.post(CONTROLLERS, &sent).await.expect(201);
    assert_eq!(made["spec"]["selector"], json!({"app": "a"}));
    let mut scale = cluster.get(&format!("{CONTROLLERS}/r/scale")).await.expect(200);
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(2), &json!("app=a")));
    scale["spec"]["replicas"] = json!(4);
    cluster.put(&format!("{CONTROLLERS}/r/scale"), &scale).await.expect(200);
    assert_eq!(cluster.get(&format!("{CONTROLLERS}/r")).await.expect(200)["spec"]["replicas"], 4);
}

/// Every resource of discovery lists, as itself and as a table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_discovered_can_be_listed() {
    let cluster = Cluster::start().await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    for resource in xebec_schema::schema().resources().iter().filter(|r| r.verbs.contains(&"list")) {
        let root = if resource.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", resource.group) };
        let path = format!("{root}/{}/{}", resource.version, resource.plural);
        let list = cluster.get(&path).await.expect(200);
        assert_eq!(list["kind"], format!("{}List", resource.kind), "{path}");
        let table = cluster.send("GET", &path, &accept, String::new()).await.expect(200);
        assert_eq!(table["kind"], "Table", "{path}");
    }
}

/// Without kubelets nothing was measured: that is said of what exists, and what does not exist is not found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_measured_has_no_metrics() {
    const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";
    let cluster = Cluster::start().await;
    cluster.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.expect(201);
    cluster.get(&format!("{METRICS}/nodes/n")).await.refused(404, "NotFound", "nodes.metrics.k8s.io \"n\" not found");
    cluster.get(&format!("{METRICS}/nodes/m")).await.refused(404, "NotFound", "nodes \"m\" not found");
    let path = format!("{METRICS}/namespaces/default/pods");
    assert_eq!(cluster.get(&path).await.expect(200)["items"], json!([]));
    assert_eq!(cluster.post(&path, &json!({"metadata": {"name": "p"}})).await.code, 405);
    let accept = [("accept", "application/vnd.kubernetes.protobuf,application/json")];
    assert_eq!(cluster.send("GET", &path, &accept, "").await.expect(200)["kind"], "PodMetricsList");
    // Who may view a namespace may see what it uses, and nothing of nodes.
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregated-metrics-reader"});
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]);
    let binding = json!({"metadata": {"name": "b"}, "roleRef": role, "subjects": subjects});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    cluster.post(bindings, &binding).await.expect(201);
    let jane = || xebec_apiserver::UserInfo::new("jane", &["system:authenticated"]);
    // Authorization follows the store.
    while cluster.as_local(jane(), "GET", &path, &Value::Null).await.code == 403 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    cluster.as_local(jane(), "GET", &path, &Value::Null).await.expect(200);
    cluster.as_local(jane(), "GET", &format!("{METRICS}/nodes"), &Value::Null).await.refused(403, "Forbidden", "nodes");
}

/// Both groups select events, each by its own names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_selected_by_the_names_of_their_group() {
    let cluster = Cluster::start().await;
    let about = json!({"kind": "Pod", "name": "p", "namespace": "default"});
    let sent = json!({"metadata": {"name": "e"}, "involvedObject": about, "reason": "Started", "type": "Normal"});
    cluster.post("/api/v1/namespaces/default/events", &sent).await.expect(201);
    for (path, field, count) in [
        ("/api/v1", "involvedObject.name%3Dp", 1),
        ("/apis/events.k8s.io/v1", "regarding.name%3Dp", 1),
        ("/apis/events.k8s.io/v1", "regarding.name%3Dq", 0),
    ] {
        let list = cluster.get(&format!("{path}/namespaces/default/events?fieldSelector={field}")).await.expect(200);
        assert_eq!(list["items"].as_array().map(Vec::len), Some(count), "{path} {field}");
    }
}
