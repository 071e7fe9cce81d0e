//! Custom resources, as clients see them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, request};

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// A namespaced definition of `Widget` with one version, and this schema of `spec`.
pub fn widgets(spec: &Value) -> Value {
    json!({
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"] },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": spec,
                    "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                } } },
                "subresources": { "status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                } },
                "additionalPrinterColumns": [
                    { "name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas" },
                    { "name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1 },
                    { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
                ],
                "selectableFields": [{ "jsonPath": ".spec.color" }],
            }],
        },
    })
}

fn plain_spec() -> Value {
    json!({ "type": "object", "required": ["color"], "properties": {
        "color": { "type": "string" },
        "replicas": { "type": "integer", "minimum": 0, "maximum": 10, "default": 1 },
        "when": { "type": "string", "format": "date-time" },
        "ports": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": { "type": "object", "required": ["name"], "properties": {
                "name": { "type": "string" }, "port": { "x-kubernetes-int-or-string": true } } } },
    }, "x-kubernetes-validations": [
        { "rule": "self.color != 'black'", "message": "too dark" },
        { "rule": "self.replicas >= oldSelf.replicas", "message": "never shrinks", "fieldPath": ".replicas" },
    ] })
}

pub fn widget(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": name }, "spec": spec })
}

pub async fn establish(cluster: &Cluster, definition: &Value) {
    cluster.post(DEFINITIONS, definition).await.expect(201);
    let name = definition["metadata"]["name"].as_str().unwrap();
    until(|| async {
        let stored = cluster.get(&format!("{DEFINITIONS}/{name}")).await.expect(200);
        condition(&stored, "Established") == "True"
    })
    .await;
}

fn condition(definition: &Value, kind: &str) -> String {
    let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|c| c["type"] == kind).map(|c| c["status"].as_str().unwrap_or("").to_owned());
    found.unwrap_or_default()
}

pub async fn until<F: Future<Output = bool>>(attempt: impl Fn() -> F) {
    let done = async {
        while !attempt().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.expect("it comes true");
}

async fn with_widgets() -> Cluster {
    let cluster = Cluster::start().await;
    establish(&cluster, &widgets(&plain_spec())).await;
    cluster
}

/// As client-go's apiextensions client does with `application/vnd.kubernetes.protobuf`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_comes_and_goes_as_protobuf() {
    let cluster = Cluster::start().await;
    let mut sent = widgets(&json!({ "type": "object", "properties": {
        "color": { "type": "string" },
        "tags": { "type": "array", "items": { "type": "string", "minLength": 0 } },
        "limits": { "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } },
        "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    } }));
    sent["apiVersion"] = "apiextensions.k8s.io/v1".into();
    sent["kind"] = "CustomResourceDefinition".into();
    let protobuf = "application/vnd.kubernetes.protobuf";
    let body = xebec_schema::protobuf::encode(&sent).unwrap();
    let schema = |crd: &Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].to_string().replace("0.0", "0");
    let made = cluster.send("POST", DEFINITIONS, &[("content-type", protobuf)], body).await.expect(201);
    assert_eq!(schema(&made), schema(&sent), "nothing is lost on the way in");
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut connection = cluster.connect(Some(("admin", &["system:masters"]))).await;
    let response = connection.send_request(request("GET", &path, &[("accept", protobuf)], "")).await.unwrap();
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let got = xebec_schema::protobuf::decode(&bytes).unwrap();
    assert_eq!(schema(&got), schema(&sent), "nor on the way out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_defaulted_pruned_and_validated() {
    let cluster = with_widgets().await;
    let made = cluster.post(WIDGETS, &widget("a", &json!({ "color": "red", "extra": 1 }))).await.expect(201);
    assert_eq!(made["spec"], json!({ "color": "red", "replicas": 1 }));
    assert_eq!(made["metadata"]["generation"], 1);
    let refuse = async |spec: Value, message: &str| {
        cluster.post(WIDGETS, &widget("bad", &spec)).await.refused(422, "Invalid", message);
    };
    refuse(json!({}), "spec.color: Required value").await;
    let high = "spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10";
    refuse(json!({ "color": "red", "replicas": 11 }), high).await;
    let text = "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"";
    refuse(json!({ "color": "red", "replicas": "1" }), text).await;
    refuse(json!({ "color": "red", "when": "now" }), "spec.when in body must be of type date-time: \"now\"").await;
    refuse(json!({ "color": "black" }), "spec: Invalid value: too dark").await;
    let twice = json!({ "color": "red", "ports": [{ "name": "x" }, { "name": "x" }] });
    refuse(twice, "spec.ports[1]: Duplicate value: {\"name\":\"x\"}").await;
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let unknown = cluster.post(&strict, &widget("b", &json!({ "color": "red", "extra": 1 }))).await;
    unknown.refused(400, "BadRequest", "strict decoding error: unknown field \"spec.extra\"");
    let extra = widget("b", &json!({ "color": "red", "x": 1 }));
    let warned = cluster.post(&format!("{WIDGETS}?fieldValidation=Warn"), &extra).await;
    let warning = warned.headers["warning"].to_str().unwrap().to_owned();
    assert!(warning.contains("unknown field \\\"spec.x\\\""), "{warning}");
}

/// `expected`: part of the error, or of the warning.
async fn check_unknown(cluster: &Cluster, kind: &str, mode: &str, patch: Value, expected: Result<&str, &str>) {
    let answer = cluster.patch(kind, &format!("{WIDGETS}/a?fieldValidation={mode}"), &patch).await;
    match expected {
        Err(message) => answer.refused(422, "Invalid", message),
        Ok(warned) => {
            let warning = answer.headers.get("warning").map_or("", |text| text.to_str().unwrap()).to_owned();
            assert!(warning.contains(warned) && warning.is_empty() == warned.is_empty(), "{mode}: {warning}");
            assert!(answer.expect(200)["spec"].get("x").is_none(), "{mode}: unknown fields are pruned");
        }
    }
}

/// `kubectl apply` of a custom resource is a merge patch with `fieldValidation=Strict`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_are_validated_as_far_as_asked_for() {
    let cluster = with_widgets().await;
    cluster.post(WIDGETS, &widget("a", &json!({ "color": "red" }))).await.expect(201);
    let strict = Err("strict decoding error: unknown field \"spec.x\"");
    let merge = json!({ "spec": { "x": 1 } });
    check_unknown(&cluster, "merge", "Strict", merge.clone(), strict).await;
    check_unknown(&cluster, "merge", "Warn", merge.clone(), Ok("unknown field")).await;
    check_unknown(&cluster, "merge", "Ignore", merge, Ok("")).await;
    let json = json!([{ "op": "add", "path": "/spec/x", "value": 1 }]);
    check_unknown(&cluster, "json", "Strict", json, strict).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_other_kinds_are_refused_in_upstreams_words() {
    let cluster = with_widgets().await;
    let spec = json!({ "color": "red" });
    let of = |api_version: &str, kind: &str| {
        let mut object = widget("a", &spec);
        (object["apiVersion"], object["kind"]) = (api_version.into(), kind.into());
        object
    };
    let pod = cluster.post(WIDGETS, &of("v1", "Pod")).await;
    let foreign = "/v1, Kind=Pod is unstructured and is not suitable for converting to \"example.com/v1\"";
    pod.refused(400, "BadRequest", &format!("Pod in version \"v1\" cannot be handled as a Widget: {foreign}"));
    let version = cluster.post(WIDGETS, &of("example.com/v9", "Widget")).await;
    let other = "the API version in the data (example.com/v9) does not match the expected API version (example.com/v1)";
    version.refused(400, "BadRequest", other);
    let kind = "Widget.example.com \"a\" is invalid: kind: Invalid value: \"Gadget\": must be Widget";
    cluster.post(WIDGETS, &of("example.com/v1", "Gadget")).await.refused(422, "Invalid", kind);
    let no_version = "/, Kind=Widget is unstructured and is not suitable for converting to \"example.com/v1\"";
    cluster.post(WIDGETS, &of("", "Widget")).await.refused(400, "BadRequest", no_version);
    cluster.post(WIDGETS, &of("example.com/v1", "Widget")).await.expect(201);
    let path = format!("{WIDGETS}/a");
    let mut untyped = widget("a", &spec);
    untyped.as_object_mut().unwrap().remove("kind");
    let no_kind = "the object provided is unrecognized (must be of type Widget): Object 'Kind' is missing in '{";
    cluster.post(WIDGETS, &untyped).await.refused(400, "BadRequest", no_kind);
    cluster.put(&path, &untyped).await.refused(400, "BadRequest", no_kind);
    cluster.patch("merge", &path, &json!({ "kind": "Gadget" })).await.refused(422, "Invalid", kind);
    cluster.patch("merge", &path, &json!({ "kind": null })).await.refused(
        422,
        "Invalid",
        "Object 'Kind' is missing in '{",
    );
    let foreign = "/v1, Kind=Widget is unstructured and is not suitable for converting to \"example.com/v1\"";
    cluster.patch("merge", &path, &json!({ "apiVersion": "v1" })).await.refused(422, "Invalid", foreign);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_compare_with_what_was() {
    let cluster = with_widgets().await;
    let path = format!("{WIDGETS}/a");
    cluster.post(WIDGETS, &widget("a", &json!({ "color": "red", "replicas": 3 }))).await.expect(201);
    let shrunk = cluster.patch("merge", &path, &json!({ "spec": { "replicas": 2 } })).await;
    shrunk.refused(422, "Invalid", "spec.replicas: Invalid value: never shrinks");
    let grown = cluster.patch("json", &path, &json!([{ "op": "replace", "path": "/spec/replicas", "value": 4 }])).await;
    assert_eq!(grown.expect(200)["metadata"]["generation"], 2);
    let refused = cluster.patch("strategic", &path, &json!({ "spec": {} })).await;
    refused.refused(415, "UnsupportedMediaType", "the body of the request was in an unknown format");
    let unpinned = cluster.put(&path, &widget("a", &json!({ "color": "red", "replicas": 4 }))).await;
    unpinned.refused(422, "Invalid", "metadata.resourceVersion: Invalid value: 0: must be specified for an update");
    // The schema becomes stricter; what does not change is let be, what changes is not.
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    let limit = json!([{ "op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/color/maxLength", "value": 2 }]);
    cluster.patch("json", &definition, &limit).await.expect(200);
    until(|| async {
        let refused = cluster.post(WIDGETS, &widget("long", &json!({ "color": "green" }))).await;
        refused.code == 422
    })
    .await;
    cluster.patch("merge", &path, &json!({ "spec": { "replicas": 5 } })).await.expect(200);
    let changed = cluster.patch("merge", &path, &json!({ "spec": { "color": "blue" } })).await;
    changed.refused(422, "Invalid", "spec.color: Too long: may not be more than 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_and_scale_have_paths_of_their_own() {
    let cluster = with_widgets().await;
    let mut sent = widget("a", &json!({ "color": "red" }));
    sent["status"] = json!({ "replicas": 9 });
    let made = cluster.post(WIDGETS, &sent).await.expect(201);
    assert_eq!(made.get("status"), None);
    let status = json!({ "status": { "replicas": 2, "selector": "a=b" }, "spec": { "replicas": 9 } });
    let written = cluster.patch("merge", &format!("{WIDGETS}/a/status"), &status).await.expect(200);
    assert_eq!((&written["spec"]["replicas"], &written["status"]["replicas"]), (&json!(1), &json!(2)));
    assert_eq!(written["metadata"]["generation"], 1);
    let mut scale = cluster.get(&format!("{WIDGETS}/a/scale")).await.expect(200);
    assert_eq!(scale["spec"], json!({ "replicas": 1 }));
    assert_eq!(scale["status"], json!({ "replicas": 2, "selector": "a=b" }));
    scale["spec"]["replicas"] = 4.into();
    assert_eq!(cluster.put(&format!("{WIDGETS}/a/scale"), &scale).await.expect(200)["spec"]["replicas"], 4);
    let scaled = cluster.get(&format!("{WIDGETS}/a")).await.expect(200);
    assert_eq!((&scaled["spec"]["replicas"], &scaled["metadata"]["generation"]), (&json!(4), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_select_print_and_survive_a_restart() {
    let cluster = with_widgets().await;
    for (name, color) in [("a", "red"), ("b", "blue")] {
        cluster.post(WIDGETS, &widget(name, &json!({ "color": color }))).await.expect(201);
    }
    let selected = format!("{WIDGETS}?fieldSelector=spec.color%3Dblue");
    let cluster = cluster.restart().await;
    let list = cluster.get(&selected).await.expect(200);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("WidgetList"), &json!("example.com/v1")));
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&list), ["b"]);
    let unknown = cluster.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D1")).await;
    unknown.refused(400, "BadRequest", "field label not supported: spec.size");
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = cluster.send("GET", WIDGETS, &accept, "").await.expect(200);
    let columns: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Replicas", "Color", "Age"]);
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..3], [json!("a"), json!(1), json!("red")]);
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf")];
    assert_eq!(cluster.send("GET", WIDGETS, &protobuf, "").await.code, 406);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_side_apply_knows_the_keys_of_lists() {
    let cluster = with_widgets().await;
    let path = |manager: &str| format!("{WIDGETS}/a?fieldManager={manager}");
    let one = widget("a", &json!({ "color": "red", "ports": [{ "name": "x", "port": 1 }] }));
    cluster.patch("apply", &path("one"), &one).await.expect(201);
    let two = widget("a", &json!({ "color": "red", "ports": [{ "name": "y", "port": "http" }] }));
    let merged = cluster.patch("apply", &path("two"), &two).await.expect(200);
    assert_eq!(merged["spec"]["ports"], json!([{ "name": "x", "port": 1 }, { "name": "y", "port": "http" }]));
    let three = widget("a", &json!({ "color": "red", "ports": [{ "name": "x", "port": 2 }] }));
    cluster.patch("apply", &path("three"), &three).await.refused(409, "Conflict", ".spec.ports[name=\"x\"].port");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_and_deletion_follow_the_definition() {
    let cluster = with_widgets().await;
    let listed = cluster.get("/apis/example.com/v1").await.expect(200);
    let names: Vec<&str> =
        listed["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["widgets", "widgets/scale", "widgets/status"]);
    assert_eq!(listed["resources"][0]["shortNames"], json!(["wd"]));
    cluster.post(WIDGETS, &widget("a", &json!({ "color": "red" }))).await.expect(201);
    let mut held = widget("held", &json!({ "color": "red" }));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.post(WIDGETS, &held).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    cluster.delete(&path, &Value::Null).await.expect(200);
    until(|| async { cluster.get(&format!("{WIDGETS}/a")).await.code == 404 }).await;
    let stored = cluster.get(&path).await.expect(200);
    assert_eq!(condition(&stored, "Terminating"), "True");
    let refused = cluster.post(WIDGETS, &widget("new", &json!({ "color": "red" }))).await;
    refused.refused(405, "MethodNotAllowed", "create not allowed while custom resource definition is terminating");
    cluster
        .patch("merge", &format!("{WIDGETS}/held"), &json!({ "metadata": { "finalizers": null } }))
        .await
        .expect(200);
    until(|| async { cluster.get(&path).await.code == 404 }).await;
    until(|| async { cluster.get(WIDGETS).await.code == 404 && cluster.get("/apis/example.com").await.code == 404 })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_differ_in_name_only() {
    let cluster = Cluster::start().await;
    let mut definition = widgets(&plain_spec());
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    establish(&cluster, &definition).await;
    let v2 = WIDGETS.replace("/v1/", "/v2/");
    let mut sent = widget("a", &json!({ "color": "red" }));
    sent["apiVersion"] = "example.com/v2".into();
    assert_eq!(cluster.post(&v2, &sent).await.expect(201)["apiVersion"], "example.com/v2");
    assert_eq!(cluster.get(&format!("{WIDGETS}/a")).await.expect(200)["apiVersion"], "example.com/v1");
    assert_eq!(cluster.get(&v2).await.expect(200)["items"][0]["apiVersion"], "example.com/v2");
    let group = cluster.get("/apis/example.com").await.expect(200);
    assert_eq!(group["preferredVersion"]["version"], "v2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_belong_to_whoever_came_first() {
    let cluster = with_widgets().await;
    let mut rival = widgets(&plain_spec());
    rival["metadata"]["name"] = "gadgets.example.com".into();
    rival["spec"]["names"] = json!({ "plural": "gadgets", "kind": "Widget" });
    cluster.post(DEFINITIONS, &rival).await.expect(201);
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    until(|| async { condition(&cluster.get(&path).await.expect(200), "NamesAccepted") == "False" }).await;
    let stored = cluster.get(&path).await.expect(200);
    assert_eq!(condition(&stored, "Established"), "False");
    cluster.delete(&format!("{DEFINITIONS}/widgets.example.com"), &Value::Null).await.expect(200);
    until(|| async { condition(&cluster.get(&path).await.expect(200), "Established") == "True" }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_are_published() {
    let cluster = with_widgets().await;
    let index = cluster.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = cluster.get(&url).await.expect(200);
    let widget = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(widget["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
    assert_eq!(widget["properties"]["spec"]["properties"]["replicas"]["maximum"], 10);
    let create = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets"]["post"];
    assert_eq!(create["x-kubernetes-group-version-kind"]["kind"], "Widget");
    // kubectl apply asks here which patches it may send.
    let patch = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
    let kinds: Vec<&String> = patch["requestBody"]["content"].as_object().unwrap().keys().collect();
    assert_eq!(kinds, ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]);
    let v2 = cluster.get("/openapi/v2").await.expect(200);
    assert_eq!(
        v2["definitions"]["com.example.v1.Widget"]["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let unserved = json!([{ "op": "replace", "path": "/spec/versions/0/served", "value": false }]);
    cluster.patch("json", &path, &unserved).await.expect(200);
    until(|| async {
        let document = cluster.get("/openapi/v2").await.expect(200);
        document["definitions"].get("com.example.v1.Widget").is_none()
    })
    .await;
    assert_eq!(cluster.get("/openapi/v3/apis/example.com/v1").await.code, 404);
}

/// Conformance: "watch on custom resource definition objects".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_watch_tells_of_the_object_that_it_names() {
    let cluster = with_widgets().await;
    let mut watches = Vec::new();
    for name in ["a", "b"] {
        let query = format!("fieldSelector=metadata.name%3D{name}");
        watches.push(crate::watches::Watch::over(&cluster, WIDGETS, &query, "").await);
    }
    for name in ["a", "b"] {
        cluster.post(WIDGETS, &widget(name, &json!({ "color": "red" }))).await.expect(201);
        cluster.patch("merge", &format!("{WIDGETS}/{name}"), &json!({ "spec": { "color": "blue" } })).await.expect(200);
        cluster.delete(&format!("{WIDGETS}/{name}"), &Value::Null).await.expect(200);
    }
    for (name, watch) in ["a", "b"].into_iter().zip(&mut watches) {
        for event in ["ADDED", "MODIFIED", "DELETED"] {
            watch.expect(&format!("{event} {name}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_tell_of_objects_and_end_with_their_schema() {
    use http_body_util::BodyExt;
    let cluster = with_widgets().await;
    cluster.post(WIDGETS, &widget("a", &json!({ "color": "red" }))).await.expect(201);
    let path = format!(
        "{WIDGETS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let response = cluster.open(crate::harness::request("GET", &path, &[], "")).await;
    let mut body = response.into_body();
    let mut text = String::new();
    while !text.contains("initial-events-end") {
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
    }
    assert!(text.contains("\"name\":\"a\""), "{text}");
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    cluster.delete(&definition, &Value::Null).await.expect(200);
    let ended = tokio::time::timeout(Duration::from_secs(20), body.collect()).await;
    ended.expect("the watch ends").unwrap();
}
