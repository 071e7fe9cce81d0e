use serde_json::{Value, json};

use crate::harness::{Cluster, DEPLOYMENTS, deployment};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `expected`: the kind of document and its media type.
async fn check(cluster: &Cluster, path: &str, accept: &str, expected: (&str, &str)) {
    let answer = cluster.send("GET", path, &[("accept", accept)], "").await;
    let media_type = answer.headers["content-type"].to_str().unwrap().to_owned();
    let document = answer.expect(200);
    assert_eq!((document["kind"].as_str().unwrap(), media_type.as_str()), expected, "{path} as {accept}");
}

/// Conformance: "should support raw aggregated discovery endpoint Accept headers".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accept_header_chooses_the_document() {
    let cluster = Cluster::start().await;
    let list = ("APIGroupDiscoveryList", AGGREGATED);
    let kubectl = format!(
        "{AGGREGATED},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    );
    for path in ["/api", "/apis"] {
        check(&cluster, path, AGGREGATED, list).await;
        check(&cluster, path, &kubectl, list).await;
    }
    check(&cluster, "/api", "application/json", ("APIVersions", "application/json")).await;
    check(&cluster, "/apis", "application/json", ("APIGroupList", "application/json")).await;
    check(&cluster, "/apis", "*/*", ("APIGroupList", "application/json")).await;
    check(&cluster, "/apis/apps", "application/json", ("APIGroup", "application/json")).await;
    check(&cluster, "/apis/apps/v1", "application/json", ("APIResourceList", "application/json")).await;
    let first = cluster.send("GET", "/apis", &[("accept", AGGREGATED)], "").await;
    let tag = first.headers["etag"].to_str().unwrap();
    let again = cluster.send("GET", "/apis", &[("accept", AGGREGATED), ("if-none-match", tag)], "").await;
    assert_eq!((again.code, again.text.as_str()), (304, ""));
}

/// Conformance: "should validate PreferredVersion for each APIGroup", "should locate the groupVersion and a resource within each
/// APIGroup", "should support aggregated discovery interface".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_group_has_versions_and_every_version_resources() {
    let cluster = Cluster::start().await;
    let groups = cluster.get("/apis").await.expect(200);
    let aggregated = cluster.send("GET", "/apis", &[("accept", AGGREGATED)], "").await.expect(200);
    for group in groups["groups"].as_array().unwrap() {
        let versions = group["versions"].as_array().unwrap();
        assert!(versions.contains(&group["preferredVersion"]), "{group}");
        let mut one = cluster.get(&format!("/apis/{}", group["name"].as_str().unwrap())).await.expect(200);
        let fields = one.as_object_mut().unwrap();
        fields.retain(|key, _| key != "kind" && key != "apiVersion");
        assert_eq!(&one, group);
        let found = aggregated["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == group["name"]);
        let listed: Vec<&Value> =
            found.unwrap()["versions"].as_array().unwrap().iter().map(|v| &v["version"]).collect();
        assert_eq!(listed, versions.iter().map(|v| &v["version"]).collect::<Vec<_>>());
        for version in versions {
            let group_version = version["groupVersion"].as_str().unwrap();
            let list = cluster.get(&format!("/apis/{group_version}")).await.expect(200);
            assert_eq!(list["groupVersion"], group_version);
            assert!(!list["resources"].as_array().unwrap().is_empty(), "{group_version}");
        }
    }
    for path in cluster.get("/").await.expect(200)["paths"].as_array().unwrap() {
        assert_eq!(cluster.get(path.as_str().unwrap()).await.code, 200, "{path}");
    }
    assert_eq!(cluster.get("/apis/none.example").await.code, 404);
    let version = cluster.get("/version").await.expect(200);
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.36."));
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("36")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openapi_is_what_each_client_can_read() {
    let cluster = Cluster::start().await;
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let kubectl = format!("{protobuf}, application/json");
    for (path, accept, expected) in [
        ("/openapi/v2", "application/json", "application/json"),
        ("/openapi/v2", protobuf, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"),
        ("/openapi/v2", &kubectl, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"),
        ("/openapi/v3", "application/json", "application/json"),
        ("/openapi/v3/apis/apps/v1", "*/*", "application/json"),
    ] {
        let answer = cluster.send("GET", path, &[("accept", accept)], "").await;
        assert_eq!((answer.code, answer.headers["content-type"].to_str().unwrap()), (200, expected), "{path} {accept}");
        let headers = [("accept", accept), ("if-none-match", answer.headers["etag"].to_str().unwrap())];
        assert_eq!(cluster.send("GET", path, &headers, "").await.code, 304, "{path} {accept}");
    }
    cluster.send("GET", "/openapi/v2", &[("accept", "text/html")], "").await.refused(406, "NotAcceptable", protobuf);
    cluster.get("/openapi/v3/apis/none/v1").await.refused(404, "NotFound", "");
}

/// `expected`: the code, and the problems in the order in which they are told.
async fn check_validation(cluster: &Cluster, mode: &str, change: fn(String) -> String, expected: (u16, &str)) {
    let body = change(deployment("d").to_string());
    let path = format!("{DEPLOYMENTS}?dryRun=All&fieldValidation={mode}");
    let answer = cluster.send("POST", &path, &[("content-type", "application/json")], body).await;
    let told = match answer.headers.get_all("warning").iter().map(|w| w.to_str().unwrap()).collect::<Vec<_>>() {
        warnings if warnings.is_empty() => answer.body["message"].as_str().unwrap_or_default().to_owned(),
        warnings => warnings.join(", ").replace("299 - ", "").replace('\\', ""),
    };
    assert_eq!(answer.code, expected.0, "{mode}: {}", answer.text);
    assert!(told.contains(expected.1) && told.is_empty() == expected.1.is_empty(), "{mode}: {told}");
}

/// Conformance: "should detect unknown and duplicate fields of a typed object", "should detect unknown metadata fields of a typed
/// object".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_validated_as_far_as_asked_for() {
    let cluster = Cluster::start().await;
    let doubled = |body: String| {
        body.replace("\"selector\"", "\"unknownField\":\"foo\",\"replicas\":2,\"replicas\":3,\"selector\"")
    };
    let meta = |body: String| body.replacen("\"name\":\"d\"", "\"name\":\"d\",\"unknownMeta\":\"foo\"", 1);
    let both = r#"strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas""#;
    check_validation(&cluster, "Strict", doubled, (400, both)).await;
    let warned = r#""unknown field "spec.unknownField"", "duplicate field "spec.replicas"""#;
    check_validation(&cluster, "Warn", doubled, (201, warned)).await;
    check_validation(&cluster, "", doubled, (201, warned)).await;
    check_validation(&cluster, "Ignore", doubled, (201, "")).await;
    let unknown = r#"strict decoding error: unknown field "metadata.unknownMeta""#;
    check_validation(&cluster, "Strict", meta, (400, unknown)).await;
    check_validation(&cluster, "Nonsense", meta, (422, r#"fieldValidation: Unsupported value: "Nonsense""#)).await;
    let yaml = "metadata: {name: y}\ndata: {a: b}\ndata: {a: c}\nnope: 1\n";
    let maps = format!("{}?fieldValidation=Strict", crate::harness::CONFIG_MAPS);
    let answer = cluster.send("POST", &maps, &[("content-type", "application/yaml")], yaml).await;
    let expected = "strict decoding error: yaml: unmarshal errors:\n  line 3: key \"data\" already set in map, unknown field \"nope\"";
    answer.refused(400, "BadRequest", expected);
}
