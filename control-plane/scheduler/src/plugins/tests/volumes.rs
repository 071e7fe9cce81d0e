//! The plugins that look at volumes.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xebec_client::{Change, Key};

use super::decide;
use crate::cluster::tests::{cluster, pod};
use crate::cluster::{Cluster, Plan};
use crate::plugins::volume_binding;

/// Two nodes, in two zones, and what is learned of volumes.
fn stored(claims: &[Value], volumes: &[Value], classes: &[Value]) -> Cluster {
    let zone = |zone: &str| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
    let mut cluster = cluster(&[("a", zone("z1")), ("b", zone("z2"))], &[]);
    for claim in claims {
        cluster.volumes_mut().learn_claim(&added(claim));
    }
    for volume in volumes {
        cluster.volumes_mut().learn_volume(&added(volume));
    }
    for class in classes {
        cluster.volumes_mut().learn_class(&added(class));
    }
    cluster
}

fn added<K: DeserializeOwned>(object: &Value) -> Change<K> {
    Change { old: None, new: Some(Arc::new(serde_json::from_value(object.clone()).unwrap())) }
}

fn claim(name: &str, spec: Value) -> Value {
    let bound = spec["volumeName"].is_string();
    let annotations = if bound { json!({"pv.kubernetes.io/bind-completed": "yes"}) } else { json!({}) };
    let mut claim = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "annotations": annotations},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "late"},
    });
    claim["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    claim
}

fn volume(name: &str, spec: Value) -> Value {
    let mut volume = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "late"},
        "status": {"phase": "Available"},
    });
    volume["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    volume
}

fn on_node(name: &str) -> Value {
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}]}]}})
}

fn late(provisioner: &str) -> Value {
    json!({"metadata": {"name": "late"}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"})
}

fn uses(claims: &[&str]) -> Value {
    let volume = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    json!({"spec": {"volumes": claims.iter().map(volume).collect::<Vec<_>>()}})
}

#[track_caller]
fn check(mut cluster: Cluster, claims: &[&str], expected: &str) {
    assert_eq!(decide(&mut cluster, uses(claims)), expected);
}

/// What binding on the node takes: `claim=volume`, or `claim@node`.
fn plan(cluster: &Cluster, claims: &[&str], node: &str) -> Vec<String> {
    let pod = Cluster::compile(&pod("incoming", uses(claims)));
    let state = volume_binding::pre_filter(&pod, cluster).unwrap().unwrap();
    let Some(plan) = state.plan(cluster.node(cluster.find_node(node).unwrap())) else { return vec!["none".into()] };
    let bindings = plan.bindings.iter().map(|(claim, volume)| format!("{}={volume}", claim.name));
    bindings.chain(plan.provisions.iter().map(|claim| format!("{}@{}", claim.name, plan.node))).collect()
}

const NONE: &str = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.";

#[test]
fn a_claim_that_cannot_be_used_rules_every_node_out() {
    let of_pod = |claim: Value, why: &str| check(stored(&[claim], &[], &[late("p")]), &["c"], why);
    check(stored(&[], &[], &[]), &["c"], "0/2 nodes are available: persistentvolumeclaim \"c\" not found.");
    let mut lost = claim("c", json!({"volumeName": "v"}));
    lost["status"]["phase"] = json!("Lost");
    of_pod(lost, "0/2 nodes are available: persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\".");
    let mut going = claim("c", json!({}));
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    of_pod(going, "0/2 nodes are available: persistentvolumeclaim \"c\" is being deleted.");
    let immediate = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
    of_pod(claim("c", json!({"storageClassName": "other"})), immediate);
    let ephemeral = json!({"spec": {"volumes": [{"name": "v", "ephemeral": {}}]}});
    let waits = "0/2 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim \"incoming-v\".";
    assert_eq!(decide(&mut stored(&[], &[], &[]), ephemeral.clone()), waits);
    let foreign = stored(&[claim("incoming-v", json!({}))], &[], &[]);
    let refused =
        "0/2 nodes are available: PVC default/incoming-v was not created for pod default/incoming (pod is not owner).";
    assert_eq!(decide(&mut { foreign }, ephemeral), refused);
}

#[test]
fn a_bound_volume_is_used_where_it_is() {
    let bound = || claim("c", json!({"volumeName": "v"}));
    check(stored(&[bound()], &[volume("v", json!({"nodeAffinity": on_node("b")}))], &[]), &["c"], "b");
    check(
        stored(&[bound()], &[volume("v", json!({"nodeAffinity": on_node("c")}))], &[]),
        &["c"],
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
    );
    check(
        stored(&[bound()], &[], &[]),
        &["c"],
        "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
    );
}

#[test]
fn a_waiting_claim_gets_a_volume_of_the_node() {
    let by_hand = || [late("kubernetes.io/no-provisioner")];
    let local = |name: &str, node: &str, size: &str| {
        volume(name, json!({"nodeAffinity": on_node(node), "capacity": {"storage": size}}))
    };
    let claims = || [claim("c", json!({})), claim("d", json!({}))];
    let cluster = stored(&claims(), &[local("large", "a", "9Gi"), local("small", "a", "2Gi")], &by_hand());
    assert_eq!(plan(&cluster, &["c"], "a"), ["c=small"]);
    assert_eq!(plan(&cluster, &["c", "d"], "a"), ["c=small", "d=large"]);
    assert_eq!(plan(&cluster, &["c"], "b"), ["none"]);
    check(cluster, &["c"], "a");
    check(stored(&claims(), &[local("v", "c", "2Gi"), local("w", "a", "1Mi")], &by_hand()), &["c"], NONE);
    // One volume cannot serve two claims.
    check(stored(&claims(), &[local("v", "a", "2Gi")], &by_hand()), &["c", "d"], NONE);
    let mut meant = local("meant", "b", "9Gi");
    meant["spec"]["claimRef"] = json!({"namespace": "default", "name": "c"});
    check(stored(&claims(), &[local("small", "a", "2Gi"), meant], &by_hand()), &["c"], "b");
}

#[test]
fn a_volume_that_another_pod_is_about_to_get_is_taken() {
    let volumes = [volume("v", json!({"nodeAffinity": on_node("a")}))];
    let claims = [claim("c", json!({})), claim("d", json!({}))];
    let mut cluster = stored(&claims, &volumes, &[late("kubernetes.io/no-provisioner")]);
    let taken =
        Plan { node: "a".into(), bindings: vec![(Key::new("default", "d"), "v".into())], provisions: Vec::new() };
    cluster.volumes_mut().assume("other".into(), taken);
    assert_eq!(decide(&mut cluster, uses(&["c"])), NONE);
    // A pod that shares the claim shares the volume.
    assert_eq!(plan(&cluster, &["d"], "a"), ["d=v"]);
    assert!(cluster.volumes_mut().forget("other"));
    assert_eq!(decide(&mut cluster, uses(&["c"])), "a");
}

#[test]
fn a_provisioner_makes_what_is_missing_where_its_class_allows() {
    let claims = [claim("c", json!({}))];
    let cluster = stored(&claims, &[], &[late("example.com/p")]);
    assert_eq!(plan(&cluster, &["c"], "a"), ["c@a"]);
    let mut zoned = late("example.com/p");
    zoned["allowedTopologies"] =
        json!([{"matchLabelExpressions": [{"key": "topology.kubernetes.io/zone", "values": ["z2"]}]}]);
    check(stored(&claims, &[], &[zoned]), &["c"], "b");
    let mut selected = claim("c", json!({}));
    selected["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = json!("b");
    check(stored(&[selected], &[], &[late("example.com/p")]), &["c"], "b");
    check(stored(&claims, &[], &[late("kubernetes.io/no-provisioner")]), &["c"], NONE);
}

#[test]
fn a_claim_for_one_pod_serves_one() {
    let once = claim("c", json!({"volumeName": "v", "accessModes": ["ReadWriteOncePod"]}));
    let mut cluster = stored(&[once], &[volume("v", json!({}))], &[]);
    cluster.put_pod(Cluster::compile(&pod("there", uses(&["c"]))), "a", false);
    let taken = "2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
    assert_eq!(decide(&mut cluster, uses(&["c"])), format!("0/2 nodes are available: {taken}."));
    cluster.remove_pod("there");
    assert!(["a", "b"].contains(&&*decide(&mut cluster, uses(&["c"]))));
}

#[test]
fn a_volume_with_a_zone_is_used_there() {
    let mut zoned = volume("v", json!({}));
    let bound = || [claim("c", json!({"volumeName": "v"}))];
    zoned["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z2"});
    check(stored(&bound(), &[zoned.clone()], &[]), &["c"], "b");
    zoned["metadata"]["labels"] = json!({"failure-domain.beta.kubernetes.io/zone": "z9__z2"});
    check(stored(&bound(), &[zoned.clone()], &[]), &["c"], "b");
    zoned["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z9"});
    let nowhere = "0/2 nodes are available: 2 node(s) had no available volume zone.";
    check(stored(&bound(), &[zoned], &[]), &["c"], nowhere);
}

#[test]
fn a_driver_attaches_so_many_volumes() {
    let csi = |handle: &str| volume(handle, json!({"csi": {"driver": "example.com/d", "volumeHandle": handle}}));
    let bound = |name: &str| claim(name, json!({"volumeName": name}));
    let mut cluster = stored(&[bound("c"), bound("d")], &[csi("c"), csi("d")], &[]);
    cluster.put_pod(Cluster::compile(&pod("there", uses(&["c"]))), "a", false);
    for node in ["a", "b"] {
        let limit = json!({"metadata": {"name": node}, "spec": {"drivers": [
            {"name": "example.com/d", "nodeID": node, "allocatable": {"count": i32::from(node == "a")}}]}});
        cluster.volumes_mut().learn_csi_node(&added(&limit));
    }
    assert_eq!(decide(&mut cluster, uses(&["d"])), "0/2 nodes are available: 2 node(s) exceed max volume count.");
    // The volume is attached there already.
    assert_eq!(decide(&mut cluster, uses(&["c"])), "a");
}
