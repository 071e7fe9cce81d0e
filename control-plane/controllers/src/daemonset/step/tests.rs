use super::*;
use crate::daemonset::status::status;
use crate::daemonset::template;
use serde_json::{Value, json};
use xebec_types::apps::DaemonSet;
use xebec_types::core::Node;
use xebec_types::object;
use xebec_types::time::{self, Timestamp};

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

fn set(update: Value, spec: Value) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "agent", "namespace": "ns", "uid": "set"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}}, "updateStrategy": update,
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": spec},
        },
    }))
    .expect("a DaemonSet")
}

fn rolling(unavailable: Value, surge: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}})
}

/// `name[/label=value…][#taint:effect…]`
fn node(text: &str) -> Arc<Node> {
    let (front, taints) = text.split_once('#').unwrap_or((text, ""));
    let mut parts = front.split('/');
    let name = parts.next().unwrap_or_default();
    let labels: serde_json::Map<_, _> =
        parts.filter_map(|part| part.split_once('=')).map(|(k, v)| (k.to_string(), json!(v))).collect();
    let taints: Vec<_> =
        taints.split('#').filter_map(|t| t.split_once(':')).map(|(k, e)| json!({"key": k, "effect": e})).collect();
    let node = json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}});
    Arc::new(serde_json::from_value(node).expect("a Node"))
}

/// `name:node:state@hash`; states: pending, ready, failed, done; a trailing `-` for being deleted.
fn pod(text: &str, created: i64) -> Arc<Pod> {
    let (place, hash) = text.split_once('@').expect("hash");
    let mut parts = place.split(':');
    let mut part = || parts.next().unwrap_or_default();
    let (name, node, state) = (part(), part(), part());
    let phase = match state {
        "pending" => "Pending",
        "failed" => "Failed",
        "done" => "Succeeded",
        _ => "Running",
    };
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": time::time(at(created)),
            "labels": {"app": "agent", "controller-revision-hash": hash.trim_end_matches('-')}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": phase, "conditions": [{"type": "Ready",
            "status": if state == "ready" { "True" } else { "False" }, "lastTransitionTime": time::time(at(NOW - 100))}]},
    }))
    .expect("a Pod");
    if text.ends_with('-') {
        pod.metadata.deletion_timestamp = Some(time::time(at(NOW)));
    }
    Arc::new(pod)
}

fn with_view<T>(set: &DaemonSet, nodes: &str, pods: &str, read: impl FnOnce(&View<'_>) -> T) -> T {
    let nodes: Vec<_> = nodes.split_whitespace().map(node).collect();
    let pods: Vec<_> = (1..).zip(pods.split_whitespace()).map(|(age, text)| pod(text, age)).collect();
    read(&View::new(set, "b", &nodes, &pods, at(NOW)))
}

fn told(plan: &Plan) -> String {
    let names = |pods: &[Arc<Pod>]| pods.iter().map(|p| format!("-{}", object::name(&p.metadata))).collect::<Vec<_>>();
    let ended = plan.ended.iter().map(|(_, pod)| format!("!{}", object::name(&pod.metadata)));
    let all = plan.create.iter().map(|node| format!("+{node}")).chain(names(&plan.delete)).chain(ended);
    all.collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(update: Value, nodes: &str, pods: &str, expected: &str) {
    let set = set(update, json!({"containers": []}));
    let plan = with_view(&set, nodes, pods, step);
    assert_eq!(told(&plan), expected, "{pods:?} on {nodes:?}");
}

fn one() -> Value {
    rolling(json!(1), json!(0))
}

#[test]
fn every_node_gets_one_pod() {
    check(one(), "n1 n2", "", "+n1 +n2");
    check(one(), "n1 n2", "a:n1:ready@b", "+n2");
    check(one(), "n1", "a:n1:ready@b b:n1:ready@b", "-b");
    check(one(), "n1", "a:n1:ready@b-", "");
    check(one(), "n1", "a:n1:ready@b b:gone:ready@b", "-b");
    check(one(), "n1", "a:n1:failed@b", "!a");
    check(one(), "n1", "a:n1:done@b b:n1:ready@b", "!a");
}

#[test]
fn taints_keep_new_pods_away_and_drive_old_ones_out() {
    check(one(), "n1#gpu:NoSchedule", "", "");
    check(one(), "n1#gpu:NoSchedule", "a:n1:ready@b", "");
    check(one(), "n1#gpu:NoExecute", "a:n1:ready@b", "-a");
    check(one(), "n1#gpu:PreferNoSchedule", "", "+n1");
    check(one(), "n1#node.kubernetes.io/unschedulable:NoSchedule", "", "+n1");
    check(one(), "n1#node.kubernetes.io/not-ready:NoExecute", "", "+n1");
    check(one(), "n1#node.kubernetes.io/network-unavailable:NoSchedule", "", "");
}

#[track_caller]
fn check_fit(spec: Value, text: &str, expected: bool) {
    let set = set(one(), spec.clone());
    let plan = with_view(&set, text, "", step);
    assert_eq!(!plan.create.is_empty(), expected, "{spec} on {text}");
}

#[test]
fn nodes_are_chosen_by_selector_affinity_and_toleration() {
    check_fit(json!({"containers": [], "nodeSelector": {"disk": "ssd"}}), "n1/disk=ssd", true);
    check_fit(json!({"containers": [], "nodeSelector": {"disk": "ssd"}}), "n1", false);
    check_fit(json!({"containers": [], "nodeName": "n1"}), "n1", true);
    check_fit(json!({"containers": [], "nodeName": "n1"}), "n2", false);
    let required = |term: Value| {
        json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [term]}}}})
    };
    let expression = |operator: &str, values: Value| {
        required(json!({"matchExpressions": [{"key": "size", "operator": operator, "values": values}]}))
    };
    check_fit(expression("In", json!(["s", "m"])), "n1/size=m", true);
    check_fit(expression("NotIn", json!(["s"])), "n1", true);
    check_fit(expression("Gt", json!(["3"])), "n1/size=4", true);
    check_fit(expression("Gt", json!(["3"])), "n1/size=3", false);
    check_fit(required(json!({})), "n1", false);
    let tolerates = json!({"containers": [], "tolerations": [{"key": "gpu", "operator": "Exists"}]});
    check_fit(tolerates, "n1#gpu:NoSchedule", true);
    check_fit(
        json!({"containers": [], "hostNetwork": true}),
        "n1#node.kubernetes.io/network-unavailable:NoSchedule",
        true,
    );
}

#[test]
fn a_pod_is_for_its_node_and_tolerates_its_troubles() {
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}}});
    let set = set(one(), json!({"containers": [], "affinity": affinity}));
    let pod = template::new_pod(&set, "n7", "b");
    assert_eq!(template::target(&pod), Some("n7"));
    let tolerations = pod.spec.expect("spec").tolerations.expect("tolerations");
    assert_eq!(tolerations.len(), 6);
    assert_eq!(object::label(&pod.metadata, "controller-revision-hash"), Some("b"));
}

#[test]
fn a_rolling_update_replaces_as_many_as_may_be_missing() {
    let three = "a:n1:ready@a b:n2:ready@a c:n3:ready@a";
    check(one(), "n1 n2 n3", three, "-a");
    check(rolling(json!(2), json!(0)), "n1 n2 n3", three, "-a -b");
    check(rolling(json!("50%"), json!(0)), "n1 n2 n3", three, "-a -b");
    check(one(), "n1 n2 n3", "a:n1:pending@b b:n2:ready@a c:n3:ready@a", "");
    check(one(), "n1 n2 n3", "a:n1:ready@b b:n2:ready@a c:n3:ready@a", "-b");
    check(one(), "n1 n2 n3", "a:n1:ready@a- b:n2:ready@a c:n3:ready@a", "");
    // What does not work anyway is replaced at once.
    check(one(), "n1 n2 n3", "a:n1:pending@a b:n2:pending@a c:n3:ready@a", "-a -b");
    check(json!({"type": "OnDelete"}), "n1 n2 n3", three, "");
}

#[test]
fn a_surge_starts_the_new_pod_before_the_old_one_goes() {
    let surge = || rolling(json!(0), json!(1));
    let two = "a:n1:ready@a b:n2:ready@a";
    check(surge(), "n1 n2", two, "+n1");
    check(surge(), "n1 n2", &format!("{two} c:n1:pending@b"), "");
    check(surge(), "n1 n2", &format!("{two} c:n1:ready@b"), "-a");
    check(surge(), "n1 n2", "a:n1:ready@a- b:n2:ready@a c:n1:ready@b", "+n2");
    check(rolling(json!(0), json!("100%")), "n1 n2", two, "+n1 +n2");
    check(surge(), "n1", "a:n1:pending@a b:n1:pending@b", "-a");
    check(surge(), "n1", "a:n1:ready@a-", "+n1");
}

#[test]
fn a_settled_set_does_nothing() {
    check(one(), "n1 n2", "a:n1:ready@b b:n2:ready@b", "");
    check(rolling(json!(0), json!(1)), "n1 n2", "a:n1:ready@b b:n2:ready@b", "");
}

#[test]
fn the_status_counts_nodes() {
    let set = set(one(), json!({"containers": []}));
    let pods = "a:n1:ready@b b:n2:pending@a c:n4:ready@b";
    let status = with_view(&set, "n1 n2 n3 n4#gpu:NoSchedule", pods, |view| status(view, None));
    assert_eq!(status.desired_number_scheduled, 3);
    assert_eq!(status.current_number_scheduled, 2);
    assert_eq!(status.number_misscheduled, 1);
    assert_eq!(status.number_ready, 1);
    assert_eq!(status.number_available, Some(1));
    assert_eq!(status.number_unavailable, Some(2));
    assert_eq!(status.updated_number_scheduled, Some(1));
}
