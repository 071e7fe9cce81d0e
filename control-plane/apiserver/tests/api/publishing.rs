//! What is published of custom resources: OpenAPI documents and discovery follow their definitions.

use serde_json::{Value, json};

use crate::crd::{DEFINITIONS, establish, until};
use crate::harness::Cluster;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Versions by name, each with its schema; the first is the one that is stored.
fn definition(group: &str, kind: &str, versions: &[(&str, &Value)]) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    let version = |(at, (name, schema)): (usize, &(&str, &Value))| json!({ "name": name, "served": true, "storage": at == 0, "schema": { "openAPIV3Schema": schema } });
    json!({ "metadata": { "name": format!("{plural}.{group}") }, "spec": {
        "group": group, "scope": "Namespaced", "names": { "plural": plural, "kind": kind },
        "versions": versions.iter().enumerate().map(version).collect::<Vec<_>>(),
    } })
}

fn anything() -> Value {
    json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

fn bars() -> Value {
    json!({ "type": "object", "description": "Foo CRD for Testing", "properties": {
        "spec": { "type": "object", "description": "Specification of Foo", "properties": { "bars": {
            "type": "array", "description": "List of Bars and their specs.", "items": {
                "type": "object", "required": ["name"], "properties": {
                    "name": { "type": "string", "description": "Name of Bar." },
                    "age": { "type": "string", "description": "Age of Bar." },
                    "feeling": { "type": "string", "enum": ["Great", "Down"] },
                },
            },
        } } },
        "status": { "type": "object", "description": "Status of Foo" },
    } })
}

/// The definition in the document that kubectl validates by, without what the server adds to every kind.
async fn published(cluster: &Cluster, name: &str) -> Option<Value> {
    let document = cluster.get("/openapi/v2").await.expect(200);
    let mut found = document["definitions"].get(name)?.clone();
    let fields = found.as_object_mut().unwrap();
    fields.remove("x-kubernetes-group-version-kind");
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|key, _| !["apiVersion", "kind", "metadata"].contains(&key.as_str()));
    }
    if fields.get("properties").is_some_and(|properties| properties == &json!({})) {
        fields.remove("properties");
    }
    Some(found)
}

/// Waits until `name` is published as `expected`, or not at all.
async fn check(cluster: &Cluster, name: &str, expected: Option<&Value>) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let found = published(cluster, name).await;
        if found.as_ref() == expected {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{name}: {found:#?} instead of {expected:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_published_as_it_was_defined() {
    let cluster = Cluster::start().await;
    let embedded = json!({ "type": "object", "properties": {
        "spec": anything(), "status": { "type": "object", "properties": { "bars": { "type": "array", "items": anything() } } },
    } });
    let root = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": { "spec": { "type": "object" } } });
    let unknown = json!({ "b": [{ "c": "d" }] });
    let (at_root, in_spec) = (json!({ "a": unknown }), json!({ "spec": { "a": unknown } }));
    for (kind, schema, kept, refused) in [
        ("Foo", bars(), json!({ "spec": { "bars": [{ "name": "x" }] } }), Some((&in_spec, "spec.a"))),
        ("Empty", anything(), json!({ "a": unknown, "spec": { "a": unknown } }), None),
        ("Root", root, at_root.clone(), Some((&in_spec, "spec.a"))),
        ("Nested", embedded, in_spec.clone(), Some((&at_root, "a"))),
    ] {
        establish(&cluster, &definition("pub.example.com", kind, &[("v1", &schema)])).await;
        // kubectl would refuse what is not as it reads there: where anything goes there are neither properties nor, within, a type.
        let open = json!({ "x-kubernetes-preserve-unknown-fields": true });
        let expected = match kind {
            "Root" => anything(),
            "Nested" => json!({ "type": "object", "properties": {
                "spec": open, "status": { "type": "object", "properties": { "bars": { "type": "array", "items": open } } },
            } }),
            _ => schema,
        };
        check(&cluster, &format!("com.example.pub.v1.{kind}"), Some(&expected)).await;
        let object = |fields: &Value| {
            let mut object = json!({ "apiVersion": "pub.example.com/v1", "kind": kind, "metadata": { "name": "x" } });
            object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            object
        };
        let plural = format!("{}s", kind.to_lowercase());
        let path = format!("/apis/pub.example.com/v1/namespaces/default/{plural}?fieldValidation=Strict");
        if let Some((fields, unknown)) = refused {
            let said = format!("unknown field {unknown:?}");
            cluster.post(&path, &object(fields)).await.refused(400, "BadRequest", &said);
        }
        let made = cluster.post(&path, &object(&kept)).await.expect(201);
        for (field, value) in kept.as_object().unwrap() {
            assert_eq!(&made[field], value, "what the schema lets through is kept");
        }
    }
    let required = json!({ "apiVersion": "pub.example.com/v1", "kind": "Foo", "metadata": { "name": "y" }, "spec": { "bars": [{ "age": "10" }] } });
    let answer = cluster.post("/apis/pub.example.com/v1/namespaces/default/foos", &required).await;
    answer.refused(422, "Invalid", "spec.bars[0].name: Required value");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_published_side_by_side() {
    let cluster = Cluster::start().await;
    let (foo, other) = (bars(), json!({ "type": "object", "properties": { "spec": { "type": "string" } } }));
    establish(&cluster, &definition("one.example.com", "Foo", &[("v1", &foo)])).await;
    establish(&cluster, &definition("two.example.com", "Foo", &[("v1", &other)])).await;
    establish(&cluster, &definition("two.example.com", "Waldo", &[("v1", &foo)])).await;
    establish(&cluster, &definition("three.example.com", "Foo", &[("v2", &foo), ("v3", &other)])).await;
    establish(&cluster, &definition("four.example.com", "Foo", &[("v4", &foo)])).await;
    establish(&cluster, &definition("four.example.com", "Bar", &[("v5", &other)])).await;
    for (name, expected) in [
        ("com.example.one.v1.Foo", &foo),
        ("com.example.two.v1.Foo", &other),
        ("com.example.two.v1.Waldo", &foo),
        ("com.example.three.v2.Foo", &foo),
        ("com.example.three.v3.Foo", &other),
        ("com.example.four.v4.Foo", &foo),
        ("com.example.four.v5.Bar", &other),
    ] {
        check(&cluster, name, Some(expected)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_renamed_or_not_served_is_published_so() {
    let cluster = Cluster::start().await;
    let (foo, other) = (bars(), json!({ "type": "object", "properties": { "spec": { "type": "string" } } }));
    establish(&cluster, &definition("pub.example.com", "Foo", &[("v2", &foo), ("v3", &other)])).await;
    check(&cluster, "com.example.pub.v3.Foo", Some(&other)).await;
    let path = format!("{DEFINITIONS}/foos.pub.example.com");
    let rename = json!([{ "op": "replace", "path": "/spec/versions/1/name", "value": "v4" }]);
    cluster.patch("json", &path, &rename).await.expect(200);
    check(&cluster, "com.example.pub.v4.Foo", Some(&other)).await;
    check(&cluster, "com.example.pub.v3.Foo", None).await;
    check(&cluster, "com.example.pub.v2.Foo", Some(&foo)).await;
    assert_eq!(cluster.get("/apis/pub.example.com/v3/foos").await.code, 404);
    cluster.get("/apis/pub.example.com/v4/foos").await.expect(200);
    let unserved = json!([{ "op": "replace", "path": "/spec/versions/1/served", "value": false }]);
    cluster.patch("json", &path, &unserved).await.expect(200);
    check(&cluster, "com.example.pub.v4.Foo", None).await;
    check(&cluster, "com.example.pub.v2.Foo", Some(&foo)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_appears_in_aggregated_discovery() {
    let cluster = Cluster::start().await;
    establish(&cluster, &definition("found.example.com", "Foo", &[("v1", &anything())])).await;
    until(|| async {
        let document = cluster.send("GET", "/apis", &[("accept", AGGREGATED)], "").await.expect(200);
        let groups = document["items"].as_array().unwrap();
        let group = groups.iter().find(|group| group["metadata"]["name"] == "found.example.com");
        group.is_some_and(|group| {
            let version = &group["versions"][0];
            version["version"] == "v1" && version["resources"][0]["resource"] == "foos"
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_themselves_are_discovered() {
    let cluster = Cluster::start().await;
    let groups = cluster.get("/apis").await.expect(200);
    let version = json!({ "groupVersion": "apiextensions.k8s.io/v1", "version": "v1" });
    let group =
        groups["groups"].as_array().unwrap().iter().find(|group| group["name"] == "apiextensions.k8s.io").cloned();
    assert_eq!(group.unwrap()["versions"], json!([version]));
    let group = cluster.get("/apis/apiextensions.k8s.io").await.expect(200);
    assert_eq!((&group["name"], &group["versions"]), (&json!("apiextensions.k8s.io"), &json!([version])));
    let list = cluster.get("/apis/apiextensions.k8s.io/v1").await.expect(200);
    let names: Vec<_> = list["resources"].as_array().unwrap().iter().map(|resource| resource["name"].clone()).collect();
    assert_eq!(names, ["customresourcedefinitions", "customresourcedefinitions/status"]);
}
