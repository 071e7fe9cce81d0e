use super::*;
use xebec_types::core::{NodeSpec, NodeStatus};

fn node(ready: &str, taints: &[(&str, &str)]) -> Node {
    let condition = |kind: &str, status: &str| NodeCondition {
        type_: kind.into(),
        status: status.into(),
        ..NodeCondition::default()
    };
    let taint =
        |(key, effect): &(&str, &str)| Taint { key: (*key).into(), effect: (*effect).into(), ..Taint::default() };
    Node {
        spec: Some(NodeSpec { taints: Some(taints.iter().map(taint).collect()), ..NodeSpec::default() }),
        status: Some(NodeStatus {
            conditions: Some(vec![
                condition("Ready", ready),
                condition("MemoryPressure", "False"),
                condition("DiskPressure", "False"),
                condition("PIDPressure", "False"),
            ]),
            ..NodeStatus::default()
        }),
        ..Node::default()
    }
}

const HEALTHY: Cluster = Cluster { nodes: 3, ready: 2 };

#[track_caller]
fn check(node: &Node, is_silent: bool, cluster: Cluster, expected: Option<&[(&str, &str)]>) {
    let plan = step(node, is_silent, &cluster, Timestamp::UNIX_EPOCH);
    let taints = plan
        .taints
        .as_ref()
        .map(|taints| taints.iter().map(|t| (t.key.as_str(), t.effect.as_str())).collect::<Vec<_>>());
    assert_eq!(taints.as_deref(), expected);
}

const UNREACHABLE: [(&str, &str); 2] = [(taint::UNREACHABLE, "NoSchedule"), (taint::UNREACHABLE, "NoExecute")];
const NOT_READY: [(&str, &str); 2] = [(taint::NOT_READY, "NoSchedule"), (taint::NOT_READY, "NoExecute")];

#[test]
fn a_silent_node_is_unreachable() {
    let plan = step(&node("True", &[]), true, &HEALTHY, Timestamp::UNIX_EPOCH);
    let conditions = plan.conditions.expect("changed");
    assert_eq!(conditions.len(), 4);
    assert!(conditions.iter().all(|c| c.status == "Unknown"));
    check(&node("True", &[]), true, HEALTHY, Some(&UNREACHABLE));
}

#[test]
fn a_step_twice_is_a_step_once() {
    let mut settled = node("Unknown", &UNREACHABLE);
    for condition in settled.status.iter_mut().flat_map(|s| s.conditions.iter_mut().flatten()) {
        condition.status = "Unknown".into();
    }
    let plan = step(&settled, true, &HEALTHY, Timestamp::UNIX_EPOCH);
    assert!(plan.conditions.is_none() && plan.taints.is_none());
    check(&node("True", &[]), false, HEALTHY, None);
}

#[test]
fn taints_go_when_the_node_is_back_and_others_stay() {
    let tainted = [UNREACHABLE[0], UNREACHABLE[1], ("dedicated", "NoSchedule")];
    check(&node("True", &tainted), false, HEALTHY, Some(&[("dedicated", "NoSchedule")]));
    check(&node("False", &UNREACHABLE), false, HEALTHY, Some(&NOT_READY));
}

#[test]
fn nobody_is_evicted_when_most_nodes_are_gone() {
    let no_schedule = [UNREACHABLE[0]];
    check(&node("True", &[]), true, Cluster { nodes: 1, ready: 0 }, Some(&no_schedule));
    check(&node("True", &[]), true, Cluster { nodes: 5, ready: 1 }, Some(&no_schedule));
    check(&node("True", &[]), true, Cluster { nodes: 3, ready: 1 }, Some(&UNREACHABLE));
}

#[test]
fn a_cordoned_node_is_tainted() {
    let mut cordoned = node("True", &[]);
    cordoned.spec.get_or_insert_default().unschedulable = Some(true);
    check(&cordoned, false, HEALTHY, Some(&[(taint::UNSCHEDULABLE, "NoSchedule")]));
}
