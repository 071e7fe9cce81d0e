//! Each plugin as a table: nodes, pods on them, a pod, and what each node answers.

mod devices;
mod volumes;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster::tests::{cluster, pod};
use crate::decide::Search;

type Nodes<'a> = &'a [(&'a str, Value)];
type Pods<'a> = &'a [(&'a str, &'a str, Value)];

/// The node that `spec` goes to, or the message that says why not.
fn place(nodes: Nodes, pods: Pods, incoming: Value) -> String {
    let mut cluster = cluster(nodes, pods);
    decide(&mut cluster, incoming)
}

fn decide(cluster: &mut Cluster, incoming: Value) -> String {
    let pod = Cluster::compile(&pod("incoming", incoming));
    match Search::new(1).decide(&pod, cluster, None) {
        Ok(decision) => cluster.node(decision.node).name().to_string(),
        Err(diagnosis) => diagnosis.message(),
    }
}

#[track_caller]
fn check(nodes: Nodes, pods: Pods, incoming: Value, expected: &str) {
    assert_eq!(place(nodes, pods, incoming), expected);
}

fn cpu(amount: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]}})
}

fn labelled(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

#[test]
fn node_unschedulable() {
    let cordoned = [("a", json!({"spec": {"unschedulable": true}}))];
    check(&cordoned, &[], json!({}), "0/1 nodes are available: 1 node(s) were unschedulable.");
    let toleration = json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]);
    check(&cordoned, &[], json!({"spec": {"tolerations": toleration}}), "a");
}

#[test]
fn taint_toleration() {
    let tainted = |effect: &str| [("a", json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}}))];
    let refused = "0/1 nodes are available: 1 node(s) had untolerated taint(s).";
    for (effect, tolerations, expected) in [
        ("NoSchedule", json!([]), refused),
        ("NoExecute", json!([]), refused),
        ("PreferNoSchedule", json!([]), "a"),
        ("NoSchedule", json!([{"operator": "Exists"}]), "a"),
        ("NoSchedule", json!([{"key": "k", "operator": "Exists"}]), "a"),
        ("NoSchedule", json!([{"key": "k", "operator": "Equal", "value": "v"}]), "a"),
        ("NoSchedule", json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]), "a"),
        ("NoSchedule", json!([{"key": "k", "value": "w"}]), refused),
        ("NoSchedule", json!([{"key": "k", "value": "v", "effect": "NoExecute"}]), refused),
    ] {
        check(&tainted(effect), &[], json!({"spec": {"tolerations": tolerations}}), expected);
    }
    let soft = [("a", json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}})), ("b", json!({}))];
    check(&soft, &[], json!({}), "b");
}

#[test]
fn node_affinity() {
    let nodes = [("a", labelled(json!({"disk": "ssd", "size": "3"}))), ("b", labelled(json!({"disk": "hdd"})))];
    let none = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.";
    check(&nodes, &[], json!({"spec": {"nodeSelector": {"disk": "ssd"}}}), "a");
    check(&nodes, &[], json!({"spec": {"nodeSelector": {"disk": "tape"}}}), none);
    let required = |key: &str, operator: &str, values: Value| {
        let term = json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        json!({"spec": {"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}})
    };
    for (key, operator, values, expected) in [
        ("disk", "In", json!(["hdd", "tape"]), "b"),
        ("disk", "NotIn", json!(["hdd"]), "a"),
        ("size", "Exists", json!([]), "a"),
        ("size", "DoesNotExist", json!([]), "b"),
        ("size", "Gt", json!(["2"]), "a"),
        ("size", "Lt", json!(["2"]), none),
        ("disk", "Bogus", json!([]), none),
    ] {
        check(&nodes, &[], required(key, operator, values), expected);
    }
    let preferred = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 5, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["hdd"]}]}}]}}}});
    check(&nodes, &[], preferred, "b");
}

#[test]
fn affinity_that_names_nodes_tries_no_other() {
    let nodes = [("a", json!({})), ("b", json!({})), ("c", json!({"spec": {"unschedulable": true}}))];
    let on = |name: &str| {
        let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        json!({"spec": {"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}})
    };
    check(&nodes, &[], on("b"), "b");
    let others = "2 node(s) didn't satisfy plugin(s) [NodeAffinity]";
    check(&nodes, &[], on("c"), &format!("0/3 nodes are available: 1 node(s) were unschedulable, {others}."));
}

#[test]
fn node_ports() {
    let port = |port: u16, ip: &str, protocol: &str| {
        json!({"spec": {"containers": [{"name": "c", "ports": [
            {"containerPort": 1, "hostPort": port, "hostIP": ip, "protocol": protocol}]}]}})
    };
    let taken = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    let node = [("a", json!({}))];
    for (there, incoming, expected) in [
        (port(80, "", "TCP"), port(80, "", "TCP"), taken),
        (port(80, "", "TCP"), port(80, "", "UDP"), "a"),
        (port(80, "", "TCP"), port(81, "", "TCP"), "a"),
        (port(80, "10.0.0.1", "TCP"), port(80, "10.0.0.2", "TCP"), "a"),
        (port(80, "10.0.0.1", "TCP"), port(80, "0.0.0.0", "TCP"), taken),
        (port(80, "0.0.0.0", "TCP"), port(80, "127.0.0.1", "TCP"), taken),
    ] {
        check(&node, &[("there", "a", there)], incoming, expected);
    }
}

#[test]
fn node_resources_fit() {
    let node = [("a", json!({}))];
    check(&node, &[], cpu("4"), "a");
    check(&node, &[], cpu("4001m"), "0/1 nodes are available: 1 Insufficient cpu.");
    check(&node, &[("p", "a", cpu("1"))], cpu("3500m"), "0/1 nodes are available: 1 Insufficient cpu.");
    let greedy = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {
        "cpu": "9", "memory": "9Gi", "example.com/gpu": "1"}}}]}});
    check(
        &node,
        &[],
        greedy,
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient example.com/gpu, 1 Insufficient memory.",
    );
    let full = [("a", json!({"status": {"allocatable": {"pods": "1"}}}))];
    check(&full, &[("p", "a", json!({}))], json!({}), "0/1 nodes are available: 1 Too many pods.");
    // Overcommitted by pods that were there before: a pod without requests still fits.
    check(&node, &[("p", "a", cpu("9"))], json!({}), "a");
}

#[test]
fn the_emptier_and_better_balanced_node_wins() {
    let nodes = [("a", json!({})), ("b", json!({}))];
    check(&nodes, &[("p", "a", cpu("2"))], cpu("100m"), "b");
    let memory = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"memory": "4Gi"}}}]}});
    check(&nodes, &[("p", "a", cpu("2")), ("q", "b", memory)], cpu("1"), "b");
}

#[test]
fn image_locality() {
    let image = json!({"status": {"images": [{"names": ["app:latest"], "sizeBytes": 900_000_000}]}});
    check(&[("a", json!({})), ("b", image)], &[], json!({}), "b");
}

fn zones() -> Vec<(&'static str, Value)> {
    let zone = |zone: &str| labelled(json!({"zone": zone}));
    vec![("a1", zone("a")), ("a2", zone("a")), ("b1", zone("b")), ("none", json!({}))]
}

fn spread(max_skew: u32, when: &str, more: Value) -> Value {
    let mut constraint = json!({"maxSkew": max_skew, "topologyKey": "zone", "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "web"}}});
    constraint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": [constraint]}})
}

#[test]
fn pod_topology_spread() {
    let web = || labelled(json!({"app": "web"}));
    let one = [("p", "a1", web())];
    let balanced = [("p", "a1", web()), ("q", "b1", web())];
    check(&zones(), &one, spread(1, "DoNotSchedule", json!({})), "b1");
    let both = place(&zones(), &balanced, spread(1, "DoNotSchedule", json!({})));
    assert!(["a1", "a2", "b1"].contains(&both.as_str()), "{both}");
    check(&zones(), &one, spread(1, "ScheduleAnyway", json!({})), "b1");
    // Other labels, other namespaces and pods that are being deleted do not count.
    let ignored = [
        ("p", "b1", labelled(json!({"app": "db"}))),
        ("q", "b1", json!({"metadata": {"namespace": "other", "labels": {"app": "web"}}})),
        ("r", "b1", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web"}}})),
        ("s", "a1", web()),
    ];
    check(&zones(), &ignored, spread(1, "DoNotSchedule", json!({})), "b1");
}

#[test]
fn pod_topology_spread_says_why_not() {
    let web = || labelled(json!({"app": "web"}));
    let full = |name: &'static str| {
        (name, json!({"metadata": {"labels": {"zone": "b"}}, "status": {"allocatable": {"pods": "0"}}}))
    };
    let nodes = [("a", labelled(json!({"zone": "a"}))), full("b"), ("none", json!({}))];
    check(
        &nodes,
        &[("p", "a", web())],
        spread(1, "DoNotSchedule", json!({})),
        "0/3 nodes are available: 1 Too many pods, 1 node(s) didn't match pod topology spread constraints, \
         1 node(s) didn't match pod topology spread constraints (missing required label).",
    );
    // Too few domains: the minimum counts as zero.
    check(
        &[("a", labelled(json!({"zone": "a"})))],
        &[("p", "a", web())],
        spread(1, "DoNotSchedule", json!({"minDomains": 2})),
        "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints.",
    );
}

#[test]
fn pod_topology_spread_counts_eligible_nodes() {
    let web = || labelled(json!({"app": "web"}));
    let mut incoming = spread(1, "DoNotSchedule", json!({}));
    incoming["spec"]["nodeSelector"] = json!({"zone": "a"});
    // Zone b is out of reach and does not hold zone a back.
    let placed = place(&zones(), &[("p", "a1", web())], incoming.clone());
    assert!(placed.starts_with('a'), "{placed}");
    incoming["spec"]["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = json!("Ignore");
    let refused = place(&zones(), &[("p", "a1", web())], incoming);
    assert!(refused.contains("didn't match pod topology spread constraints"), "{refused}");
}

fn pod_affinity(kind: &str, labels: Value, own: Value) -> Value {
    json!({"metadata": {"labels": own}, "spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": labels}}]}}}})
}

#[test]
fn inter_pod_affinity() {
    let db = labelled(json!({"app": "db"}));
    let near = pod_affinity("podAffinity", json!({"app": "db"}), json!({"app": "web"}));
    check(&zones(), &[("db", "b1", db.clone())], near.clone(), "b1");
    let lonely = "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.";
    check(&zones(), &[], near, lonely);
    // The first of a group that wants to be together may go anywhere that has the label.
    let itself = pod_affinity("podAffinity", json!({"app": "web"}), json!({"app": "web"}));
    let first = place(&zones(), &[], itself.clone());
    assert!(["a1", "a2", "b1"].contains(&first.as_str()), "{first}");
    check(&zones(), &[("first", "b1", labelled(json!({"app": "web"})))], itself, "b1");
    let other = json!({"metadata": {"namespace": "other", "labels": {"app": "db"}}});
    let near = pod_affinity("podAffinity", json!({"app": "db"}), json!({}));
    check(&zones(), &[("db", "b1", other)], near, lonely);
}

#[test]
fn inter_pod_anti_affinity() {
    let away = pod_affinity("podAntiAffinity", json!({"app": "web"}), json!({"app": "web"}));
    let nodes = &zones()[..3];
    check(nodes, &[("p", "a1", labelled(json!({"app": "web"})))], away.clone(), "b1");
    let everywhere = [("p", "a1", labelled(json!({"app": "web"}))), ("q", "b1", labelled(json!({"app": "web"})))];
    check(nodes, &everywhere, away.clone(), "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.");
    // Pods that are there keep others away.
    let exclusive = [("p", "a1", away.clone()), ("q", "b1", away)];
    let expected = "0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules.";
    check(nodes, &exclusive, labelled(json!({"app": "web"})), expected);
    let placed = place(nodes, &exclusive, labelled(json!({"app": "db"})));
    assert!(!placed.contains("available"), "{placed}");
}

#[test]
fn inter_pod_affinity_across_namespaces() {
    let near = |scope: Value| {
        let mut term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}});
        term.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
        json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}})
    };
    let there = [("db", "b1", json!({"metadata": {"namespace": "other", "labels": {"app": "db"}}}))];
    let mut cluster = cluster(&zones(), &there);
    cluster.namespaces.insert("other".into(), [("team".to_owned(), "x".to_owned())].into());
    assert_eq!(decide(&mut cluster, near(json!({"namespaces": ["other"]}))), "b1");
    assert_eq!(decide(&mut cluster, near(json!({"namespaceSelector": {}}))), "b1");
    assert_eq!(decide(&mut cluster, near(json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}))), "b1");
    let nowhere = decide(&mut cluster, near(json!({"namespaceSelector": {"matchLabels": {"team": "y"}}})));
    assert!(nowhere.contains("didn't match pod affinity rules"), "{nowhere}");
}

#[test]
fn preferred_inter_pod_affinity() {
    let preferred = |kind: &str| {
        json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}}]}}}})
    };
    let db = [("db", "b1", labelled(json!({"app": "db"})))];
    check(&zones(), &db, preferred("podAffinity"), "b1");
    let away = place(&zones(), &db, preferred("podAntiAffinity"));
    assert_ne!(away, "b1");
    // A pod that is there and wants web pods near it draws them.
    let mut wants = preferred("podAffinity");
    wants["metadata"] = json!({"labels": {"app": "cache"}});
    let drawn = labelled(json!({"app": "db"}));
    check(&zones(), &[("cache", "b1", wants)], drawn, "b1");
}

#[test]
fn no_nodes_is_said_so() {
    check(&[], &[], json!({}), "no nodes available to schedule pods");
}
