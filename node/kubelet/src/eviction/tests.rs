use std::collections::HashMap;

use serde_json::json;
use xebec_cri::v1;

use super::*;
use crate::runtime::key;

#[track_caller]
fn check(text: &str, signal: Signal, capacity: u64, available: u64, expected: bool) {
    let thresholds: Thresholds = text.parse().unwrap();
    let observe = |asked| (asked == signal).then_some(Observation { capacity, available });
    assert_eq!(!thresholds.crossed(observe).is_empty(), expected, "{text}: {available} of {capacity}");
}

#[test]
fn a_threshold_is_crossed_below_it() {
    check("memory.available<100Mi", Signal::MemoryAvailable, 1 << 30, (100 << 20) - 1, true);
    check("memory.available<100Mi", Signal::MemoryAvailable, 1 << 30, 100 << 20, false);
    check("nodefs.available<10%,imagefs.available<15%", Signal::NodefsAvailable, 1000, 99, true);
    check("nodefs.available<10%,imagefs.available<15%", Signal::NodefsAvailable, 1000, 100, false);
    check("nodefs.available<10%,imagefs.available<15%", Signal::ImagefsAvailable, 1000, 149, true);
    check("", Signal::MemoryAvailable, 1 << 30, 0, false);
}

#[test]
fn defaults_are_upstreams() {
    let written = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%";
    assert_eq!(Thresholds::default(), written.parse().unwrap());
}

#[test]
fn what_is_no_threshold_says_why() {
    for (text, why) in [
        ("memory.available", "must look like"),
        ("cpu.available<1", "names no signal"),
        ("nodefs.available<110%", "percentage"),
        ("memory.available<much", "quantity"),
    ] {
        let error = text.parse::<Thresholds>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

fn pod(name: &str, priority: i32, request: &str) -> Arc<Pod> {
    let object = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"memory": request}}}]},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn uses(pod: &str, mebibytes: u64) -> v1::ContainerStats {
    let labels = HashMap::from([(key::POD_UID.to_owned(), pod.to_owned())]);
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes { labels, ..Default::default() }),
        memory: Some(v1::MemoryUsage {
            working_set_bytes: Some(v1::UInt64Value { value: mebibytes << 20 }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[track_caller]
fn check_first(pods: &[Arc<Pod>], stats: &[v1::ContainerStats], expected: &str) {
    let (first, _) = rank::first(pods, stats, Signal::MemoryAvailable).expect("a pod");
    assert_eq!(PodRef::of(&first).name, expected);
}

#[test]
fn the_pod_that_takes_most_beyond_its_request_goes_first() {
    let modest = pod("modest", 0, "100Mi");
    let greedy = pod("greedy", 0, "10Mi");
    let important = pod("important", 1000, "10Mi");
    let stats = [uses("modest", 90), uses("greedy", 60), uses("important", 80)];
    check_first(&[modest.clone(), greedy.clone(), important.clone()], &stats, "greedy");
    check_first(&[modest.clone(), important.clone()], &stats, "important");
    check_first(&[modest], &stats, "modest");
    check_first(&[greedy, pod("greedier", 0, "0")], &[uses("greedy", 60), uses("greedier", 70)], "greedier");
}

#[test]
fn critical_pods_stay() {
    assert!(may_go(&pod("a", 1000, "1Mi")));
    assert!(!may_go(&pod("a", 2_000_001_000, "1Mi")));
}
