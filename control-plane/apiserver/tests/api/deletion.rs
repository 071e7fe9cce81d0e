use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Cluster, DEPLOYMENTS, PODS, config_map, deployment, pod};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_answer_with_what_is_gone() {
    let cluster = Cluster::start().await;
    let made = cluster.post(CONFIG_MAPS, &config_map("c")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/c");
    let wrong = json!({ "preconditions": { "uid": "x" } });
    cluster.delete(&path, &wrong).await.refused(409, "Conflict", "Operation cannot be fulfilled on ConfigMap \"c\": the UID in the precondition (x) does not match the UID in record (");
    cluster.delete(&format!("{path}?dryRun=All"), &Value::Null).await.expect(200);
    let gone = cluster.delete(&path, &json!({ "kind": "DeleteOptions", "apiVersion": "v1" })).await.expect(200);
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"], json!({ "name": "c", "kind": "configmaps", "uid": made["metadata"]["uid"] }));
    cluster.delete(&path, &Value::Null).await.refused(404, "NotFound", "configmaps \"c\" not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_on_a_node_gets_its_grace_period() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{PODS}/p");
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n" } });
    cluster.post(&format!("{path}/binding"), &binding).await.expect(201);
    cluster.post(&format!("{path}/binding"), &binding).await.refused(
        409,
        "Conflict",
        "pod p is already assigned to node \"n\"",
    );
    let marked = cluster.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let again = cluster.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(again["metadata"]["resourceVersion"], marked["metadata"]["resourceVersion"]);
    let sooner = cluster.delete(&path, &json!({ "gracePeriodSeconds": 5 })).await.expect(200);
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    cluster.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await.expect(200);
    cluster.get(&path).await.refused(404, "NotFound", "pods \"p\" not found");
    // More seconds than there are dates.
    cluster.post(PODS, &pod("p")).await.expect(201);
    cluster.post(&format!("{path}/binding"), &binding).await.expect(201);
    let never = cluster.delete(&path, &json!({ "gracePeriodSeconds": i64::MAX })).await.expect(200);
    assert_eq!(never["metadata"]["deletionTimestamp"], "9999-12-31T23:59:59Z");
    cluster.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await.expect(200);
    cluster.post(PODS, &pod("unbound")).await.expect(201);
    cluster.delete(&format!("{PODS}/unbound"), &Value::Null).await.expect(200);
    cluster.get(&format!("{PODS}/unbound")).await.refused(404, "NotFound", "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finalizers_keep_an_object_until_they_are_gone() {
    let cluster = Cluster::start().await;
    let mut object = config_map("f");
    object["metadata"]["finalizers"] = json!(["example.com/a"]);
    cluster.post(CONFIG_MAPS, &object).await.expect(201);
    let path = format!("{CONFIG_MAPS}/f");
    let marked = cluster.delete(&path, &Value::Null).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let more = json!({ "metadata": { "finalizers": ["example.com/a", "example.com/b"] } });
    cluster.patch("merge", &path, &more).await.refused(
        422,
        "Invalid",
        "no new finalizers can be added if the object is being deleted",
    );
    cluster.post(CONFIG_MAPS, &config_map("f")).await.refused(409, "AlreadyExists", "object is being deleted");
    cluster.patch("merge", &path, &json!({ "metadata": { "finalizers": null } })).await.expect(200);
    cluster.get(&path).await.refused(404, "NotFound", "");
}

/// The finalizer that a propagation policy leaves.
async fn check_propagation(cluster: &Cluster, options: Value, expected: &[&str]) {
    let name = format!("d{}", rand::random::<u32>());
    cluster.post(DEPLOYMENTS, &deployment(&name)).await.expect(201);
    let path = format!("{DEPLOYMENTS}/{name}");
    cluster.delete(&path, &options).await.expect(200);
    let left = cluster.get(&path).await;
    if expected.is_empty() {
        assert_eq!(left.code, 404, "{options}");
    } else {
        assert_eq!(left.expect(200)["metadata"]["finalizers"], json!(expected), "{options}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn propagation_policies_are_finalizers() {
    let cluster = Cluster::start().await;
    check_propagation(&cluster, json!({ "propagationPolicy": "Foreground" }), &["foregroundDeletion"]).await;
    check_propagation(&cluster, json!({ "propagationPolicy": "Orphan" }), &["orphan"]).await;
    check_propagation(&cluster, json!({ "orphanDependents": true }), &["orphan"]).await;
    check_propagation(&cluster, json!({ "propagationPolicy": "Background" }), &[]).await;
    check_propagation(&cluster, Value::Null, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_go_when_they_are_finalized() {
    let cluster = Cluster::start().await;
    cluster.post("/api/v1/namespaces", &json!({ "metadata": { "name": "n" } })).await.expect(201);
    let path = "/api/v1/namespaces/n";
    let configs = format!("{path}/configmaps");
    let account = format!("{path}/configmaps/c");
    cluster.post(&configs, &config_map("c")).await.expect(201);
    let marked = cluster.delete(path, &Value::Null).await.expect(200);
    assert_eq!(marked["status"]["phase"], "Terminating");
    cluster.post(&configs, &config_map("d")).await.refused(
        403,
        "Forbidden",
        "unable to create new content in namespace n because it is being terminated",
    );
    cluster.patch("merge", &account, &json!({ "data": { "x": "y" } })).await.expect(200);
    cluster.delete(&account, &Value::Null).await.expect(200);
    let mut finalized = marked;
    finalized["spec"]["finalizers"] = json!([]);
    cluster.put(&format!("{path}/finalize"), &finalized).await.expect(200);
    cluster.get(path).await.refused(404, "NotFound", "namespaces \"n\" not found");
    cluster.delete("/api/v1/namespaces/default", &Value::Null).await.refused(
        403,
        "Forbidden",
        "this namespace may not be deleted",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collections_are_deleted_by_selector() {
    let cluster = Cluster::start().await;
    for (name, color) in [("a", "red"), ("b", "red"), ("c", "blue")] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({ "color": color });
        cluster.post(CONFIG_MAPS, &object).await.expect(201);
    }
    let gone = cluster.delete(&format!("{CONFIG_MAPS}?labelSelector=color%3Dred"), &Value::Null).await.expect(200);
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    cluster.get(&format!("{CONFIG_MAPS}/a")).await.refused(404, "NotFound", "");
    cluster.get(&format!("{CONFIG_MAPS}/c")).await.expect(200);
}
