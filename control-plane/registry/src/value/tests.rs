use serde_json::{Value, json};

use super::*;

#[track_caller]
fn check_same(a: Value, b: Value, expected: bool) {
    assert_eq!(same(&a, &b), expected, "{a} and {b}");
    assert_eq!(same(&b, &a), expected, "{b} and {a}");
}

#[test]
fn absence_equals_emptiness_but_not_zero() {
    check_same(json!({"a": null}), json!({}), true);
    check_same(json!({"a": []}), json!({"b": {}}), true);
    check_same(json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": null}}), true);
    check_same(json!({"a": 0}), json!({}), false);
    check_same(json!({"a": ""}), json!({}), false);
    check_same(json!([1, 2]), json!([2, 1]), false);
}

#[test]
fn keep_restores_and_removes() {
    let old = json!({"status": {"phase": "Running"}});
    let mut new = json!({"status": {"phase": "Failed"}, "spec": {"a": 1}});
    keep(&mut new, &old, "status");
    keep(&mut new, &old, "spec.a");
    assert_eq!(new, json!({"status": {"phase": "Running"}, "spec": {}}));
}
