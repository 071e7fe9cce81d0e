use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Cluster, DEPLOYMENTS, config_map, deployment};

/// `outcome`: 0 and nothing for success, else code, reason and part of the message.
async fn check_create(cluster: &Cluster, path: &str, body: &str, outcome: (u16, &str, &str)) {
    let answer = cluster.send("POST", path, &[("content-type", "application/json")], body.to_owned()).await;
    match outcome {
        (0, ..) => _ = answer.expect(201),
        (code, reason, message) => answer.refused(code, reason, message),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bodies_are_refused_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let strict = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let cases = [
        (CONFIG_MAPS, r#"{"metadata":{"name":"ok"}}"#, (0, "", "")),
        (CONFIG_MAPS, r#"{"metadata":{"name":"ok"}}"#, (409, "AlreadyExists", r#"configmaps "ok" already exists"#)),
        (CONFIG_MAPS, "{", (400, "BadRequest", "the object provided is unrecognized (must be of type ConfigMap)")),
        (
            CONFIG_MAPS,
            r#"{"kind":"Pod","apiVersion":"v1"}"#,
            (400, "BadRequest", "Pod in version \"v1\" cannot be handled as a ConfigMap"),
        ),
        (
            CONFIG_MAPS,
            r#"{"kind":"ConfigMap","apiVersion":"v2"}"#,
            (400, "BadRequest", "the API version in the data (v2) does not match"),
        ),
        (
            CONFIG_MAPS,
            r#"{"metadata":{"name":"x","namespace":"other"}}"#,
            (400, "BadRequest", "the namespace of the provided object does not match"),
        ),
        (CONFIG_MAPS, r#"{"metadata":{"name":"Bad_"}}"#, (422, "Invalid", "metadata.name: Invalid value: \"Bad_\"")),
        (
            CONFIG_MAPS,
            r#"{"metadata":{}}"#,
            (422, "Invalid", "metadata.name: Required value: name or generateName is required"),
        ),
        (
            CONFIG_MAPS,
            r#"{"metadata":{"name":"x"},"data":{"a":1}}"#,
            (400, "BadRequest", "cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        ),
        (
            &strict,
            r#"{"metadata":{"name":"x"},"foo":1}"#,
            (400, "BadRequest", "strict decoding error: unknown field \"foo\""),
        ),
        (&strict, r#"{"metadata":{"name":"x"},"data":{"a":"1","a":"2"}}"#, (400, "BadRequest", "duplicate field")),
        (
            "/api/v1/namespaces/none/configmaps",
            r#"{"metadata":{"name":"x"}}"#,
            (404, "NotFound", "namespaces \"none\" not found"),
        ),
        (
            "/api/v1/namespaces/default/widgets",
            "{}",
            (404, "NotFound", "the server could not find the requested resource"),
        ),
        (
            "/api/v1/configmaps",
            r#"{"metadata":{"name":"x"}}"#,
            (400, "BadRequest", "an empty namespace may not be set during creation"),
        ),
    ];
    for (path, body, outcome) in cases {
        check_create(&cluster, path, body, outcome).await;
    }
    let warned = cluster.post(CONFIG_MAPS, &json!({ "metadata": { "name": "w" }, "foo": 1 })).await;
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"foo\\\"\"");
    let typed = cluster.send("POST", CONFIG_MAPS, &[("content-type", "text/plain")], "x").await;
    typed.refused(
        415,
        "UnsupportedMediaType",
        "application/json, application/yaml, application/vnd.kubernetes.protobuf",
    );
    let big = cluster.send("POST", CONFIG_MAPS, &[], vec![b' '; (3 << 20) + 1]).await;
    big.refused(413, "RequestEntityTooLarge", "limit is 3145728");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_get_what_the_server_decides() {
    let cluster = Cluster::start().await;
    let made = cluster.post(CONFIG_MAPS, &json!({ "metadata": { "generateName": "g-" } })).await.expect(201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("g-") && name.len() == 7, "{name}");
    assert!(made["metadata"]["uid"].as_str().unwrap().len() == 36);
    let read = cluster.get(&format!("{CONFIG_MAPS}/{name}")).await.expect(200);
    assert_eq!(read, made);
    let yaml =
        cluster.send("POST", CONFIG_MAPS, &[("content-type", "application/yaml")], "metadata:\n  name: y\n").await;
    assert_eq!(yaml.expect(201)["metadata"]["name"], "y");
    let dry = cluster.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("dry")).await.expect(201);
    assert_eq!(dry["metadata"]["name"], "dry");
    cluster.get(&format!("{CONFIG_MAPS}/dry")).await.refused(404, "NotFound", "configmaps \"dry\" not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_meet_the_version_they_were_made_from() {
    let cluster = Cluster::start().await;
    let path = format!("{CONFIG_MAPS}/c");
    let first = cluster.post(CONFIG_MAPS, &config_map("c")).await.expect(201);
    let mut second = first.clone();
    second["data"]["a"] = "2".into();
    let second = cluster.put(&path, &second).await.expect(200);
    assert_ne!(first["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    let stale = cluster.put(&path, &first).await;
    stale.refused(409, "Conflict", "Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your changes to the latest version and try again");
    let same = cluster.put(&path, &second).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"], "nothing changed");
    cluster.put(&path, &config_map("c")).await.expect(200);
    let mut other = second.clone();
    other["metadata"]["uid"] = "x".into();
    cluster.put(&path, &other).await.refused(409, "Conflict", "Precondition failed: UID in precondition: x");
    let renamed = config_map("d");
    cluster.put(&path, &renamed).await.refused(
        400,
        "BadRequest",
        "the name of the object (d) does not match the name on the URL (c)",
    );
    cluster.put(&format!("{CONFIG_MAPS}/d"), &renamed).await.refused(404, "NotFound", "configmaps \"d\" not found");
}

/// Applies a patch to a fresh deployment; `at` is a pointer into the result.
async fn check_patch(cluster: &Cluster, kind: &str, patch: Value, at: &str, expected: Value) {
    let name = format!("d{}", rand::random::<u32>());
    cluster.post(DEPLOYMENTS, &deployment(&name)).await.expect(201);
    let patched = cluster.patch(kind, &format!("{DEPLOYMENTS}/{name}?fieldManager=t"), &patch).await.expect(200);
    assert_eq!(patched.pointer(at).unwrap_or(&Value::Null), &expected, "{kind} {patch}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_of_all_kinds() {
    let cluster = Cluster::start().await;
    check_patch(
        &cluster,
        "json",
        json!([{ "op": "replace", "path": "/spec/replicas", "value": 3 }]),
        "/spec/replicas",
        json!(3),
    )
    .await;
    check_patch(&cluster, "merge", json!({ "spec": { "replicas": 4 } }), "/metadata/generation", json!(2)).await;
    check_patch(&cluster, "merge", json!({ "metadata": { "labels": { "a": "b" } } }), "/metadata/generation", json!(1))
        .await;
    let container = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "d", "image": "i" }] } } } });
    check_patch(&cluster, "strategic", container, "/spec/template/spec/containers/1/name", json!("c")).await;
    let path = format!("{DEPLOYMENTS}/x");
    cluster.patch("merge", &path, &json!({})).await.refused(404, "NotFound", "deployments.apps \"x\" not found");
    let bad = cluster.send("PATCH", &path, &[("content-type", "application/json")], "{}").await;
    bad.refused(415, "UnsupportedMediaType", "application/apply-patch+yaml");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_creates_owns_and_conflicts() {
    let cluster = Cluster::start().await;
    let config = |value: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": value } });
    let path = |manager: &str| format!("{CONFIG_MAPS}/a?fieldManager={manager}");
    cluster.patch("apply", &format!("{CONFIG_MAPS}/a"), &config("1")).await.refused(
        422,
        "Invalid",
        "fieldManager: Required value: is required for apply patch",
    );
    cluster.patch("apply", &path("one"), &config("1")).await.expect(201);
    let again = cluster.patch("apply", &path("one"), &config("1")).await.expect(200);
    let conflict = cluster.patch("apply", &path("two"), &config("2")).await;
    conflict.refused(409, "Conflict", "Apply failed with 1 conflict: conflict with \"one\": .data.k");
    let forced = cluster.patch("apply", &format!("{}&force=true", path("two")), &config("2")).await.expect(200);
    assert_eq!(forced["data"]["k"], "2");
    assert_ne!(forced["metadata"]["resourceVersion"], again["metadata"]["resourceVersion"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_patches_all_take_effect() {
    let cluster = Cluster::start().await;
    cluster.post(CONFIG_MAPS, &config_map("c")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/c");
    let patches: Vec<Value> = (0..20).map(|i| json!({ "data": { format!("k{i}"): "v" } })).collect();
    let answers = futures::future::join_all(patches.iter().map(|patch| cluster.patch("merge", &path, patch))).await;
    answers.into_iter().for_each(|answer| _ = answer.expect(200));
    let read = cluster.get(&path).await.expect(200);
    assert_eq!(read["data"].as_object().unwrap().len(), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_restart() {
    let cluster = Cluster::start().await;
    let made = cluster.post(CONFIG_MAPS, &config_map("kept")).await.expect(201);
    let cluster = cluster.restart().await;
    assert_eq!(cluster.get(&format!("{CONFIG_MAPS}/kept")).await.expect(200), made);
}
