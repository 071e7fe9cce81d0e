mod storage;

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::GroupResource;

use crate::strategy::{Context, Strategy};
use crate::{UserInfo, duration, strategy};

fn context() -> Context {
    Context { user: UserInfo::default(), now: OffsetDateTime::UNIX_EPOCH }
}

fn of(resource: &str) -> &'static dyn Strategy {
    strategy(&GroupResource::new(if resource == "leases" { "coordination.k8s.io" } else { "" }, resource))
}

fn object(resource: &str, fields: Value) -> Value {
    let mut object = fields;
    let namespaced = !["nodes", "namespaces"].contains(&resource);
    crate::value::default(&mut object, "metadata", json!({"name": "x", "resourceVersion": "1"}));
    if namespaced {
        object["metadata"]["namespace"] = json!("n");
    }
    of(resource).default(&mut object);
    object
}

fn messages(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(resource: &str, fields: Value, expected: &[&str]) {
    assert_eq!(messages(of(resource).validate(&object(resource, fields))), expected);
}

#[track_caller]
fn check_update(resource: &str, new: Value, old: Value, expected: &[&str]) {
    let errors = of(resource).validate_update(&object(resource, new), &object(resource, old));
    assert_eq!(messages(errors), expected);
}

/// The cells between the name and the age.
#[track_caller]
fn check_row(resource: &str, fields: Value, expected: &[Value]) {
    let strategy = of(resource);
    let cells = strategy.row(&object(resource, fields), duration::parse("2026-01-01T00:01:00Z").expect("a time"));
    assert_eq!(cells.len(), strategy.columns().len());
    assert_eq!(cells[1..=expected.len()], *expected);
}

#[test]
fn config_maps_have_keys_and_a_size() {
    check("configmaps", json!({"data": {"a.b": "c"}, "binaryData": {"d": "AA=="}}), &[]);
    check(
        "configmaps",
        json!({"data": {"a b": ""}}),
        &[
            "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
    check(
        "configmaps",
        json!({"data": {"a": ""}, "binaryData": {"a": ""}}),
        &["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"],
    );
    check(
        "configmaps",
        json!({"data": {"a": "x".repeat((1 << 20) + 1)}}),
        &["[]: Too long: may not be more than 1048576 bytes"],
    );
    check_row("configmaps", json!({"data": {"a": "", "b": ""}, "binaryData": {"c": ""}}), &[json!(3)]);
}

#[test]
fn what_is_immutable_stays() {
    let old = json!({"immutable": true, "data": {"a": "AA=="}});
    for resource in ["configmaps", "secrets"] {
        check_update(resource, old.clone(), old.clone(), &[]);
        check_update(
            resource,
            json!({"data": {"a": "AQ=="}}),
            old.clone(),
            &[
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ],
        );
    }
    check_update("secrets", json!({"type": "a/b"}), json!({}), &["type: Invalid value: \"a/b\": field is immutable"]);
}

#[test]
fn secrets_have_what_their_type_needs() {
    check("secrets", json!({"data": {"a": "AA=="}}), &[]);
    check(
        "secrets",
        json!({"type": "kubernetes.io/tls"}),
        &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
    );
    check("secrets", json!({"type": "kubernetes.io/dockerconfigjson"}), &["data[.dockerconfigjson]: Required value"]);
    check(
        "secrets",
        json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "ew=="}}),
        &["data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": unexpected end of JSON input"],
    );
    check("secrets", json!({"type": "kubernetes.io/ssh-auth"}), &["data[ssh-privatekey]: Required value"]);
    check(
        "secrets",
        json!({"type": "kubernetes.io/service-account-token"}),
        &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
    );
    let mut secret = object("secrets", json!({"data": {"a": "AA=="}, "stringData": {"b": "c"}}));
    of("secrets").prepare_for_create(&context(), &mut secret);
    assert_eq!(secret["data"], json!({"a": "AA==", "b": "Yw=="}));
    assert_eq!(secret.get("stringData"), None);
    assert_eq!(secret["type"], "Opaque");
}

#[test]
fn a_namespace_ends_when_its_finalizers_are_gone() {
    let strategy = of("namespaces");
    let mut namespace = object("namespaces", json!({}));
    strategy.prepare_for_create(&context(), &mut namespace);
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "x");
    assert!(strategy.is_finalizing(&namespace));
    strategy.prepare_for_deletion(&context(), &mut namespace);
    assert_eq!(namespace["status"]["phase"], "Terminating");
    let mut finalized = namespace.clone();
    finalized["spec"] = json!({});
    super::namespace::prepare_for_finalize(&mut finalized, &namespace);
    assert_eq!(messages(super::namespace::validate_finalize(&finalized, &namespace)), [] as [&str; 0]);
    assert!(!strategy.is_finalizing(&finalized));
    let mut edited = finalized.clone();
    strategy.prepare_for_update(&context(), &mut edited, &namespace);
    assert_eq!(edited["spec"], namespace["spec"]);
}

#[test]
fn nodes_change_taints_and_little_else() {
    check("nodes", json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}), &[]);
    check(
        "nodes",
        json!({"spec": {"taints": [{"key": "a", "effect": "x"}, {"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]}}),
        &[
            "metadata.taints[0].effect: Unsupported value: \"x\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            "metadata.taints[2]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair",
        ],
    );
    check_update("nodes", json!({"spec": {"podCIDR": "10.1.0.0/24", "unschedulable": true}}), json!({}), &[]);
    check_update(
        "nodes",
        json!({"spec": {"podCIDR": "10.1.1.0/24"}}),
        json!({"spec": {"podCIDR": "10.1.0.0/24"}}),
        &["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"],
    );
    let node = |conditions: Value, unschedulable: bool| json!({"status": {"conditions": conditions}, "spec": {"unschedulable": unschedulable}});
    check_row("nodes", node(json!([]), false), &[json!("Unknown"), json!("<none>")]);
    check_row("nodes", node(json!([{"type": "Ready", "status": "True"}]), true), &[json!("Ready,SchedulingDisabled")]);
    check_row("nodes", node(json!([{"type": "Ready", "status": "Unknown"}]), false), &[json!("NotReady")]);
    let labels = json!({"name": "x", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}});
    check_row("nodes", json!({"metadata": labels}), &[json!("Unknown"), json!("control-plane,worker")]);
}

#[test]
fn events_belong_where_their_object_is() {
    check("events", json!({"involvedObject": {"namespace": "n"}}), &[]);
    check(
        "events",
        json!({"involvedObject": {"namespace": "m"}}),
        &["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"],
    );
    let event = json!({
        "type": "Warning", "reason": "BackOff", "message": " back off ", "count": 3,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:50Z",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "n"}, "source": {"component": "kubelet", "host": "h"},
    });
    let cells = of("events").row(&object("events", event), duration::parse("2026-01-01T00:01:00Z").expect("a time"));
    assert_eq!(
        cells,
        ["10s", "Warning", "BackOff", "pod/p", "", "kubelet, h", "back off", "60s", "3", "x"].map(|cell| json!(cell))
    );
}

#[test]
fn leases_last() {
    check("leases", json!({"spec": {"leaseDurationSeconds": 40}}), &[]);
    check(
        "leases",
        json!({"spec": {"leaseDurationSeconds": 0}}),
        &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
    );
    check_row("leases", json!({"spec": {"holderIdentity": "h"}}), &[json!("h")]);
}
