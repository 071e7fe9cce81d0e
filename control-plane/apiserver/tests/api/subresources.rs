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
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = cluster.send("GET", &path, &accept, "").await.expect(200);
    let columns: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(columns, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..3], [json!("d"), json!(1), json!(0)]);
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
}

/// As upstream's 1.36: built-in groups have a router, which answers with a Status; what nobody routes is text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_serves_is_not_found_as_upstream_says_it() {
    let cluster = Cluster::start().await;
    for path in
        ["/api/v1/nopes", "/api/v2", "/api/v2/pods", "/apis/apps/v1/nopes", "/apis/apps/v9", "/apis/apps/v1/nopes/x/y"]
    {
        cluster.get(path).await.refused(404, "NotFound", "the server could not find the requested resource");
    }
    let no_group = "/apis/nope.example.com/v1/namespaces/default/nopes";
    for path in ["/nope", "/nope/x", "/apis/nope.example.com", "/apis/nope.example.com/v1", no_group, "/healthz/nope"] {
        let answer = cluster.get(path).await;
        assert_eq!((answer.code, answer.text.as_str()), (404, "404 page not found\n"), "{path}");
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8", "{path}");
    }
    let answer = cluster.post("/apis/nope.example.com/v1/nopes", &json!({})).await;
    assert_eq!((answer.code, answer.text.as_str()), (404, "404 page not found\n"));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_are_added_to_a_running_pod_and_stay() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{PODS}/p/ephemeralcontainers");
    let debugger = json!({"name": "d", "image": "busybox:1", "targetContainerName": "c", "stdin": true, "tty": true});
    let patch = json!({"metadata": {"labels": {"ignored": "yes"}}, "spec": {"ephemeralContainers": [debugger]}});
    let patched = cluster.patch("strategic", &path, &patch).await.expect(200);
    assert_eq!(patched["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!((&patched["metadata"]["generation"], &patched["metadata"]["labels"]), (&json!(2), &Value::Null));
    assert_eq!(cluster.get(&path).await.expect(200)["kind"], "Pod");
    let again = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "busybox:2"}]}});
    cluster.patch("strategic", &path, &again).await.refused(422, "Invalid", "may not be changed");
    let other = json!({"spec": {"ephemeralContainers": [{"name": "c", "image": "busybox:2"}]}});
    cluster.patch("strategic", &path, &other).await.refused(422, "Invalid", "Duplicate value: \"c\"");
    let absent = cluster.patch("strategic", &format!("{PODS}/q/ephemeralcontainers"), &patch).await;
    absent.refused(404, "NotFound", "pods \"q\" not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_resized_within_its_class_and_its_namespaces_limits() {
    let cluster = Cluster::start().await;
    let mut sized = pod("p");
    sized["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    let made = cluster.post(PODS, &sized).await.expect(201);
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
    assert_eq!(made["spec"]["containers"][0]["resizePolicy"], policy);
    let patch =
        |resources: Value| json!({"spec": {"containers": [{"name": "c", "image": "other", "resources": resources}]}});
    let path = format!("{PODS}/p/resize");
    let resized = cluster.patch("strategic", &path, &patch(json!({"requests": {"cpu": "200m"}}))).await.expect(200);
    let container = &resized["spec"]["containers"][0];
    assert_eq!((&container["resources"]["requests"]["cpu"], &container["image"]), (&json!("200m"), &json!("busybox")));
    assert_eq!(resized["metadata"]["generation"], 2);
    let guaranteed = json!({"limits": {"cpu": "200m", "memory": "1Gi"}, "requests": {"cpu": "200m", "memory": "1Gi"}});
    cluster.patch("strategic", &path, &patch(guaranteed)).await.refused(422, "Invalid", "QOS Class may not change");
    let direct = patch(json!({"requests": {"cpu": "300m"}}));
    cluster.patch("strategic", &format!("{PODS}/p"), &direct).await.refused(422, "Invalid", "may not change fields");
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "250m"}}});
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let mut quota = cluster.post(quotas, &quota).await.expect(201);
    quota["status"] = json!({"hard": {"requests.cpu": "250m"}, "used": {"requests.cpu": "200m"}});
    cluster.put(&format!("{quotas}/q/status"), &quota).await.expect(200);
    let more = cluster.patch("strategic", &path, &patch(json!({"requests": {"cpu": "300m"}}))).await;
    more.refused(403, "Forbidden", "exceeded quota: q");
}

/// A backend on this machine stands for a pod without a node: the API server dials it itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_hand_requests_on_and_say_where_they_cannot() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let cluster = Cluster::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                let mut chunk = [0; 1024];
                match stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => head.extend_from_slice(&chunk[..read]),
                }
            }
            let head = String::from_utf8_lossy(&head).to_lowercase();
            let answer =
                format!("HTTP/1.1 302 Found\r\nlocation: /next\r\ncontent-length: {}\r\n\r\n{head}", head.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let mut made = cluster.post(PODS, &pod("p")).await.expect(201);
    cluster.get(&format!("{PODS}/p/proxy/")).await.refused(400, "BadRequest", "address not allowed");
    made["status"] = json!({"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]});
    cluster.put(&format!("{PODS}/p/status"), &made).await.expect(200);
    let path = format!("{PODS}/p:{port}/proxy");
    let answer = cluster.get(&path).await;
    assert_eq!((answer.code, &answer.headers["location"]), (301, &format!("{path}/").parse().unwrap()));
    let headers = [("authorization", "Basic c2VjcmV0"), ("x-own", "kept")];
    let answer = cluster.send("POST", &format!("{path}/a%2Fb?q=1"), &headers, "body").await;
    assert_eq!((answer.code, &answer.headers["location"]), (302, &format!("{path}/next").parse().unwrap()));
    assert!(answer.text.starts_with("post /a%2fb?q=1 http/1.1"), "{}", answer.text);
    for (text, expected) in [("x-own: kept", true), ("authorization", false), ("x-forwarded-uri: ", true)] {
        assert_eq!(answer.text.contains(text), expected, "{text} in {}", answer.text);
    }
    cluster.get(&format!("{PODS}/p:1/proxy/")).await.refused(503, "ServiceUnavailable", "127.0.0.1:1");
    cluster.get(&format!("{PODS}/q/proxy/")).await.refused(404, "NotFound", "pods \"q\" not found");
    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
    cluster.post(services, &service).await.expect(201);
    let none = cluster.get(&format!("{services}/s:http/proxy/")).await;
    none.refused(503, "ServiceUnavailable", "no endpoints available for service \"s:http\"");
    let port_81 = cluster.get(&format!("{services}/s:81/proxy/")).await;
    port_81.refused(503, "ServiceUnavailable", "no service port 81 found for service \"s\"");
    let slice = json!({
        "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}], "endpoints": [{"addresses": ["10.0.0.9"], "conditions": {"ready": false}}],
    });
    cluster.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await.expect(201);
    assert_eq!(cluster.get(&format!("{services}/s:80/proxy/")).await.code, 503);
    let jane = xebec_apiserver::UserInfo::new("jane", &["system:authenticated"]);
    let denied = cluster.as_local(jane, "GET", &format!("{services}/s:80/proxy/"), &Value::Null).await;
    denied.refused(403, "Forbidden", "cannot get resource \"services/proxy\"");
}
