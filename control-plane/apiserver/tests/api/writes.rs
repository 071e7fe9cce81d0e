use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Cluster, DEPLOYMENTS, PODS, SERVICES, config_map, deployment, pod};

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
        (
            CONFIG_MAPS,
            "{",
            (
                400,
                "BadRequest",
                "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({)",
            ),
        ),
        (
            CONFIG_MAPS,
            "nonsense",
            (
                400,
                "BadRequest",
                "couldn't get version/kind; json parse error: invalid character 'o' in literal null (expecting 'u') (6e6f6e73656e7365)",
            ),
        ),
        (
            CONFIG_MAPS,
            "[]",
            (
                400,
                "BadRequest",
                "json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)",
            ),
        ),
        (
            CONFIG_MAPS,
            "{\"metadata\":{\"name\":\"n\"},\"data\":{,}}",
            (
                400,
                "BadRequest",
                "invalid character ',' looking for beginning of object key string ({\"metadata\":{\"name\":\"n\"},\"data ...)",
            ),
        ),
        (
            CONFIG_MAPS,
            r#"{"kind":"Pod","apiVersion":"v1"}"#,
            (
                400,
                "BadRequest",
                "Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion",
            ),
        ),
        (
            CONFIG_MAPS,
            r#"{"kind":"ConfigMap","apiVersion":"v2"}"#,
            (
                400,
                "BadRequest",
                "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in \
                 scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
            ),
        ),
        (
            CONFIG_MAPS,
            r#"{"apiVersion":"a/b/c"}"#,
            (
                400,
                "BadRequest",
                "the object provided is unrecognized (must be of type ConfigMap): unexpected GroupVersion string: a/b/c ({\"apiVersion\":\"a/b/c\"})",
            ),
        ),
        (
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            r#"{"kind":"HorizontalPodAutoscaler","apiVersion":"autoscaling/v1"}"#,
            (
                400,
                "BadRequest",
                "the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)",
            ),
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

/// A patch of a fresh deployment, `d`, that is refused.
async fn check_refused(cluster: &Cluster, kind: &str, query: &str, patch: &str, expected: (u16, &str, &str)) {
    let media_type = match kind {
        "json" => "application/json-patch+json",
        "merge" => "application/merge-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        _ => "application/apply-patch+yaml",
    };
    let path = format!("{DEPLOYMENTS}/d?{query}");
    let answer = cluster.send("PATCH", &path, &[("content-type", media_type)], patch.to_owned()).await;
    let (code, reason, message) = expected;
    answer.refused(code, reason, message);
}

/// As apiserver's `handlers/patch.go` and `versioncheck.go`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_that_do_not_fit_are_refused_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let before = cluster.post(DEPLOYMENTS, &deployment("d")).await.expect(201);
    let strict = "fieldValidation=Strict";
    let number = "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
    let apply = |rest: &str| format!("{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d}}, {rest}}}");
    let cases = [
        (
            "json",
            "",
            r#"[{"op":"test","path":"/spec/replicas","value":7}]"#,
            (422, "Invalid", "the server rejected our request due to an error in our request"),
        ),
        ("json", "", r#"[{"op":"remove","path":"/spec/x"}]"#, (422, "Invalid", "the server rejected our request")),
        ("json", "", "{}", (400, "BadRequest", "")),
        (
            "json",
            "",
            r#"[{"op":"add","path":"/metadata/name","value":"e"}]"#,
            (400, "BadRequest", "the name of the object (e) does not match the name on the URL (d)"),
        ),
        (
            "json",
            "",
            r#"[{"op":"remove","path":"/metadata/name"}]"#,
            (400, "BadRequest", "the name of the object (d based on URL) was undeterminable: name must be provided"),
        ),
        (
            "json",
            strict,
            r#"[{"op":"add","path":"/spec/nope","value":1}]"#,
            (422, "Invalid", "strict decoding error: unknown field \"spec.nope\""),
        ),
        (
            "merge",
            "",
            r#"{"metadata":{"namespace":"other"}}"#,
            (
                400,
                "BadRequest",
                "the namespace of the object (other) does not match the namespace on the request (default)",
            ),
        ),
        (
            "merge",
            "",
            "[1]",
            (
                400,
                "BadRequest",
                "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
        ),
        (
            "json",
            "",
            r#"{"a":1}"#,
            (400, "BadRequest", "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
        ),
        ("json", "", r#"[{"op":"foo","path":"/spec"}]"#, (422, "Invalid", "Unexpected kind: foo")),
        ("merge", "", r#"{"spec":{"replicas":"x"}}"#, (422, "Invalid", number)),
        (
            "merge",
            strict,
            r#"{"spec":{"replicas":1,"replicas":2}}"#,
            (422, "Invalid", "strict decoding error: duplicate field \"spec.replicas\""),
        ),
        (
            "strategic",
            "",
            r#"{"spec":{"replicas":"x"}}"#,
            (422, "Invalid", "patch: Invalid value: \"map[spec:map[replicas:x]]\": "),
        ),
        (
            "strategic",
            strict,
            r#"{"spec":{"nope":1,"replicas":2,"replicas":3}}"#,
            (
                422,
                "Invalid",
                "patch: Invalid value: \"map[spec:map[nope:1 replicas:3]]\": strict decoding error: duplicate field \"spec.replicas\", unknown field \"spec.nope\"",
            ),
        ),
        (
            "strategic",
            "",
            r#"{"spec":{"strategy":{"$retainKeys":"x"}}}"#,
            (400, "BadRequest", "invalid patch format of retainKeys"),
        ),
        ("merge", "force=true", "{}", (422, "Invalid", "may not be specified for non-apply patch")),
        ("apply", "fieldManager=a", "a: b: c", (400, "BadRequest", "error decoding YAML")),
        (
            "apply",
            "fieldManager=a",
            "{apiVersion: v1, kind: Deployment}",
            (400, "BadRequest", "invalid object type: /v1, Kind=Deployment"),
        ),
        (
            "apply",
            "fieldManager=a",
            &apply("spec: {nope: 1}"),
            (
                500,
                "",
                "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.nope: field not declared in schema",
            ),
        ),
        (
            "apply",
            "fieldManager=a",
            &apply("spec: {replicas: x}"),
            (500, "", "failed to create typed patch object (/d; apps/v1, Kind=Deployment): "),
        ),
        (
            "apply",
            "fieldManager=a",
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, managedFields: []}}",
            (400, "BadRequest", "metadata.managedFields must be nil"),
        ),
        (
            "apply",
            "fieldManager=a&fieldValidation=Strict",
            &apply("spec: {replicas: 1, replicas: 2}"),
            (400, "BadRequest", "error strict decoding YAML: "),
        ),
    ];
    for (kind, query, patch, expected) in cases {
        check_refused(&cluster, kind, query, patch, expected).await;
    }
    assert_eq!(cluster.get(&format!("{DEPLOYMENTS}/d")).await.expect(200), before);
    let nameless = "{apiVersion: apps/v1, kind: Deployment}";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let answer = cluster.send("PATCH", &format!("{DEPLOYMENTS}/e?fieldManager=a"), &headers, nameless).await;
    answer.refused(400, "BadRequest", "the name of the object (e based on URL) was undeterminable");
}

/// The entries of `metadata.managedFields`: manager, operation, subresource and the fields under `spec` or `status`.
fn owners(object: &Value) -> Vec<(&str, &str, &str, &Value)> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let text = |entry: &'_ Value, key: &str| entry[key].as_str().map(|text| text.to_owned().leak() as &str);
    let mut owners: Vec<_> = entries
        .iter()
        .map(|entry| {
            let fields = entry["fieldsV1"].as_object().unwrap();
            let fields = fields.get("f:status").or(fields.get("f:spec")).unwrap_or(&Value::Null);
            let part = |key| text(entry, key).unwrap_or_default();
            (part("manager"), part("operation"), part("subresource"), fields)
        })
        .collect();
    owners.sort_by_key(|owner| (owner.0, owner.1, owner.2));
    owners
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subresources_have_owners_of_their_own() {
    let cluster = Cluster::start().await;
    let path = format!("{DEPLOYMENTS}/d");
    let config = |spec: Value| json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": spec });
    let mut spec = deployment("d")["spec"].clone();
    spec["replicas"] = 1.into();
    cluster.patch("apply", &format!("{path}?fieldManager=a"), &config(spec.clone())).await.expect(201);
    let scale =
        |replicas: i64| json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "spec": { "replicas": replicas } });
    let refused = cluster.patch("apply", &format!("{path}/scale?fieldManager=s"), &scale(3)).await;
    refused.refused(409, "Conflict", "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    let scaled =
        cluster.patch("apply", &format!("{path}/scale?fieldManager=s&force=true"), &scale(3)).await.expect(200);
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    let refused = cluster.patch("apply", &format!("{path}/scale?fieldManager=s"), &scale(-1)).await;
    refused.refused(422, "Invalid", "must be greater than or equal to 0");
    // Who gave the field up no longer sends it.
    spec.as_object_mut().unwrap().remove("replicas");
    let applied = cluster.patch("apply", &format!("{path}?fieldManager=a"), &config(spec)).await.expect(200);
    assert_eq!(applied["spec"]["replicas"], 3);
    let status = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "status": { "replicas": 2 } });
    let with_status = cluster.patch("apply", &format!("{path}/status?fieldManager=a"), &status).await.expect(200);
    let found = owners(&with_status);
    assert_eq!((found[0].0, found[0].1, found[0].2), ("a", "Apply", ""));
    assert!(found[0].3.get("f:replicas").is_none());
    assert_eq!(found[1], ("a", "Apply", "status", &json!({ "f:replicas": {} })));
    assert_eq!(found[2], ("s", "Apply", "scale", &json!({ "f:replicas": {} })));
    // A dry run says what would be and changes nothing.
    let dry = cluster.patch("apply", &format!("{path}/scale?fieldManager=s&dryRun=All"), &scale(5)).await.expect(200);
    assert_eq!(dry["spec"]["replicas"], 5);
    assert_eq!(cluster.get(&path).await.expect(200), with_status);
}

/// As upstream's `GetResetFields` say: what a kind's status subresource writes, and no more, is its writer's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_a_status_owns_what_of_the_metadata_comes_with_it() {
    let cluster = Cluster::start().await;
    let check = async |path: &str, want: Value| {
        let metadata = json!({ "labels": { "l": "1" }, "annotations": { "a": "1" } });
        let patch = json!({ "metadata": metadata, "spec": { "paused": true } });
        let written = cluster.patch("merge", &format!("{path}/status?fieldManager=w"), &patch).await.expect(200);
        let entries = written["metadata"]["managedFields"].as_array().unwrap();
        let fields = entries.iter().find(|entry| entry["manager"] == "w").map(|entry| entry["fieldsV1"].clone());
        assert_eq!(fields.unwrap_or_default(), want, "{path}");
        for (kind, key) in [("labels", "l"), ("annotations", "a")] {
            let owned = !want["f:metadata"][format!("f:{kind}")].is_null();
            assert_eq!(written["metadata"][kind][key] == "1", owned, "{path}: {kind}");
        }
    };
    let (labels, annotations) = (json!({ ".": {}, "f:l": {} }), json!({ ".": {}, "f:a": {} }));
    cluster.post(DEPLOYMENTS, &deployment("d")).await.expect(201);
    check(&format!("{DEPLOYMENTS}/d"), json!({ "f:metadata": { "f:annotations": annotations } })).await;
    cluster.post(PODS, &pod("p")).await.expect(201);
    check(&format!("{PODS}/p"), json!({ "f:metadata": { "f:annotations": annotations, "f:labels": labels } })).await;
    let nodes = "/api/v1/nodes";
    // Who is the first to own anything is the one who creates it, or applies.
    let taken = json!({ "metadata": { "name": "n", "labels": { "role": "r" } } });
    cluster.post(nodes, &taken).await.expect(201);
    check(&format!("{nodes}/n"), json!({ "f:metadata": { "f:annotations": annotations, "f:labels": { "f:l": {} } } }))
        .await;
    let attachments = "/apis/storage.k8s.io/v1/volumeattachments";
    let spec = json!({ "attacher": "a.example", "nodeName": "n", "source": { "persistentVolumeName": "v" } });
    cluster.post(attachments, &json!({ "metadata": { "name": "va" }, "spec": spec })).await.expect(201);
    check(&format!("{attachments}/va"), Value::Null).await;
}

/// What whoever creates an object owns: all that they sent and its defaults, as upstream notes it; nothing of what admission and the server add.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_creates_an_object_owns_what_they_sent_and_its_defaults() {
    let cluster = Cluster::start().await;
    let check = async |path: &str, object: Value, want: Value| {
        let made = cluster.post(&format!("{path}?fieldManager=m"), &object).await.expect(201);
        let entries = made["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!(entries[0]["fieldsV1"], want, "{path}");
    };
    let container = |more: Value| {
        let mut fields = json!({
            ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
            "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
        });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "k:{\"name\":\"c\"}": fields })
    };
    let pod_spec = |containers: Value, more: Value| {
        let mut fields = json!({
            "f:containers": containers, "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {},
            "f:securityContext": {}, "f:terminationGracePeriodSeconds": {},
        });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields
    };
    let labelled = json!({ "f:labels": { ".": {}, "f:app": {} } });
    let mut d = deployment("d");
    d["metadata"]["labels"] = json!({ "app": "d" });
    d["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{ "name": "E", "value": "v" }]);
    let env = json!({ "f:env": { ".": {}, "k:{\"name\":\"E\"}": { ".": {}, "f:name": {}, "f:value": {} } } });
    check(
        DEPLOYMENTS,
        d,
        json!({ "f:metadata": labelled, "f:spec": {
            "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
            "f:strategy": { "f:rollingUpdate": { ".": {}, "f:maxSurge": {}, "f:maxUnavailable": {} }, "f:type": {} },
            "f:template": { "f:metadata": labelled, "f:spec": pod_spec(container(env), json!({})) },
        } }),
    )
    .await;
    // The ServiceAccount's token and the tolerations are admission's.
    let mut p = pod("p");
    p["metadata"]["labels"] = json!({ "app": "p" });
    check(
        PODS,
        p,
        json!({
            "f:metadata": labelled,
            "f:spec": pod_spec(container(json!({})), json!({ "f:enableServiceLinks": {} })),
        }),
    )
    .await;
    let made = cluster.get(&format!("{PODS}/p")).await.expect(200);
    assert!(made["spec"]["tolerations"].is_array(), "admission adds something");
    // Its addresses are the server's.
    check(
        SERVICES,
        json!({ "metadata": { "name": "s" }, "spec": { "selector": { "app": "d" }, "ports": [{ "port": 80 }] } }),
        json!({ "f:spec": {
            "f:internalTrafficPolicy": {},
            "f:ports": { ".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {
                ".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {},
            } },
            "f:selector": {}, "f:sessionAffinity": {}, "f:type": {},
        } }),
    )
    .await;
}

/// The time of an owner is the time of its last change, by the server's clock; what changes nothing is not written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_have_the_times_of_the_servers_clock() {
    let clock = xebec_clock::Clock::default();
    let cluster = Cluster::by_clock(clock.clone(), |_| {}).await;
    let path = format!("{CONFIG_MAPS}/c?fieldManager=m");
    let made = cluster.post(&format!("{CONFIG_MAPS}?fieldManager=m"), &config_map("c")).await.expect(201);
    clock.advance(std::time::Duration::from_secs(3600));
    let same = cluster.patch("merge", &path, &json!({ "data": { "a": "1" } })).await.expect(200);
    assert_eq!(same, made);
    let now = || xebec_machinery::time::rfc3339(clock.now());
    let before = now();
    let changed = cluster.patch("merge", &path, &json!({ "data": { "a": "2" } })).await.expect(200);
    let entry = &changed["metadata"]["managedFields"][0];
    assert_eq!(entry["fieldsV1"], json!({ "f:data": { ".": {}, "f:a": {} } }));
    let time = entry["time"].as_str().unwrap().to_owned();
    assert!((before..=now()).contains(&time), "{time}");
}

/// A change of owners alone is a change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_a_field_may_give_it_up() {
    let cluster = Cluster::start().await;
    let path = |manager: &str| format!("{CONFIG_MAPS}/c?fieldManager={manager}");
    let config =
        |data: Value| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" }, "data": data });
    let both = json!({ "k": "1", "l": "1" });
    cluster.patch("apply", &path("a"), &config(both.clone())).await.expect(201);
    cluster.patch("apply", &path("b"), &config(both.clone())).await.expect(200);
    let given_up = cluster.patch("apply", &path("a"), &config(json!({ "l": "1" }))).await.expect(200);
    assert_eq!(given_up["data"], both, "b still owns it");
    let read = cluster.get(&format!("{CONFIG_MAPS}/c")).await.expect(200);
    assert_eq!(read, given_up);
    let entries = read["metadata"]["managedFields"].as_array().unwrap();
    let of = |manager: &str| entries.iter().find(|entry| entry["manager"] == manager).unwrap()["fieldsV1"].clone();
    assert_eq!(of("a"), json!({ "f:data": { "f:l": {} } }));
    assert_eq!(of("b"), json!({ "f:data": { "f:k": {}, "f:l": {} } }));
    // Now it is b's alone, and goes when b gives it up too.
    let last = cluster.patch("apply", &path("b"), &config(json!({ "l": "1" }))).await.expect(200);
    assert_eq!(last["data"], json!({ "l": "1" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ownership_can_be_forgotten() {
    let cluster = Cluster::start().await;
    let path = format!("{CONFIG_MAPS}/c?fieldManager=m");
    cluster.post(&format!("{CONFIG_MAPS}?fieldManager=m"), &config_map("c")).await.expect(201);
    let reset = cluster.patch("merge", &path, &json!({ "metadata": { "managedFields": [{}] } })).await.expect(200);
    assert!(reset["metadata"].get("managedFields").is_none());
    // The next apply finds what nobody owns, and says so.
    let config = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" }, "data": { "a": "2" } });
    let refused = cluster.patch("apply", &path, &config).await;
    refused.refused(409, "Conflict", "conflict with \"before-first-apply\" using v1: .data.a");
    cluster.patch("apply", &format!("{path}&force=true"), &config).await.expect(200);
    // What makes no sense is not taken over.
    let nonsense = json!([{ "manager": "x", "operation": "Nonsense", "fieldsType": "FieldsV1", "fieldsV1": {} }]);
    let kept = cluster
        .patch("merge", &path, &json!({ "metadata": { "managedFields": nonsense }, "data": { "a": "3" } }))
        .await;
    let kept = kept.expect(200);
    // The map itself nobody has taken over.
    let known: Vec<_> = owners(&kept).iter().map(|owner| (owner.0, owner.1)).collect();
    assert_eq!(known, [("before-first-apply", "Update"), ("m", "Update")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_makes_nothing_of_another_kind() {
    let cluster = Cluster::start().await;
    let path = format!("{CONFIG_MAPS}/c");
    cluster.post(CONFIG_MAPS, &config_map("c")).await.expect(201);
    // A strategic merge patch is read into the type that the object has.
    let other = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "data": { "x": "1" } });
    let patched = cluster.patch("strategic", &path, &other).await.expect(200);
    assert_eq!(
        (&patched["apiVersion"], &patched["kind"], &patched["data"]["x"]),
        (&json!("v1"), &json!("ConfigMap"), &json!("1"))
    );
    let untyped = cluster.patch("merge", &path, &json!({ "kind": null })).await.expect(200);
    assert_eq!(untyped["kind"], "ConfigMap");
    let cases = [
        ("merge", r#"{"kind":"Pod"}"#, "converting (v1.Pod) to (core.ConfigMap): unknown conversion"),
        (
            "json",
            r#"[{"op":"replace","path":"/kind","value":"Foo"}]"#,
            "no kind \"Foo\" is registered for version \"v1\" in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
        ),
        ("merge", r#"{"apiVersion":"a/b/c"}"#, "unexpected GroupVersion string: a/b/c"),
    ];
    for (kind, patch, why) in cases {
        let answer = cluster.patch(kind, &path, &serde_json::from_str(patch).unwrap()).await;
        assert!(answer.text.contains("patch: Invalid value: "), "{}", answer.text);
        answer.refused(422, "Invalid", why);
    }
    assert_eq!(cluster.get(&path).await.expect(200)["kind"], "ConfigMap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protobuf_bodies_of_other_kinds_are_refused_in_the_same_words() {
    let cluster = Cluster::start().await;
    let post = async |object: Value, kind: &[u8], stands_for: &[u8]| {
        let body = xebec_schema::protobuf::encode(&object).unwrap();
        // The envelope is as long as before.
        let at = body.windows(kind.len()).position(|window| window == kind).unwrap();
        let body = [&body[..at], stands_for, &body[at + kind.len()..]].concat();
        cluster.send("POST", CONFIG_MAPS, &[("content-type", "application/vnd.kubernetes.protobuf")], body).await
    };
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" } });
    post(pod.clone(), b"Pod", b"Pod").await.refused(
        400,
        "BadRequest",
        "Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion",
    );
    post(pod, b"Pod", b"Foo").await.refused(
        400,
        "BadRequest",
        "Foo in version \"v1\" cannot be handled as a ConfigMap: no kind \"Foo\" is registered for version \"v1\" in scheme \
         \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_in_the_server_is_named_as_upstreams_components_are() {
    let cluster = Cluster::start().await;
    let manager = async |user: xebec_apiserver::UserInfo, name: &str| {
        let made = cluster.as_local(user, "POST", CONFIG_MAPS, &config_map(name)).await.expect(201);
        made["metadata"]["managedFields"][0]["manager"].as_str().unwrap_or_default().to_owned()
    };
    let masters: &[&str] = &["system:masters"];
    for (index, (user, expected)) in [
        ("system:serviceaccount:kube-system:replicaset-controller", "kube-controller-manager"),
        ("system:kube-controller-manager", "kube-controller-manager"),
        ("system:kube-scheduler", "kube-scheduler"),
        ("system:apiserver", "kube-apiserver"),
        ("system:serviceaccount:default:x", "unknown"),
    ]
    .into_iter()
    .enumerate()
    {
        let user = xebec_apiserver::UserInfo::new(user, masters);
        assert_eq!(manager(user, &format!("m{index}")).await, expected);
    }
}
