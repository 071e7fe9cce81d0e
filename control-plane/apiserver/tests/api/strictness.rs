//! Fields that a schema does not know, or that come twice, in server-side apply of custom resources.

use serde_json::{Value, json};

use crate::crd::{DEFINITIONS, establish, until};
use crate::harness::Cluster;

const NOXUS: &str = "/apis/mygroup.example.com/v1/noxus";

/// `spec` is its schema; without one anything goes.
async fn define(cluster: &Cluster, spec: Option<Value>) {
    let schema = match spec {
        None => json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }),
        Some(mut spec) => {
            spec["type"] = "object".into();
            spec["properties"]["foo"] = json!({ "type": "string" });
            spec["properties"]["cronSpec"] =
                json!({ "type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$" });
            spec["properties"]["ports"] = json!({ "type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
                "items": { "type": "object", "required": ["containerPort", "protocol"], "properties": {
                    "containerPort": { "type": "integer", "format": "int32" },
                    "name": { "type": "string" }, "protocol": { "type": "string" } } } });
            json!({ "type": "object", "properties": { "spec": spec } })
        }
    };
    establish(
        cluster,
        &json!({ "metadata": { "name": "noxus.mygroup.example.com" }, "spec": {
            "group": "mygroup.example.com", "scope": "Cluster", "names": { "plural": "noxus", "kind": "Noxu" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }],
        } }),
    )
    .await;
}

/// Applies an object with these lines in its root, its metadata and its spec. `expected`: part of the message.
async fn check(spec: Option<Value>, (root, metadata, fields): (&str, &str, &str), expected: Result<(), &str>) {
    let cluster = Cluster::start().await;
    define(&cluster, spec).await;
    let body = format!(
        "\napiVersion: mygroup.example.com/v1\nkind: Noxu\nmetadata:\n  name: mytest\n{metadata}  finalizers:\n  - test-finalizer\n{root}spec:\n{fields}  \
        cronSpec: \"* * * * */5\"\n  ports:\n  - name: x\n    containerPort: 80\n    protocol: TCP"
    );
    let path = format!("{NOXUS}/mytest?fieldManager=field_validation_mgr&fieldValidation=Strict");
    let answer = cluster.send("PATCH", &path, &[("content-type", "application/apply-patch+yaml")], body).await;
    match expected {
        Ok(()) => assert_eq!(answer.expect(201)["spec"]["ports"][0]["containerPort"], 80),
        Err(message) => {
            let said = answer.body["message"].as_str().unwrap_or_default();
            assert!((400..=500).contains(&answer.code) && said.contains(message), "{}", answer.text);
            assert_eq!(cluster.get(&format!("{NOXUS}/mytest")).await.code, 404);
        }
    }
}

/// Conformance: `FieldValidation` of custom resources, in its own words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_is_checked_as_upstream_checks_it() {
    let preserving = || json!({ "x-kubernetes-preserve-unknown-fields": true });
    let mut embedding = preserving();
    embedding["properties"]["template"] = json!({ "type": "object", "x-kubernetes-embedded-resource": true, "properties": {
        "metadata": { "type": "object", "properties": { "name": { "type": "string" } } },
        "spec": { "type": "object" } } });
    check(Some(json!({})), ("", "", "  foo: foo1\n"), Ok(())).await;
    check(None, ("", "", "  unknown: uk1\n"), Ok(())).await;
    let undeclared = ".unknownField: field not declared in schema";
    check(Some(json!({})), ("unknownField: unknown\n", "", "  foo: foo1\n"), Err(undeclared)).await;
    let sub = "  template:\n    apiversion: foo/v1\n    kind: Sub\n    metadata:\n        unknownSubMeta: unknown\n        name: subobject\n";
    let undeclared = ".spec.template.metadata.unknownSubMeta: field not declared in schema";
    check(Some(embedding.clone()), ("", "  unknownMeta: unknown\n", sub), Err(undeclared)).await;
    let undeclared = ".metadata.unknownMeta: field not declared in schema";
    check(Some(embedding), ("", "  unknownMeta: unknown\n", ""), Err(undeclared)).await;
    let twice = "line 11: key \"foo\" already set in map";
    check(Some(preserving()), ("", "", "  unknown: uk1\n  foo: foo1\n  foo: foo2\n"), Err(twice)).await;
}

/// Conformance: "custom resource defaulting for requests and from storage works".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defaults_are_given_to_requests_and_to_what_is_stored() {
    let cluster = Cluster::start().await;
    define(&cluster, Some(json!({}))).await;
    let noxu = |name: &str| json!({ "apiVersion": "mygroup.example.com/v1", "kind": "Noxu", "metadata": { "name": name }, "spec": {} });
    assert_eq!(cluster.post(NOXUS, &noxu("before")).await.expect(201)["spec"], json!({}));
    let definition = format!("{DEFINITIONS}/noxus.mygroup.example.com");
    let at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/foo/default";
    cluster.patch("json", &definition, &json!([{ "op": "add", "path": at, "value": "A" }])).await.expect(200);
    until(|| async { cluster.get(&format!("{NOXUS}/before")).await.expect(200)["spec"]["foo"] == "A" }).await;
    assert_eq!(cluster.post(NOXUS, &noxu("after")).await.expect(201)["spec"], json!({ "foo": "A" }));
    cluster.patch("json", &definition, &json!([{ "op": "replace", "path": at, "value": "B" }])).await.expect(200);
    until(|| async { cluster.get(&format!("{NOXUS}/before")).await.expect(200)["spec"]["foo"] == "B" }).await;
    let after = cluster.get(&format!("{NOXUS}/after")).await.expect(200);
    assert_eq!(after["spec"]["foo"], "A", "what a request was given is stored");
}
