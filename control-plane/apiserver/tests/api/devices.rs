//! `resource.k8s.io` on the wire: what is stored of an object, who writes the status, how slices are selected, that both encodings say the same.

use serde_json::{Value, json};

use crate::harness::Cluster;

const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";

fn claim(name: &str) -> Value {
    let requests = json!([{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]);
    json!({"metadata": {"name": name}, "spec": {"devices": {"requests": requests}}})
}

fn slice(name: &str, node: &str) -> Value {
    let device = json!({
        "name": "gpu-0", "attributes": {"index": {"int": 0}, "firmware": {"version": "1.0.0"}, "healthy": {"bool": false}},
        "capacity": {"memory": {"value": "8Gi"}}, "taints": [{"key": "k", "effect": "NoSchedule"}],
    });
    let pool = json!({"name": node, "generation": 0, "resourceSliceCount": 1});
    json!({"metadata": {"name": name}, "spec": {"driver": "gpu.example.com", "nodeName": node, "pool": pool, "devices": [device]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spec_and_status_of_a_claim_are_written_apart() {
    let cluster = Cluster::start().await;
    let results = json!([{"request": "gpu", "driver": "gpu.example.com", "pool": "p", "device": "gpu-0"}]);
    let allocation = json!({"devices": {"results": results}});
    let mut sent = claim("c");
    sent["status"] = json!({"allocation": allocation});
    let made = cluster.post(CLAIMS, &sent).await.expect(201);
    assert_eq!(made["status"], json!({}), "a create has no status");
    assert_eq!(made["spec"]["devices"]["requests"][0]["exactly"]["count"], 1);
    let consumer = json!({"resource": "pods", "name": "p", "uid": "u"});
    let path = format!("{CLAIMS}/c/status");
    let status = json!({"allocation": allocation, "reservedFor": [consumer]});
    let patch = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"devices": {"requests": []}}, "status": status});
    let patched = cluster.patch("merge", &path, &patch).await.expect(200);
    assert_eq!((&patched["spec"], &patched["status"]), (&made["spec"], &status));
    assert_eq!(patched["metadata"].get("labels"), None);
    // Consumers are merged by their uid.
    let other = json!({"status": {"reservedFor": [{"resource": "pods", "name": "q", "uid": "v"}]}});
    let merged = cluster.patch("strategic", &path, &other).await.expect(200);
    assert_eq!(merged["status"]["reservedFor"].as_array().map(Vec::len), Some(2));
    let mut changed = merged.clone();
    changed["status"] = json!({});
    changed["metadata"]["annotations"] = json!({"a": "b"});
    let put = cluster.put(&format!("{CLAIMS}/c"), &changed).await.expect(200);
    assert_eq!((&put["status"], &put["metadata"]["annotations"]["a"]), (&merged["status"], &json!("b")));
    let mut respecified = put;
    respecified["spec"]["devices"]["requests"][0]["name"] = json!("other");
    let refused = cluster.put(&format!("{CLAIMS}/c"), &respecified).await;
    refused.refused(422, "Invalid", "field is immutable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_are_selected_by_node_and_driver() {
    let cluster = Cluster::start().await;
    for (name, node) in [("a", "node-1"), ("b", "node-2")] {
        cluster.post(SLICES, &slice(name, node)).await.expect(201);
    }
    for (selector, expected) in [
        ("spec.nodeName%3Dnode-2", &["b"][..]),
        ("spec.driver%3Dgpu.example.com", &["a", "b"]),
        ("spec.driver%3Dgpu.example.com,spec.nodeName%3Dnode-1", &["a"]),
        ("spec.driver%3Dother", &[]),
    ] {
        let list = cluster.get(&format!("{SLICES}?fieldSelector={selector}")).await.expect(200);
        let names: Vec<&str> =
            list["items"].as_array().unwrap().iter().filter_map(|slice| slice["metadata"]["name"].as_str()).collect();
        assert_eq!(names, expected, "{selector}");
    }
    let refused = cluster.get(&format!("{SLICES}?fieldSelector=spec.pool%3Dx")).await;
    refused.refused(400, "BadRequest", "spec.pool");
    assert_eq!(cluster.get(&format!("{SLICES}/a")).await.expect(200)["metadata"]["generation"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slice_comes_as_protobuf_too() {
    let cluster = Cluster::start().await;
    let mut sent = slice("a", "node-1");
    sent["apiVersion"] = json!("resource.k8s.io/v1");
    sent["kind"] = json!("ResourceSlice");
    let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
    let made =
        cluster.send("POST", SLICES, &protobuf, xebec_schema::protobuf::encode(&sent).unwrap()).await.expect(201);
    let taint = &made["spec"]["devices"][0]["taints"][0]["timeAdded"];
    assert!(taint.is_string());
    sent["spec"]["devices"][0]["taints"][0]["timeAdded"] = taint.clone();
    assert_eq!(made["spec"], sent["spec"]);
    let unknown = json!({"metadata": {"name": "b"}, "spec": {"nothing": 1}});
    let refused = cluster.post(&format!("{SLICES}?fieldValidation=Strict"), &unknown).await;
    refused.refused(400, "BadRequest", "unknown field \"spec.nothing\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_marked_namespaces_look_on_at_devices_of_others() {
    const WHY: &str = "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    let cluster = Cluster::start().await;
    let mut sent = claim("c");
    sent["spec"]["devices"]["requests"][0]["exactly"]["adminAccess"] = json!(true);
    cluster.post(CLAIMS, &sent).await.refused(422, "Invalid", WHY);
    let templates = CLAIMS.replace("resourceclaims", "resourceclaimtemplates");
    let template = json!({"metadata": {"name": "t"}, "spec": {"spec": sent["spec"]}});
    cluster.post(&templates, &template).await.refused(422, "Invalid", WHY);
    // An allocation does not grant what nobody asked for.
    cluster.post(CLAIMS, &claim("plain")).await.expect(201);
    let results =
        json!([{"request": "gpu", "driver": "gpu.example.com", "pool": "p", "device": "gpu-0", "adminAccess": true}]);
    let status = json!({"status": {"allocation": {"devices": {"results": results}}}});
    let refused = cluster.patch("merge", &format!("{CLAIMS}/plain/status"), &status).await;
    refused.refused(422, "Invalid", "status.allocation.devices.results[0].adminAccess: Forbidden: admin access");
    let labels = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    cluster.patch("merge", "/api/v1/namespaces/default", &labels).await.expect(200);
    cluster.post(CLAIMS, &sent).await.expect(201);
    cluster.post(&templates, &template).await.expect(201);
}

/// What the quota's controller would count is written here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_holds_the_devices_of_a_class() {
    let cluster = Cluster::start().await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let name = "gpu.example.com.deviceclass.resource.k8s.io/devices";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {name: "3"}}});
    let mut made = cluster.post(quotas, &quota).await.expect(201);
    made["status"] = json!({"hard": {name: "3"}, "used": {name: "0"}});
    cluster.put(&format!("{quotas}/q/status"), &made).await.expect(200);
    let of = |claim_name: &str, count: i64| {
        let mut claim = claim(claim_name);
        claim["spec"]["devices"]["requests"][0]["exactly"]["count"] = count.into();
        claim
    };
    cluster.post(CLAIMS, &of("two", 2)).await.expect(201);
    let message = format!("exceeded quota: q, requested: {name}=2, used: {name}=2, limited: {name}=3");
    cluster.post(CLAIMS, &of("more", 2)).await.refused(403, "Forbidden", &message);
    cluster.post(CLAIMS, &of("one", 1)).await.expect(201);
    let used = cluster.get(&format!("{quotas}/q")).await.expect(200)["status"]["used"].clone();
    assert_eq!(used, json!({name: "3"}));
}
