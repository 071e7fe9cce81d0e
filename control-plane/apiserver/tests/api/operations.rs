//! What every stored kind can do, whatever it is: upstream certifies "… should support … API operations" and "… should run through
//! the lifecycle of …" kind by kind; here one check runs over a table.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::{Cluster, request};

/// A watch over a collection, as lines of `TYPE name`.
struct Watch(hyper::body::Incoming, Vec<u8>);

impl Watch {
    async fn open(cluster: &Cluster, collection: &str, query: &str) -> Self {
        let response = cluster.open(request("GET", &format!("{collection}?watch=1&{query}"), &[], Bytes::new())).await;
        assert_eq!(response.status(), 200, "{collection}");
        Self(response.into_body(), Vec::new())
    }

    async fn expect(&mut self, expected: &str) {
        let end = loop {
            if let Some(end) = self.1.iter().position(|&b| b == b'\n') {
                break end;
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.0.frame()).await.expect(expected);
            self.1.extend_from_slice(&frame.expect(expected).unwrap().into_data().unwrap());
        };
        let line: Vec<u8> = self.1.drain(..=end).collect();
        let event: Value = serde_json::from_slice(&line).unwrap();
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-");
        assert_eq!(format!("{} {name}", event["type"].as_str().unwrap()), expected, "{event}");
    }
}

fn named(mut object: Value, name: &str) -> Value {
    object["metadata"] = json!({ "name": name, "labels": { "test": "operations" } });
    object
}

const SELECTED: &str = "labelSelector=test%3Doperations";
/// Jobs and ReplicationControllers orphan what is theirs if nothing else is asked for, and there is nobody here to do that.
const AT_ONCE: &str = "propagationPolicy=Background";

/// `collection` of the namespace `default`, or of the cluster; `object` without metadata.
async fn check(cluster: &Cluster, collection: &str, object: Value) {
    let (one, path) = (named(object.clone(), "one"), format!("{collection}/one"));
    let made = cluster.post(collection, &one).await.expect(201);
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(cluster.get(&path).await.expect(200), made, "{collection}");
    let everywhere = collection.replace("/namespaces/default", "");
    for list in [collection, &everywhere] {
        let list = cluster.get(&format!("{list}?{SELECTED}")).await.expect(200);
        assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{collection}");
        assert_eq!(list["kind"], format!("{}List", made["kind"].as_str().unwrap()));
    }
    let mut watch = Watch::open(cluster, collection, &format!("{SELECTED}&resourceVersion={version}")).await;
    check_changes(cluster, &path, &made, &mut watch).await;
    check_representations(cluster, collection, &path).await;
    watch.expect("MODIFIED one").await;
    let dry = cluster.delete(&format!("{path}?{AT_ONCE}&dryRun=All"), &Value::Null).await;
    assert!(dry.code == 200 && cluster.get(&path).await.code == 200, "{collection}: {}", dry.text);
    let again = cluster.post(collection, &one).await;
    again.refused(409, "AlreadyExists", "\"one\" already exists");
    assert_eq!(cluster.delete(&format!("{path}?{AT_ONCE}"), &Value::Null).await.code, 200, "{collection}");
    watch.expect("DELETED one").await;
    cluster.get(&path).await.refused(404, "NotFound", "\"one\" not found");
    check_collection(cluster, collection, &object).await;
}

/// The ways to change an object.
async fn check_changes(cluster: &Cluster, path: &str, made: &Value, watch: &mut Watch) {
    let annotated = |key: &str| json!({ "metadata": { "annotations": { key: "1" } } });
    cluster.patch("merge", path, &annotated("merge")).await.expect(200);
    watch.expect("MODIFIED one").await;
    let add = json!([{ "op": "add", "path": "/metadata/annotations/json", "value": "1" }]);
    cluster.patch("json", path, &add).await.expect(200);
    watch.expect("MODIFIED one").await;
    cluster.patch("strategic", path, &annotated("strategic")).await.expect(200);
    watch.expect("MODIFIED one").await;
    let mut config = annotated("apply");
    config["apiVersion"] = made["apiVersion"].clone();
    config["kind"] = made["kind"].clone();
    let applied = cluster.patch("apply", &format!("{path}?fieldManager=operations"), &config).await.expect(200);
    watch.expect("MODIFIED one").await;
    let managers = applied["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|entry| entry["manager"] == "operations" && entry["operation"] == "Apply"), "{path}");
    let mut updated = applied.clone();
    updated["metadata"]["annotations"]["update"] = "1".into();
    let updated = cluster.put(path, &updated).await.expect(200);
    watch.expect("MODIFIED one").await;
    for key in ["merge", "json", "strategic", "apply", "update"] {
        assert_eq!(updated["metadata"]["annotations"][key], "1", "{path}: {key}");
    }
    assert_eq!(updated["metadata"]["uid"], made["metadata"]["uid"]);
    cluster.put(path, &applied).await.refused(409, "Conflict", "the object has been modified");
    let dry = cluster.patch("merge", &format!("{path}?dryRun=All"), &annotated("dry")).await.expect(200);
    assert_eq!(dry["metadata"]["annotations"]["dry"], "1");
    assert_eq!(cluster.get(path).await.expect(200), updated, "a dry run changes nothing");
    // Not of every kind, but where it is it answers as the object does.
    let status = cluster.get(&format!("{path}/status")).await;
    if status.code == 200 {
        assert_eq!(status.body, updated, "{path}");
        let put = cluster.put(&format!("{path}/status"), &updated).await.expect(200);
        assert_eq!(put["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"], "nothing changed");
    }
}

/// The forms in which an object and a list are shown.
async fn check_representations(cluster: &Cluster, collection: &str, path: &str) {
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    for at in [collection, path] {
        let table = cluster.send("GET", at, &[("accept", table)], "").await.expect(200);
        let columns = table["columnDefinitions"].as_array().unwrap().len();
        let first = if at.contains("/events") { "Last Seen" } else { "Name" };
        assert_eq!(table["columnDefinitions"][0]["name"], first, "{at}");
        for row in table["rows"].as_array().unwrap() {
            assert_eq!(row["cells"].as_array().unwrap().len(), columns, "{at}");
        }
        let protobuf = cluster.send("GET", at, &[("accept", "application/vnd.kubernetes.protobuf")], "").await;
        assert!(protobuf.code == 200 && protobuf.text.starts_with("k8s\0"), "{at}");
        let yaml = cluster.send("GET", at, &[("accept", "application/yaml")], "").await;
        assert!(yaml.code == 200 && yaml.text.contains("apiVersion: "), "{at}");
    }
    let shown = cluster.send("GET", path, &[("accept", partial)], "").await.expect(200);
    assert_eq!((&shown["kind"], &shown["metadata"]["name"]), (&json!("PartialObjectMetadata"), &json!("one")));
    let headers = [("accept", partial), ("content-type", "application/merge-patch+json")];
    let patched = cluster.send("PATCH", path, &headers, r#"{"metadata":{"annotations":{"partial":"1"}}}"#).await;
    let patched = patched.expect(200);
    assert_eq!(patched["kind"], "PartialObjectMetadata", "{path}");
    assert!(patched.get("spec").is_none());
}

/// Deletion of what a selector finds.
async fn check_collection(cluster: &Cluster, collection: &str, object: &Value) {
    for name in ["two", "three", "four"] {
        cluster.post(collection, &named(object.clone(), name)).await.expect(201);
    }
    let count = async |query: &str| {
        let list = cluster.get(&format!("{collection}?{query}")).await.expect(200);
        list["items"].as_array().unwrap().len()
    };
    cluster.delete(&format!("{collection}?{SELECTED}&{AT_ONCE}&dryRun=All"), &Value::Null).await.expect(200);
    assert_eq!(count(SELECTED).await, 3, "{collection}");
    cluster
        .delete(&format!("{collection}?{SELECTED}&{AT_ONCE}&fieldSelector=metadata.name%3Dtwo"), &Value::Null)
        .await
        .expect(200);
    assert_eq!(count(SELECTED).await, 2, "{collection}");
    cluster.delete(&format!("{collection}?{SELECTED}&{AT_ONCE}&limit=1"), &Value::Null).await.expect(200);
    assert_eq!(count(SELECTED).await, 1, "{collection}");
    let before = count("").await;
    let deleted = cluster.delete(&format!("{collection}?{SELECTED}&{AT_ONCE}"), &Value::Null).await.expect(200);
    assert_eq!(deleted["items"].as_array().map(Vec::len), Some(1), "{collection}");
    assert_eq!((count(SELECTED).await, count("").await), (0, before - 1), "{collection}: nothing else goes");
}

fn template() -> Value {
    json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn core_kinds_can_do_all_operations() {
    let cluster = Cluster::start().await;
    let port = json!([{ "port": 80 }]);
    let cases = [
        ("configmaps", json!({ "data": { "a": "1" } })),
        ("secrets", json!({ "data": { "a": "eA==" } })),
        ("serviceaccounts", json!({})),
        ("pods", json!({ "spec": template()["spec"] })),
        ("services", json!({ "spec": { "ports": port } })),
        ("endpoints", json!({ "subsets": [{ "addresses": [{ "ip": "10.1.2.3" }], "ports": port }] })),
        ("podtemplates", json!({ "template": template() })),
        ("replicationcontrollers", json!({ "spec": { "selector": { "a": "b" }, "template": template() } })),
        ("resourcequotas", json!({ "spec": { "hard": { "pods": "5" } } })),
        ("limitranges", json!({ "spec": { "limits": [{ "type": "Pod", "max": { "cpu": "1" } }] } })),
        (
            "events",
            json!({ "involvedObject": { "namespace": "default", "kind": "Pod", "name": "p" }, "reason": "R", "type": "Normal" }),
        ),
    ];
    for (plural, object) in cases {
        // A quota or a range would hold for what follows.
        let collection = format!("/api/v1/namespaces/default/{plural}");
        check(&cluster, &collection, object).await;
    }
    check(&cluster, "/api/v1/nodes", json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_of_groups_can_do_all_operations() {
    let cluster = Cluster::start().await;
    let selected = json!({ "selector": { "matchLabels": { "a": "b" } }, "template": template() });
    let mut stateful = selected.clone();
    stateful["serviceName"] = "s".into();
    let mut job = template();
    job["spec"]["restartPolicy"] = "Never".into();
    let rules = json!([{ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"] }]);
    let role = |kind: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "view" });
    let subjects = json!([{ "kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io" }]);
    let cases = [
        ("apps/v1/namespaces/default/deployments", json!({ "spec": selected })),
        ("apps/v1/namespaces/default/replicasets", json!({ "spec": selected })),
        ("apps/v1/namespaces/default/daemonsets", json!({ "spec": selected })),
        ("apps/v1/namespaces/default/statefulsets", json!({ "spec": stateful })),
        ("apps/v1/namespaces/default/controllerrevisions", json!({ "revision": 1, "data": {} })),
        ("batch/v1/namespaces/default/jobs", json!({ "spec": { "template": job } })),
        (
            "batch/v1/namespaces/default/cronjobs",
            json!({ "spec": { "schedule": "* * * * *", "jobTemplate": { "spec": { "template": job } } } }),
        ),
        ("coordination.k8s.io/v1/namespaces/default/leases", json!({ "spec": { "holderIdentity": "h" } })),
        (
            "discovery.k8s.io/v1/namespaces/default/endpointslices",
            json!({ "addressType": "IPv4", "endpoints": [{ "addresses": ["10.1.2.3"] }] }),
        ),
        ("rbac.authorization.k8s.io/v1/namespaces/default/roles", json!({ "rules": rules })),
        (
            "rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            json!({ "roleRef": role("ClusterRole"), "subjects": subjects }),
        ),
        ("rbac.authorization.k8s.io/v1/clusterroles", json!({ "rules": rules })),
        (
            "rbac.authorization.k8s.io/v1/clusterrolebindings",
            json!({ "roleRef": role("ClusterRole"), "subjects": subjects }),
        ),
        (
            "policy/v1/namespaces/default/poddisruptionbudgets",
            json!({ "spec": { "minAvailable": 1, "selector": { "matchLabels": { "a": "b" } } } }),
        ),
    ];
    for (path, object) in cases {
        check(&cluster, &format!("/apis/{path}"), object).await;
    }
}

/// Upstream certifies these as "CRUD Tests resource.k8s.io/v1 …".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_of_devices_can_do_all_operations() {
    let cluster = Cluster::start().await;
    let requests = json!([{ "name": "gpu", "exactly": { "deviceClassName": "gpu.example.com" } }]);
    let claim = json!({ "devices": { "requests": requests } });
    let selectors = json!([{ "cel": { "expression": "device.driver == 'gpu.example.com'" } }]);
    let opaque = json!({ "driver": "gpu.example.com", "parameters": { "any": ["thing", 1] } });
    let devices = json!([{ "name": "gpu-0", "attributes": { "index": { "int": 0 }, "healthy": { "bool": false } }, "capacity": { "memory": { "value": "8Gi" } } }]);
    let pool = json!({ "name": "node-1", "generation": 1, "resourceSliceCount": 1 });
    let cases = [
        ("deviceclasses", json!({ "spec": { "selectors": selectors, "config": [{ "opaque": opaque }] } })),
        ("namespaces/default/resourceclaims", json!({ "spec": claim })),
        ("namespaces/default/resourceclaimtemplates", json!({ "spec": { "metadata": {}, "spec": claim } })),
        (
            "resourceslices",
            json!({ "spec": { "driver": "gpu.example.com", "nodeName": "node-1", "pool": pool, "devices": devices } }),
        ),
    ];
    for (path, object) in cases {
        check(&cluster, &format!("/apis/resource.k8s.io/v1/{path}"), object).await;
    }
}
