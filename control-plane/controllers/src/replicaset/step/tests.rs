use super::*;
use xebec_types::annotation;
use xebec_types::apps::ReplicaSetSpec;
use xebec_types::core::{ContainerStatus, PodCondition, PodSpec, PodStatus};
use xebec_types::time;

/// `name node phase ready [key=value…]`; keys: cost, restarts, age (seconds), readyfor, gone.
fn pod(text: &str) -> Arc<Pod> {
    let mut words = text.split_whitespace();
    let mut word = || words.next().unwrap_or_default().to_string();
    let (name, node, phase, ready) = (word(), word(), word(), word());
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.clone());
    pod.metadata.uid = Some(name);
    pod.spec = Some(PodSpec { node_name: Some(node).filter(|n| n != "-"), ..PodSpec::default() });
    let mut ready_for = 100;
    let mut restarts = 0;
    for option in words {
        let (key, value) = option.split_once('=').unwrap_or((option, "0"));
        let number: i64 = value.parse().expect("a number");
        match key {
            "cost" => {
                let cost = (annotation::POD_DELETION_COST.to_string(), value.to_string());
                pod.metadata.annotations = Some([cost].into());
            }
            "restarts" => restarts = i32::try_from(number).expect("small"),
            "age" => pod.metadata.creation_timestamp = Some(ago(number)),
            "readyfor" => ready_for = number,
            "gone" => pod.metadata.deletion_timestamp = Some(ago(0)),
            other => panic!("{other}"),
        }
    }
    pod.status = Some(PodStatus {
        phase: Some(phase),
        conditions: Some(vec![PodCondition {
            type_: "Ready".into(),
            status: if ready == "ready" { "True" } else { "False" }.into(),
            last_transition_time: Some(ago(ready_for)),
            ..PodCondition::default()
        }]),
        container_statuses: Some(vec![ContainerStatus { restart_count: restarts, ..ContainerStatus::default() }]),
        ..PodStatus::default()
    });
    Arc::new(pod)
}

const NOW: i64 = 1_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("in range")
}

fn ago(seconds: i64) -> xebec_types::Time {
    time::time(Timestamp::from_second(NOW - seconds).expect("in range"))
}

fn set(replicas: i32) -> ReplicaSet {
    ReplicaSet {
        spec: Some(ReplicaSetSpec { replicas: Some(replicas), ..ReplicaSetSpec::default() }),
        ..ReplicaSet::default()
    }
}

/// The first pod goes before the second.
#[track_caller]
fn check_first(first: &str, second: &str) {
    for pods in [[pod(first), pod(second)], [pod(second), pod(first)]] {
        let step = step(&set(1), &pods, &pods, now());
        let gone: Vec<_> = step.delete.iter().map(|p| object::name(&p.metadata)).collect();
        assert_eq!(gone, [first.split_whitespace().next().unwrap_or_default()], "{first} | {second}");
    }
}

#[test]
fn pods_go_in_upstreams_order() {
    check_first("a - Pending no", "b n1 Pending no");
    check_first("a n1 Pending no", "b n2 Running no");
    check_first("a n1 Running no", "b n2 Running ready");
    check_first("a n1 Running ready cost=-5", "b n2 Running ready");
    check_first("a n1 Running ready readyfor=10", "b n2 Running ready readyfor=1000");
    check_first("a n1 Running ready restarts=3", "b n2 Running ready");
    check_first("a n1 Running ready age=10", "b n2 Running ready age=1000");
    check_first("a n1 Running no cost=100", "b n2 Running ready cost=-100");
}

#[test]
fn the_more_crowded_node_gives_first() {
    let pods = [pod("a n1 Running ready"), pod("b n2 Running ready"), pod("c n2 Running ready")];
    let step = step(&set(2), &pods, &pods, now());
    assert_ne!(step.delete[0].metadata.name.as_deref(), Some("a"));
}

#[test]
fn only_active_pods_count() {
    let pods =
        [pod("a n1 Running ready"), pod("b n1 Failed no"), pod("c n1 Succeeded no"), pod("d n1 Running ready gone")];
    assert_eq!(step(&set(3), &pods, &[], now()).create, 2);
    let settled = step(&set(1), &pods, &[], now());
    assert_eq!((settled.create, settled.delete.len()), (0, 0));
}

#[test]
fn a_set_looks_again_when_a_pod_becomes_available() {
    let mut set = set(1);
    set.spec.get_or_insert_default().min_ready_seconds = Some(30);
    let pods = [pod("a n1 Running ready readyfor=10")];
    assert_eq!(step(&set, &pods, &[], now()).recheck, Some(Duration::from_secs(20)));
}
