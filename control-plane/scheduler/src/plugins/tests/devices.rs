//! DynamicResources: claims of devices.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xebec_client::Change;

use super::decide;
use crate::cluster::tests::{cluster, pod};
use crate::cluster::{Assigned, Assignment, Cluster};
use crate::plugins::dynamic_resources;

const DRIVER: &str = "gpu.example.com";

fn change<K: DeserializeOwned>(object: &Value) -> Change<K> {
    Change { old: None, new: Some(Arc::new(serde_json::from_value(object.clone()).unwrap())) }
}

/// Nodes `a` and `b`; a class; a device on `b`; claims.
fn stored(claims: &[Value]) -> Cluster {
    let mut cluster = cluster(&[("a", json!({})), ("b", json!({}))], &[]);
    let class = json!({"metadata": {"name": "gpu"}, "spec": {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}});
    let pool = json!({"name": "b", "generation": 1, "resourceSliceCount": 1});
    let slice = json!({"metadata": {"name": "b"}, "spec": {"driver": DRIVER, "nodeName": "b", "pool": pool, "devices": [{"name": "gpu-0"}]}});
    cluster.devices_mut().learn_class(&change(&class));
    cluster.devices_mut().learn_slice(&change(&slice));
    claims.iter().for_each(|claim| cluster.devices_mut().learn_claim(&change(claim)));
    cluster
}

fn claim(name: &str, more: Value) -> Value {
    let request =
        json!({"name": "r", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}});
    let mut claim = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1"},
        "spec": {"devices": {"requests": [request]}}});
    merge(&mut claim, more);
    claim
}

/// RFC 7396 without nulls.
fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            patch.into_iter().for_each(|(key, value)| merge(target.entry(key).or_insert(Value::Null), value));
        }
        (target, patch) => *target = patch,
    }
}

fn allocated(device: &str, reserved_for: &[&str]) -> Value {
    let results = json!([{"request": "r", "driver": DRIVER, "pool": "b", "device": device}]);
    let field = json!({"key": "metadata.name", "operator": "In", "values": ["b"]});
    let nodes = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    let consumers: Vec<Value> =
        reserved_for.iter().map(|uid| json!({"resource": "pods", "name": "p", "uid": uid})).collect();
    json!({"status": {"allocation": {"devices": {"results": results}, "nodeSelector": nodes}, "reservedFor": consumers}})
}

fn uses(names: &[&str]) -> Value {
    let claims: Vec<Value> = names.iter().map(|name| json!({"name": name, "resourceClaimName": name})).collect();
    json!({"spec": {"resourceClaims": claims}})
}

#[track_caller]
fn check(claims: &[Value], incoming: Value, expected: &str) {
    assert_eq!(decide(&mut stored(claims), incoming), expected);
}

#[test]
fn a_pod_goes_where_its_claims_get_devices() {
    check(&[claim("c", json!({}))], uses(&["c"]), "b");
    check(
        &[claim("c", json!({})), claim("d", json!({}))],
        uses(&["c", "d"]),
        "0/2 nodes are available: 2 cannot allocate all claims.",
    );
    let taken = claim("other", allocated("gpu-0", &["x"]));
    check(&[claim("c", json!({})), taken], uses(&["c"]), "0/2 nodes are available: 2 cannot allocate all claims.");
    // Two entries of one claim are one claim.
    let twice = json!({"spec": {"resourceClaims": [{"name": "x", "resourceClaimName": "c"}, {"name": "y", "resourceClaimName": "c"}]}});
    check(&[claim("c", json!({}))], twice, "b");
}

#[test]
fn a_pod_goes_where_its_claims_have_devices() {
    check(&[claim("c", allocated("gpu-0", &["x"]))], uses(&["c"]), "b");
    let mut cluster = stored(&[claim("c", allocated("gpu-0", &[]))]);
    cluster.remove_node("b");
    let why = "0/1 nodes are available: 1 resourceclaim not available on the node.";
    assert_eq!(decide(&mut cluster, uses(&["c"])), why);
    let consumers: Vec<String> = (0..256).map(|n| n.to_string()).collect();
    let consumers: Vec<&str> = consumers.iter().map(String::as_str).collect();
    let full = claim("c", allocated("gpu-0", &consumers));
    check(&[full], uses(&["c"]), "0/2 nodes are available: resourceclaim in use.");
}

#[test]
fn a_pod_waits_for_its_claims() {
    let generated = |status: Value| json!({"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}, "status": {"resourceClaimStatuses": status}});
    let waits = "0/2 nodes are available: pod \"default/incoming\": ResourceClaim not created yet.";
    check(&[], generated(json!([])), waits);
    check(&[], uses(&["c"]), "0/2 nodes are available: resourceclaim \"c\" not found.");
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    check(&[claim("c", deleted)], uses(&["c"]), "0/2 nodes are available: resourceclaim \"c\" is being deleted.");
    let told = generated(json!([{"name": "gpu", "resourceClaimName": "c"}]));
    check(
        &[claim("c", json!({}))],
        told.clone(),
        "0/2 nodes are available: ResourceClaim default/c was not created for Pod default/incoming (Pod is not owner).",
    );
    let uid = Cluster::compile(&pod("incoming", json!({}))).uid.to_string();
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "incoming", "uid": uid, "controller": true});
    check(&[claim("c", json!({"metadata": {"ownerReferences": [owner]}}))], told, "b");
    let unknown = json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "nic"}}]}}});
    check(&[claim("c", unknown)], uses(&["c"]), "0/2 nodes are available: request r: device class nic does not exist.");
}

#[test]
fn devices_of_a_pod_that_is_about_to_be_bound_are_not_given_twice() {
    let mut cluster = stored(&[claim("c", json!({})), claim("d", json!({}))]);
    let first = Cluster::compile(&pod("first", uses(&["c"])));
    let plan = |cluster: &Cluster, pod: &crate::cluster::PodInfo| -> Option<Assignment> {
        let node = cluster.find_node("b").unwrap();
        dynamic_resources::pre_filter(pod, cluster).unwrap()?.plan(cluster.node(node))
    };
    let assignment = plan(&cluster, &first).unwrap();
    let [Assigned { allocation: Some(allocation), .. }] = &assignment.claims[..] else { panic!("{assignment:?}") };
    assert_eq!(allocation.devices.as_ref().unwrap().results.as_ref().unwrap()[0].device, "gpu-0");
    cluster.devices_mut().assume(first.uid.clone(), assignment);
    assert_eq!(decide(&mut cluster, uses(&["d"])), "0/2 nodes are available: 2 cannot allocate all claims.");
    let pending = "0/2 nodes are available: resource claim default/c is in the process of being allocated.";
    assert_eq!(decide(&mut cluster, uses(&["c"])), pending);
    // The write failed: the device is free.
    assert!(cluster.devices_mut().forget(&first.uid));
    assert_eq!(decide(&mut cluster, uses(&["d"])), "b");
    // Or it is known to be written before the watch shows it, and what the watch shows late changes nothing.
    let mut written = claim("c", allocated("gpu-0", &[&first.uid]));
    written["metadata"]["resourceVersion"] = json!("5");
    cluster.devices_mut().learn_claim(&change(&written));
    cluster.devices_mut().learn_claim(&change(&claim("c", json!({}))));
    assert_eq!(decide(&mut cluster, uses(&["d"])), "0/2 nodes are available: 2 cannot allocate all claims.");
    assert_eq!(plan(&cluster, &first).unwrap().claims, [], "nothing is left to write");
}

#[test]
fn a_claim_that_only_the_pod_uses_may_move() {
    let find = |claim: Value| {
        let incoming = Cluster::compile(&pod("incoming", uses(&["c"])));
        dynamic_resources::post_filter(&incoming, &stored(&[claim])).is_some()
    };
    let uid = Cluster::compile(&pod("incoming", json!({}))).uid.to_string();
    assert!(find(claim("c", allocated("gpu-0", &[]))));
    assert!(find(claim("c", allocated("gpu-0", &[&uid]))));
    assert!(!find(claim("c", allocated("gpu-0", &[&uid, "other"]))));
    assert!(!find(claim("c", json!({}))));
}
