use super::*;
use serde_json::{Value, json};

fn at(minutes: u64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    time::after(start, Duration::from_secs(60 * minutes))
}

fn run(current: i32, wanted: i32, behavior: Value, history: &mut History, minute: u64) -> (i32, &'static str) {
    let behavior = serde_json::from_value(behavior).expect("a behavior");
    let normalized = normalize(current, wanted, &Bounds { min: 1, max: 100 }, Some(&behavior), history, at(minute));
    (normalized.replicas, normalized.limited.0)
}

#[track_caller]
fn check(current: i32, wanted: i32, behavior: Value, expected: (i32, &str)) {
    assert_eq!(run(current, wanted, behavior, &mut History::default(), 0), expected);
}

#[test]
fn by_default_it_doubles_or_adds_four_and_shrinks_at_once() {
    check(1, 3, json!({}), (3, "DesiredWithinRange"));
    check(1, 50, json!({}), (5, "ScaleUpLimit"));
    check(10, 50, json!({}), (20, "ScaleUpLimit"));
    check(10, 2, json!({}), (2, "DesiredWithinRange"));
    check(10, 0, json!({}), (1, "TooFewReplicas"));
    check(90, 120, json!({}), (100, "TooManyReplicas"));
}

#[test]
fn policies_bound_the_change() {
    let pods = |n: i32| json!({"type": "Pods", "value": n, "periodSeconds": 60});
    let percent = |n: i32| json!({"type": "Percent", "value": n, "periodSeconds": 60});
    check(10, 50, json!({"scaleUp": {"policies": [pods(2), percent(50)]}}), (15, "ScaleUpLimit"));
    check(
        10,
        50,
        json!({"scaleUp": {"policies": [pods(2), percent(50)], "selectPolicy": "Min"}}),
        (12, "ScaleUpLimit"),
    );
    check(10, 50, json!({"scaleUp": {"selectPolicy": "Disabled"}}), (10, "ScaleUpLimit"));
    check(10, 1, json!({"scaleDown": {"policies": [pods(2), percent(50)]}}), (5, "ScaleDownLimit"));
    check(10, 1, json!({"scaleDown": {"policies": [pods(2)]}}), (8, "ScaleDownLimit"));
    check(10, 1, json!({"scaleDown": {"selectPolicy": "Disabled"}}), (10, "ScaleDownLimit"));
}

#[test]
fn what_was_done_within_a_period_counts() {
    let behavior = json!({"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 120}]}});
    let mut history = History::default();
    assert_eq!(run(4, 9, behavior.clone(), &mut history, 0), (6, "ScaleUpLimit"));
    history.scaled(at(0), 2);
    assert_eq!(run(6, 9, behavior.clone(), &mut history, 1), (6, "ScaleUpLimit"));
    assert_eq!(run(6, 9, behavior, &mut history, 3), (8, "ScaleUpLimit"));
}

#[test]
fn it_shrinks_only_when_nothing_recent_wanted_more() {
    let mut history = History::default();
    assert_eq!(run(5, 8, json!({}), &mut history, 0).0, 8);
    assert_eq!(run(8, 2, json!({}), &mut history, 1).0, 8, "the window is five minutes");
    assert_eq!(run(8, 3, json!({}), &mut history, 6).0, 3);
    let mut history = History::default();
    let at_once = json!({"scaleDown": {"stabilizationWindowSeconds": 0}});
    assert_eq!(run(5, 8, at_once.clone(), &mut history, 0).0, 8);
    assert_eq!(run(8, 2, at_once, &mut history, 1).0, 2);
}
