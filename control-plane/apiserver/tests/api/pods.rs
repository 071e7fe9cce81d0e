//! What the server decides about pods, and what it refuses.

use serde_json::{Value, json};

use crate::harness::{Cluster, PODS, pod};
use crate::watches::Watch;

fn with(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = pod(name);
    change(&mut pod);
    pod
}

async fn bind(cluster: &Cluster, name: &str) {
    let binding = json!({ "metadata": { "name": name }, "target": { "kind": "Node", "name": "n" } });
    cluster.post(&format!("{PODS}/{name}/binding"), &binding).await.expect(201);
}

/// Conformance: "custom-set generation on new pods and graceful delete", "pod generation should start at 1 and increment per update".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_generation_of_a_pod_counts_changes_of_its_spec() {
    let cluster = Cluster::start().await;
    let path = format!("{PODS}/p");
    let sent = with("p", |pod| {
        pod["metadata"]["generation"] = 100.into();
        pod["spec"]["containers"][0]["resources"] = json!({ "requests": { "cpu": "1" } });
    });
    assert_eq!(cluster.post(PODS, &sent).await.expect(201)["metadata"]["generation"], 1);
    bind(&cluster, "p").await;
    assert_eq!(cluster.get(&path).await.expect(200)["metadata"]["generation"], 1, "a binding is no change");
    let container = |field: Value| {
        let mut container = json!({ "name": "c" });
        container.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
        json!({ "spec": { "containers": [container] } })
    };
    for (at, patch, generation) in [
        ("", container(json!({ "image": "other" })), 2),
        ("", json!({ "spec": { "activeDeadlineSeconds": 500 } }), 3),
        ("", json!({ "spec": { "tolerations": [{ "key": "k", "operator": "Exists" }] } }), 4),
        ("/resize", container(json!({ "resources": { "requests": { "cpu": "2" } } })), 5),
        ("/ephemeralcontainers", json!({ "spec": { "ephemeralContainers": [{ "name": "e", "image": "i" }] } }), 6),
        ("", json!({ "metadata": { "labels": { "a": "b" } } }), 6),
        ("/status", json!({ "status": { "phase": "Running", "message": "m" } }), 6),
    ] {
        cluster.patch("strategic", &format!("{path}{at}"), &patch).await.expect(200);
        assert_eq!(cluster.get(&path).await.expect(200)["metadata"]["generation"], generation, "{at} {patch}");
    }
    let mut forged = cluster.get(&path).await.expect(200);
    forged["metadata"]["generation"] = 100.into();
    assert_eq!(cluster.put(&path, &forged).await.expect(200)["metadata"]["generation"], 6);
    assert_eq!(cluster.delete(&path, &Value::Null).await.expect(200)["metadata"]["generation"], 7);
}

/// Conformance: "issue 500 podspec updates and verify generation and observedGeneration eventually converge"; what a kubelet observes is its
/// own test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_updates_are_counted_one_by_one() {
    let cluster = Cluster::start().await;
    let path = format!("{PODS}/p");
    cluster.post(PODS, &pod("p")).await.expect(201);
    let user = || xebec_apiserver::UserInfo::loopback();
    for round in 1..=500 {
        let mut pod = cluster.as_local(user(), "GET", &path, &Value::Null).await.expect(200);
        assert_eq!(pod["metadata"]["generation"], round);
        pod["spec"]["activeDeadlineSeconds"] = (6000 - round).into();
        cluster.as_local(user(), "PUT", &path, &pod).await.expect(200);
    }
    assert_eq!(cluster.get(&path).await.expect(200)["metadata"]["generation"], 501);
}

async fn check_class(cluster: &Cluster, requests: Value, limits: Value, expected: &str) {
    let resources = json!({ "requests": requests, "limits": limits });
    let sent = with("q", |pod| pod["spec"]["containers"][0]["resources"] = resources.clone());
    let made = cluster.post(&format!("{PODS}?dryRun=All"), &sent).await.expect(201);
    assert_eq!(made["status"]["qosClass"], expected, "{resources}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_class_of_a_pod_follows_its_requests_and_limits() {
    let cluster = Cluster::start().await;
    let (both, other) = (json!({ "cpu": "100m", "memory": "100Mi" }), json!({ "cpu": "200m", "memory": "100Mi" }));
    check_class(&cluster, both.clone(), both.clone(), "Guaranteed").await;
    check_class(&cluster, json!({}), both.clone(), "Guaranteed").await;
    check_class(&cluster, both.clone(), other, "Burstable").await;
    check_class(&cluster, json!({ "cpu": "100m" }), json!({}), "Burstable").await;
    check_class(&cluster, json!({}), json!({ "memory": "100Mi" }), "Burstable").await;
    check_class(&cluster, json!({}), json!({}), "BestEffort").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sysctls_of_the_wrong_form_are_refused() {
    let cluster = Cluster::start().await;
    let names = ["foo-", "kernel.shmmax", "safe-and-unsafe", "bar.."];
    let sysctls: Vec<_> = names.iter().map(|name| json!({ "name": name, "value": "100000000" })).collect();
    let sent = with("p", |pod| pod["spec"]["securityContext"] = json!({ "sysctls": sysctls }));
    let status = cluster.post(PODS, &sent).await.expect(422);
    let message = status["message"].as_str().unwrap();
    for (name, refused) in names.into_iter().zip([true, false, false, true]) {
        assert_eq!(message.contains(&format!("Invalid value: {name:?}")), refused, "{name}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_sees_a_pod_come_end_and_go() {
    let cluster = Cluster::start().await;
    let mut watch = Watch::over(&cluster, PODS, "labelSelector=time%3Dnow", "").await;
    let sent = with("p", |pod| pod["metadata"]["labels"] = json!({ "time": "now" }));
    cluster.post(PODS, &sent).await.expect(201);
    watch.expect("ADDED p").await;
    bind(&cluster, "p").await;
    watch.expect("MODIFIED p").await;
    let path = format!("{PODS}/p");
    let running = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
    cluster.patch("strategic", &format!("{path}/status"), &running).await.expect(200);
    let seen = watch.expect("MODIFIED p").await;
    assert_eq!(seen["object"]["status"]["phase"], "Running");
    // The condition that was there stays beside another.
    let started = json!({ "status": { "conditions": [{ "type": "Started", "status": "False", "reason": "R" }] } });
    let patched = cluster.patch("strategic", &format!("{path}/status"), &started).await.expect(200);
    let conditions = patched["status"]["conditions"].as_array().unwrap();
    for kind in ["Ready", "Started", "PodScheduled"] {
        assert!(conditions.iter().any(|condition| condition["type"] == kind), "{kind}: {patched}");
    }
    watch.expect("MODIFIED p").await;
    cluster.delete(&path, &json!({ "gracePeriodSeconds": 1 })).await.expect(200);
    let ending = watch.expect("MODIFIED p").await;
    assert_eq!(ending["object"]["metadata"]["deletionGracePeriodSeconds"], 1);
    cluster.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await.expect(200);
    watch.expect("DELETED p").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_a_csi_driver_may_be_in_a_pod() {
    let cluster = Cluster::start().await;
    let source =
        json!({ "driver": "inline-driver-one", "volumeAttributes": { "a": "b" }, "fsType": "ext4", "readOnly": true });
    let sent = with("p", |pod| {
        pod["spec"]["volumes"] = json!([{ "name": "v", "csi": source }]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": "/data" }]);
    });
    cluster.post(PODS, &sent).await.expect(201);
    let stored = cluster.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(stored["spec"]["volumes"][0]["csi"], source);
    cluster.delete(&format!("{PODS}/p"), &Value::Null).await.expect(200);
    let nameless = with("q", |pod| pod["spec"]["volumes"] = json!([{ "name": "v", "csi": { "driver": "" } }]));
    cluster.post(PODS, &nameless).await.refused(422, "Invalid", "spec.volumes[0].csi.driver: Required value");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_without_a_key_is_refused() {
    let cluster = Cluster::start().await;
    for (resource, data) in [("configmaps", "value-1"), ("secrets", "dmFsdWUtMQ==")] {
        let sent = json!({ "metadata": { "name": "a" }, "data": { "": data } });
        let answer = cluster.post(&format!("/api/v1/namespaces/default/{resource}"), &sent).await;
        answer.refused(422, "Invalid", "data[]: Invalid value: \"\": a valid config key must consist of");
    }
}
