use super::*;
use crate::statefulset::View;
use crate::statefulset::status::status;
use crate::statefulset::view::Revision;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use xebec_types::apps::StatefulSet;
use xebec_types::core::PodTemplateSpec;
use xebec_types::time::{self, Timestamp};

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

/// Three ordered replicas with one claim each, and whatever `spec` says else.
fn set(spec: Value) -> StatefulSet {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set"},
        "spec": {
            "replicas": 3, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
    });
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).expect("a StatefulSet")
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// `ordinal:state@revision`; states: pending, running, ready, new (ready for 5 s), failed, done; a
/// trailing `-` for a pod that is being deleted, `!` for one without identity.
fn pod(text: &str) -> Arc<Pod> {
    let (ordinal, rest) = text.split_once(':').expect("ordinal");
    let (state, revision) = rest.split_once('@').expect("revision");
    let revision = revision.trim_end_matches(['-', '!']);
    let phase = match state {
        "pending" => "Pending",
        "failed" => "Failed",
        "done" => "Succeeded",
        _ => "Running",
    };
    let ready = matches!(state, "ready" | "new");
    let since = if state == "new" { NOW - 5 } else { NOW - 1000 };
    let name = format!("web-{ordinal}");
    let mut labels = json!({"app": "web", "controller-revision-hash": revision});
    if !text.ends_with('!') {
        labels["statefulset.kubernetes.io/pod-name"] = json!(name);
        labels["apps.kubernetes.io/pod-index"] = json!(ordinal);
    }
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "labels": labels},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
            "lastTransitionTime": time::time(at(since))}]},
    }))
    .expect("a Pod");
    if text.ends_with('-') {
        pod.metadata.deletion_timestamp = Some(time::time(at(NOW)));
    }
    Arc::new(pod)
}

fn revision_of(name: &str) -> Revision {
    Revision { name: name.into(), template: PodTemplateSpec::default() }
}

/// Claims that exist, by name.
type Claims = BTreeMap<String, PersistentVolumeClaim>;

/// A claim of every pod, owned by nobody.
fn claims(pods: &str) -> Claims {
    let name = |word: &str| format!("data-web-{}", word.split(':').next().unwrap_or_default());
    let claim = |name: String| {
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.name = Some(name.clone());
        (name, claim)
    };
    pods.split_whitespace().map(|word| claim(name(word))).collect()
}

fn with_view<T>(set: &StatefulSet, pods: &str, claims: &Claims, read: impl FnOnce(&View<'_>) -> T) -> T {
    let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
    let claim = |name: &str| claims.get(name).cloned().map(Arc::new);
    let (old, new) = (revision_of("a"), revision_of("b"));
    read(&View::new(set, &pods, (&old, &new), &claim, at(NOW)))
}

fn told(actions: &[Action]) -> String {
    let tell = |action: &Action| match action {
        Action::Create { pod, claims } => {
            let claims = if claims.is_empty() { "" } else { "+claim" };
            format!("create {}@{}{claims}", object::name(&pod.metadata), identity::revision(pod))
        }
        Action::CreateClaims { pod, .. } => format!("claims {}", object::name(&pod.metadata)),
        Action::Identify { pod, .. } => format!("identify {}", object::name(&pod.metadata)),
        Action::Delete { pod } => format!("delete {}", object::name(&pod.metadata)),
        Action::Own { claim, owners } => {
            let owners: Vec<_> = owners.iter().map(|o| o.uid.as_str()).collect();
            format!("own {} by [{}]", object::name(&claim.metadata), owners.join(","))
        }
    };
    actions.iter().map(tell).collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn check(spec: Value, pods: &str, expected: &str) {
    let set = set(spec.clone());
    let actions = with_view(&set, pods, &claims(pods), step);
    assert_eq!(told(&actions), expected, "{spec} with {pods:?}");
}

#[test]
fn an_ordered_set_makes_one_pod_after_the_other() {
    check(json!({}), "", "create web-0@b+claim");
    check(json!({}), "0:pending@b", "");
    check(json!({}), "0:running@b", "");
    check(json!({}), "0:ready@b", "create web-1@b+claim");
    check(json!({}), "0:ready@b 1:ready@b 2:ready@b", "");
    check(json!({"minReadySeconds": 10}), "0:new@b", "");
    check(json!({"minReadySeconds": 5}), "0:new@b", "create web-1@b+claim");
    check(json!({"ordinals": {"start": 5}}), "", "create web-5@b+claim");
    check(json!({"ordinals": {"start": 1}, "replicas": 1}), "0:ready@b 1:ready@b", "delete web-0");
}

#[test]
fn a_parallel_set_makes_all_at_once() {
    let parallel = json!({"podManagementPolicy": "Parallel"});
    check(parallel.clone(), "", "create web-0@b+claim, create web-1@b+claim, create web-2@b+claim");
    check(parallel.clone(), "0:pending@b 2:ready@b", "create web-1@b+claim");
    let scaled = json!({"podManagementPolicy": "Parallel", "replicas": 1});
    check(scaled, "0:pending@b 1:pending@b 2:ready@b", "delete web-2, delete web-1");
}

#[test]
fn a_member_that_ended_is_made_again() {
    check(json!({}), "0:ready@b 1:failed@b 2:ready@b", "delete web-1");
    check(json!({}), "0:ready@b 1:done@b 2:ready@b", "delete web-1");
    check(json!({}), "0:ready@b 1:failed@b- 2:ready@b", "");
    check(json!({}), "0:ready@b 2:ready@b", "create web-1@b+claim");
}

#[test]
fn an_ordered_set_shrinks_from_the_top_and_waits_for_the_unhealthy() {
    let one = json!({"replicas": 1});
    check(one.clone(), "0:ready@b 1:ready@b 2:ready@b", "delete web-2");
    check(one.clone(), "0:ready@b 1:ready@b 2:ready@b-", "");
    check(one.clone(), "0:running@b 1:ready@b", "");
    check(one.clone(), "0:ready@b 1:running@b 2:ready@b", "delete web-2");
    check(one.clone(), "0:ready@b 1:running@b 2:running@b", "");
    check(one, "0:ready@b 1:running@b", "delete web-1");
    check(json!({"replicas": 0}), "0:running@b", "delete web-0");
}

#[test]
fn an_update_goes_from_the_top_to_the_partition() {
    check(json!({}), "0:ready@a 1:ready@a 2:ready@a", "delete web-2");
    check(json!({}), "0:ready@a 1:ready@a 2:ready@a-", "");
    check(json!({}), "0:ready@a 1:ready@a 2:running@b", "");
    check(json!({}), "0:ready@a 1:ready@a 2:ready@b", "delete web-1");
    let partition = |n: i32| json!({"updateStrategy": {"rollingUpdate": {"partition": n}}});
    check(partition(2), "0:ready@a 1:ready@a 2:ready@b", "");
    check(partition(1), "0:ready@a 1:ready@a 2:ready@b", "delete web-1");
    check(partition(9), "0:ready@a 1:ready@a 2:ready@a", "");
    check(partition(2), "0:ready@a 2:ready@b", "create web-1@a+claim");
    check(partition(2), "0:ready@a 1:ready@a", "create web-2@b+claim");
    let two = json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}});
    check(two, "0:ready@a 1:ready@a 2:ready@a", "delete web-2, delete web-1");
    let half = json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "50%"}}});
    check(half, "0:ready@a 1:ready@a 2:ready@a", "delete web-2, delete web-1");
}

#[test]
fn on_delete_leaves_updates_to_the_user() {
    let manual = json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}});
    check(manual.clone(), "0:ready@a 1:ready@a 2:ready@a", "");
    check(manual, "0:ready@a 2:ready@a", "create web-1@b+claim");
}

#[test]
fn a_broken_update_stops_and_waits_for_somebody() {
    check(json!({}), "0:ready@a 1:ready@a 2:pending@c", "");
    let parallel = json!({"podManagementPolicy": "Parallel"});
    check(parallel, "0:ready@b 1:ready@b 2:pending@a", "delete web-2");
}

#[test]
fn members_carry_their_identity() {
    check(json!({}), "0:ready@b! 1:ready@b 2:ready@b", "identify web-0");
    let set = set(json!({}));
    let pod = identity::new_pod(&set, &PodTemplateSpec::default(), "web-abc", 1);
    let spec = pod.spec.expect("spec");
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("web-1"), Some("web")));
    let volume = &spec.volumes.expect("volumes")[0];
    let claim = volume.persistent_volume_claim.as_ref().expect("claim");
    assert_eq!((volume.name.as_str(), claim.claim_name.as_str()), ("data", "data-web-1"));
    let label = |key: &str| pod.metadata.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
    assert_eq!(label("apps.kubernetes.io/pod-index"), Some("1"));
    assert_eq!(label("statefulset.kubernetes.io/pod-name"), Some("web-1"));
    assert_eq!(label("controller-revision-hash"), Some("web-abc"));
}

#[track_caller]
fn check_owners(deleted: &str, scaled: &str, replicas: i32, owner: Option<&str>, expected: &str) {
    let policy = json!({"whenDeleted": deleted, "whenScaled": scaled});
    let set = set(json!({"replicas": replicas, "persistentVolumeClaimRetentionPolicy": policy}));
    let mut claims = claims("0:ready@b");
    for claim in claims.values_mut() {
        let owner = owner.map(|uid| {
            let kind = if uid == "set" { "StatefulSet" } else { "Pod" };
            let name = if uid == "set" { "web" } else { "web-0" };
            json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}])
        });
        claim.metadata.owner_references = owner.map(|o| serde_json::from_value(o).expect("owners"));
    }
    let actions = with_view(&set, "0:ready@b", &claims, step);
    let owned: Vec<_> = actions.into_iter().filter(|a| matches!(a, Action::Own { .. })).collect();
    assert_eq!(told(&owned), expected, "{deleted} {scaled} {replicas} {owner:?}");
}

#[test]
fn claims_go_with_their_set_or_their_pod() {
    check_owners("Retain", "Retain", 1, None, "");
    check_owners("Retain", "Retain", 1, Some("set"), "own data-web-0 by []");
    check_owners("Delete", "Retain", 1, None, "own data-web-0 by [set]");
    check_owners("Delete", "Retain", 1, Some("set"), "");
    check_owners("Retain", "Delete", 1, None, "");
    check_owners("Retain", "Delete", 0, None, "own data-web-0 by [web-0]");
    check_owners("Delete", "Delete", 0, Some("set"), "own data-web-0 by [web-0]");
    check_owners("Delete", "Delete", 1, Some("web-0"), "own data-web-0 by [set]");
}

#[test]
fn a_claim_on_its_way_out_is_waited_for() {
    let set = set(json!({}));
    let mut going = claims("0:");
    let claim = going.get_mut("data-web-0").expect("claim");
    claim.metadata.deletion_timestamp = Some(time::time(at(NOW)));
    assert_eq!(told(&with_view(&set, "", &going, step)), "");
    let mut lost = claims("");
    lost.clear();
    let pending = with_view(&set, "0:pending@b", &lost, step);
    assert_eq!(told(&pending), "claims web-0");
}

#[test]
fn a_set_that_is_being_deleted_is_left_alone() {
    let mut set = set(json!({}));
    set.metadata.deletion_timestamp = Some(time::time(at(NOW)));
    assert!(with_view(&set, "0:ready@b", &claims("0:"), step).is_empty());
}

#[track_caller]
fn check_status(spec: Value, pods: &str, expected: (i32, i32, i32, i32, &str)) {
    let set = set(spec);
    let status = with_view(&set, pods, &claims(pods), |view| status(view, None));
    let some = |count: Option<i32>| count.unwrap_or_default();
    let found = (
        status.replicas,
        some(status.ready_replicas),
        some(status.current_replicas),
        some(status.updated_replicas),
        status.current_revision.as_deref().unwrap_or_default(),
    );
    assert_eq!(found, expected, "{pods}");
}

#[test]
fn the_status_counts_and_completes_an_update() {
    check_status(json!({}), "", (0, 0, 0, 0, "a"));
    check_status(json!({}), "0:ready@a 1:ready@a 2:ready@a", (3, 3, 3, 0, "a"));
    check_status(json!({}), "0:ready@a 1:ready@a 2:ready@a-", (3, 3, 2, 0, "a"));
    check_status(json!({}), "0:ready@a 1:running@b 2:ready@b", (3, 2, 1, 2, "a"));
    check_status(json!({}), "0:ready@b 1:ready@b 2:ready@b", (3, 3, 3, 3, "b"));
    let manual = json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}});
    check_status(manual, "0:ready@b 1:ready@b 2:ready@b", (3, 3, 0, 3, "a"));
}
