//! Admission, through the whole of a request.

use serde_json::{Value, json};

use crate::harness::Cluster;

const NS: &str = "/api/v1/namespaces/default";

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

async fn refused(cluster: &Cluster, path: &str, object: &Value, message: &str) {
    let status = cluster.post(path, object).await.expect(403);
    assert_eq!(status["reason"], "Forbidden");
    assert_eq!(status["message"], message);
}

#[tokio::test]
async fn a_limit_range_fills_in_and_refuses() {
    let cluster = Cluster::start().await;
    let limit = json!({"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}});
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [limit]}});
    cluster.post(&format!("{NS}/limitranges"), &range).await.expect(201);
    let pods = format!("{NS}/pods");
    let made = cluster.post(&pods, &pod("a", json!({}))).await.expect(201);
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}));
    let mut large = pod("b", json!({}));
    large["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    let message = "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    refused(&cluster, &pods, &large, message).await;
    let mut small = pod("c", json!({}));
    small["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "200m"}});
    let made = cluster.post(&pods, &small).await.expect(201);
    let partial = json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "200m"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], partial, "what is said is kept");

    // What is changed holds for the next pod, and nothing holds without the object.
    let path = format!("{NS}/limitranges/l");
    let more = json!([{"op": "replace", "path": "/spec/limits/0/max/cpu", "value": "3"}, {"op": "add", "path": "/spec/limits/0/min", "value": {"cpu": "50m"}}]);
    cluster.patch("json", &path, &more).await.expect(200);
    until(async || cluster.post(&format!("{pods}?dryRun=All"), &large).await.code == 201).await;
    small["metadata"]["name"] = "d".into();
    small["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "10m"}});
    let message = "pods \"d\" is forbidden: minimum cpu usage per Container is 50m, but request is 10m";
    refused(&cluster, &pods, &small, message).await;
    cluster.delete(&path, &Value::Null).await.expect(200);
    until(async || cluster.post(&format!("{pods}?dryRun=All"), &small).await.code == 201).await;
}

/// Admission hears of changes by its own watch.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "it comes true");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Creates a quota on ConfigMaps and does what the controller would: says what is used.
async fn quota(cluster: &Cluster, most: u32) {
    let hard = json!({"count/configmaps": most.to_string()});
    let quotas = format!("{NS}/resourcequotas");
    let mut made = cluster.post(&quotas, &json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await.expect(201);
    made["status"] = json!({"hard": hard, "used": {"count/configmaps": "0"}});
    cluster.put(&format!("{quotas}/q/status"), &made).await.expect(200);
}

#[tokio::test]
async fn a_quota_is_charged_until_it_is_full() {
    let cluster = Cluster::start().await;
    quota(&cluster, 2).await;
    let maps = format!("{NS}/configmaps");
    let used = || async { cluster.get(&format!("{NS}/resourcequotas/q")).await.expect(200)["status"]["used"].clone() };
    cluster.post(&maps, &json!({"metadata": {"name": "a"}})).await.expect(201);
    cluster.post(&format!("{maps}?dryRun=All"), &json!({"metadata": {"name": "dry"}})).await.expect(201);
    assert_eq!(used().await, json!({"count/configmaps": "1"}), "a dry run costs nothing");
    cluster.post(&maps, &json!({"metadata": {"name": "b"}})).await.expect(201);
    let message = "configmaps \"c\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=2, limited: count/configmaps=2";
    refused(&cluster, &maps, &json!({"metadata": {"name": "c"}}), message).await;
    assert_eq!(used().await, json!({"count/configmaps": "2"}));
}

#[tokio::test]
async fn a_crowd_gets_exactly_what_the_quota_holds() {
    let cluster = Cluster::start().await;
    quota(&cluster, 5).await;
    let create = |n: u32| {
        let cluster = &cluster;
        async move {
            let map = json!({"metadata": {"name": format!("m{n}")}});
            cluster.post(&format!("{NS}/configmaps"), &map).await.code
        }
    };
    let codes = futures::future::join_all((0..20).map(create)).await;
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 5, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 403).count(), 15, "{codes:?}");
}

#[tokio::test]
async fn classes_give_priority_storage_and_ingress() {
    let cluster = Cluster::start().await;
    let pods = format!("{NS}/pods");
    let class = json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"});
    cluster.post("/apis/scheduling.k8s.io/v1/priorityclasses", &class).await.expect(201);
    let made = cluster.post(&pods, &pod("a", json!({"priorityClassName": "high"}))).await.expect(201);
    assert_eq!(made["spec"]["priority"], 1000);
    assert_eq!(made["spec"]["preemptionPolicy"], "Never");
    let missing = pod("b", json!({"priorityClassName": "none"}));
    refused(&cluster, &pods, &missing, "pods \"b\" is forbidden: no PriorityClass with name none was found").await;

    let default = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let gold = json!({"metadata": {"name": "gold", "annotations": default}, "provisioner": "example.com/p"});
    cluster.post("/apis/storage.k8s.io/v1/storageclasses", &gold).await.expect(201);
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"metadata": {"name": "c"}, "spec": spec});
    let made = cluster.post(&format!("{NS}/persistentvolumeclaims"), &claim).await.expect(201);
    assert_eq!(made["spec"]["storageClassName"], "gold");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));

    let default = json!({"ingressclass.kubernetes.io/is-default-class": "true"});
    let class = json!({"metadata": {"name": "web", "annotations": default}, "spec": {"controller": "example.com/c"}});
    cluster.post("/apis/networking.k8s.io/v1/ingressclasses", &class).await.expect(201);
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let ingress = json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}});
    let made = cluster.post("/apis/networking.k8s.io/v1/namespaces/default/ingresses", &ingress).await.expect(201);
    assert_eq!(made["spec"]["ingressClassName"], "web");
}

#[tokio::test]
async fn a_runtime_class_adds_its_overhead() {
    let cluster = Cluster::start().await;
    let pods = format!("{NS}/pods");
    let class = json!({"metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"memory": "64Mi"}}});
    cluster.post("/apis/node.k8s.io/v1/runtimeclasses", &class).await.expect(201);
    let made = cluster.post(&pods, &pod("a", json!({"runtimeClassName": "vm"}))).await.expect(201);
    assert_eq!(made["spec"]["overhead"], json!({"memory": "64Mi"}));
    let missing = pod("b", json!({"runtimeClassName": "none"}));
    refused(&cluster, &pods, &missing, "pods \"b\" is forbidden: pod rejected: RuntimeClass \"none\" not found").await;
    let plain = json!({"metadata": {"name": "plain"}, "handler": "plain"});
    cluster.post("/apis/node.k8s.io/v1/runtimeclasses", &plain).await.expect(201);
    let made = cluster.post(&pods, &pod("c", json!({"runtimeClassName": "plain"}))).await.expect(201);
    assert_eq!(made["spec"].get("overhead"), None);
    cluster.delete("/apis/node.k8s.io/v1/runtimeclasses/plain", &Value::Null).await.expect(200);
    let late = pod("d", json!({"runtimeClassName": "plain"}));
    until(async || cluster.post(&format!("{pods}?dryRun=All"), &late).await.code == 403).await;
    refused(&cluster, &pods, &late, "pods \"d\" is forbidden: pod rejected: RuntimeClass \"plain\" not found").await;
}
