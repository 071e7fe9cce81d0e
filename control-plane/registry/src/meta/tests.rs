use serde_json::json;

use super::*;
use crate::strategy::{Generic, Strategy};

fn messages(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(metadata: Value, expected: &[&str]) {
    assert_eq!(messages(Generic.validate(&json!({"metadata": metadata}))), expected);
}

#[track_caller]
fn check_update(new: Value, old: Value, expected: &[&str]) {
    let complete = |mut metadata: Value| {
        for (field, value) in [("name", "a"), ("namespace", "n"), ("resourceVersion", "1"), ("uid", "u")] {
            crate::value::default(&mut metadata, field, value);
        }
        json!({"metadata": metadata})
    };
    assert_eq!(messages(Generic.validate_update(&complete(new), &complete(old))), expected);
}

#[test]
fn names_are_required_and_valid() {
    check(json!({"name": "a.b", "namespace": "n"}), &[]);
    check(json!({"namespace": "n"}), &["metadata.name: Required value: name or generateName is required"]);
    check(json!({"name": "a"}), &["metadata.namespace: Required value"]);
    check(
        json!({"name": "A", "namespace": "n"}),
        &[
            "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ],
    );
    check(json!({"generateName": "web-", "name": "web-x", "namespace": "n"}), &[]);
    assert_eq!(mask_trailing_dash("web-"), "weba");
}

#[test]
fn labels_and_annotations_are_qualified() {
    check(
        json!({"name": "a", "namespace": "n", "labels": {"a b": "c"}}),
        &[
            "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ],
    );
    check(
        json!({"name": "a", "namespace": "n", "labels": {"a": "-"}}),
        &[
            "metadata.labels: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ],
    );
    let long = "x".repeat(ANNOTATIONS_BYTES_MAX);
    check(
        json!({"name": "a", "namespace": "n", "annotations": {"K/A": long}}),
        &["metadata.annotations: Too long: may not be more than 262144 bytes"],
    );
}

#[test]
fn owners_are_complete_and_one_controls() {
    let owner = |name: &str| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u", "controller": true});
    check(json!({"name": "a", "namespace": "n", "ownerReferences": [owner("x")]}), &[]);
    let two = json!([owner("x"), owner("y")]);
    let expected = format!(
        "metadata.ownerReferences: Invalid value: {two}: Only one reference can have Controller set to true. Found \"true\" in references for ReplicaSet/x and ReplicaSet/y"
    );
    check(json!({"name": "a", "namespace": "n", "ownerReferences": two}), &[&expected]);
    check(
        json!({"name": "a", "namespace": "n", "ownerReferences": [{}]}),
        &[
            "metadata.ownerReferences.apiVersion: Invalid value: \"\": version must not be empty",
            "metadata.ownerReferences.kind: Invalid value: \"\": must not be empty",
            "metadata.ownerReferences.name: Invalid value: \"\": must not be empty",
            "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
        ],
    );
}

#[test]
fn finalizers_are_known_or_qualified() {
    check(json!({"name": "a", "namespace": "n", "finalizers": ["example.com/x", "orphan"]}), &[]);
    check(
        json!({"name": "a", "namespace": "n", "finalizers": ["x"]}),
        &[
            "metadata.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
    check(
        json!({"name": "a", "namespace": "n", "finalizers": ["orphan", "foregroundDeletion"]}),
        &[
            "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and foregroundDeletion cannot be both set",
        ],
    );
}

#[test]
fn an_update_keeps_identity() {
    check_update(json!({}), json!({}), &[]);
    check_update(json!({"uid": "v"}), json!({}), &["metadata.uid: Invalid value: \"v\": field is immutable"]);
    check_update(
        json!({"generation": 1}),
        json!({"generation": 2}),
        &["metadata.generation: Invalid value: 1: must not be decremented"],
    );
    let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    check_update(
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}),
        gone,
        &[
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"a/b\"}",
        ],
    );
}

#[test]
fn selectors_print_as_kubectl_shows_them() {
    let check = |selector: Value, expected: &str| assert_eq!(format_selector(&selector), expected, "{selector}");
    check(Value::Null, "<none>");
    check(json!({}), "<none>");
    check(json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2");
    check(
        json!({"matchExpressions": [{"key": "t", "operator": "NotIn", "values": ["y", "x"]}, {"key": "e", "operator": "Exists"}]}),
        "e,t notin (x,y)",
    );
}
