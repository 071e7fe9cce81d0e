use serde_json::{Value, json};

use crate::harness::{Cluster, DEPLOYMENTS, PODS, deployment, pod};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_spec_are_written_apart() {
    let cluster = Cluster::start().await;
    let mut made = cluster.post(DEPLOYMENTS, &deployment("d")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/d");
    made["status"] = json!({ "replicas": 7 });
    made["spec"]["replicas"] = 5.into();
    let status = cluster.put(&format!("{path}/status"), &made).await.expect(200);
    assert_eq!((&status["status"]["replicas"], &status["spec"]["replicas"]), (&json!(7), &json!(1)));
    let patched = cluster
        .patch("merge", &path, &json!({ "status": { "replicas": 9 }, "spec": { "replicas": 2 } }))
        .await
        .expect(200);
    assert_eq!((&patched["status"]["replicas"], &patched["spec"]["replicas"]), (&json!(7), &json!(2)));
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scale_is_a_view_of_replicas() {
    let cluster = Cluster::start().await;
    cluster.post(DEPLOYMENTS, &deployment("d")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/d/scale");
    let mut scale = cluster.get(&path).await.expect(200);
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    assert_eq!(scale["status"]["selector"], "app=d");
    scale["spec"]["replicas"] = 3.into();
    assert_eq!(cluster.put(&path, &scale).await.expect(200)["spec"]["replicas"], 3);
    cluster.put(&path, &scale).await.refused(409, "Conflict", "the object has been modified");
    cluster.patch("merge", &path, &json!({ "spec": { "replicas": 0 } })).await.expect(200);
    assert_eq!(cluster.get(&format!("{DEPLOYMENTS}/d")).await.expect(200)["spec"]["replicas"], 0);
    let bad = cluster.patch("merge", &path, &json!({ "spec": { "replicas": -1 } })).await;
    bad.refused(422, "Invalid", "must be greater than or equal to 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evictions_delete_and_logs_need_a_node() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, &pod("p")).await.expect(201);
    assert_eq!(cluster.get(&format!("{PODS}/p/log")).await.code, 204);
    let exec = cluster.get(&format!("{PODS}/p/exec?command=ls")).await;
    exec.refused(400, "BadRequest", "pod p does not have a host assigned");
    cluster.get(&format!("{PODS}/p/log?container=x")).await.refused(
        400,
        "BadRequest",
        "container x is not valid for pod p",
    );
    cluster.get(&format!("{PODS}/none/log")).await.refused(404, "NotFound", "pods \"none\" not found");
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "p" } });
    let answer = cluster.post(&format!("{PODS}/p/eviction"), &eviction).await.expect(201);
    assert_eq!(answer["status"], "Success");
    cluster.get(&format!("{PODS}/p")).await.refused(404, "NotFound", "");
    cluster.get(&format!("{DEPLOYMENTS}/x/log")).await.refused(
        404,
        "NotFound",
        "the server could not find the requested resource",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_have_two_faces() {
    let cluster = Cluster::start().await;
    let event = json!({
        "metadata": { "name": "e", "namespace": "default" },
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "example.com/c",
        "reportingInstance": "i",
        "action": "Act",
        "reason": "Because",
        "type": "Normal",
        "regarding": { "kind": "Pod", "namespace": "default", "name": "p" },
        "note": "hello",
    });
    cluster.post("/apis/events.k8s.io/v1/namespaces/default/events", &event).await.expect(201);
    let core = cluster.get("/api/v1/namespaces/default/events/e").await.expect(200);
    assert_eq!((&core["message"], &core["involvedObject"]["name"]), (&json!("hello"), &json!("p")));
    let listed = cluster.get("/apis/events.k8s.io/v1/events").await.expect(200);
    assert_eq!(listed["items"][0]["note"], "hello");
    assert_eq!(listed["items"][0]["apiVersion"], "events.k8s.io/v1");
    let selected = cluster.get("/api/v1/events?fieldSelector=involvedObject.name%3Dp").await.expect(200);
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_names_what_is_served() {
    let cluster = Cluster::start().await;
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let core = cluster.send("GET", "/api", &[("accept", v2)], "").await;
    let tag = core.headers["etag"].to_str().unwrap().to_owned();
    let core = core.expect(200);
    let names = |value: &Value| {
        value.as_array().unwrap().iter().map(|r| r["resource"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(names(&core["items"][0]["versions"][0]["resources"]).contains(&"pods".to_owned()));
    let again = cluster.send("GET", "/api", &[("accept", v2), ("if-none-match", &tag)], "").await;
    assert_eq!(again.code, 304);
    assert_eq!(cluster.get("/apis/apps/v1").await.expect(200)["groupVersion"], "apps/v1");
    assert!(cluster.get("/openapi/v3").await.expect(200)["paths"].is_object());
    assert!(cluster.get("/version").await.expect(200)["gitVersion"].as_str().unwrap().starts_with("v1.36."));
    assert_eq!(cluster.get("/readyz").await.text, "ok");
    assert!(cluster.get("/metrics").await.text.contains("apiserver_request_total"));
    cluster.get("/nope").await.refused(404, "NotFound", "the server could not find the requested resource");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_requests_are_approved_and_signed() {
    let cluster = Cluster::start().await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n");
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let signer = "kubernetes.io/kube-apiserver-client-kubelet";
    let body = json!({ "metadata": { "name": "r" }, "spec": {
        "request": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &pem),
        "signerName": signer,
        "usages": ["digital signature", "client auth"],
    } });
    let mut made = cluster.post(requests, &body).await.expect(201);
    assert_eq!(made["spec"]["username"], "admin");
    made["status"] = json!({ "conditions": [{ "type": "Approved", "status": "True", "reason": "Test" }] });
    let approved = cluster.put(&format!("{requests}/r/approval"), &made).await.expect(200);
    assert!(approved["status"]["conditions"][0]["lastTransitionTime"].is_string());
    let mut signed = approved;
    let certificate = cluster.pki.sign_csr(&pem, signer, None).unwrap();
    signed["status"]["certificate"] =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate).into();
    let signed = cluster.put(&format!("{requests}/r/status"), &signed).await.expect(200);
    assert!(signed["status"]["certificate"].is_string());
    let alice = xebec_apiserver::UserInfo::new("alice", &["system:authenticated"]);
    let refused = cluster.as_local(alice, "PUT", &format!("{requests}/r/approval"), &signed).await;
    refused.refused(403, "Forbidden", "cannot update resource \"certificatesigningrequests/approval\"");
}
