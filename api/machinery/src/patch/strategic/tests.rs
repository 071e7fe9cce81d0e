use serde_json::json;

use super::*;
use crate::patch::fixture::ROOT;

fn spec(original: Value, patch: Value, want: Value) {
    let mut object = json!({"spec": original});
    apply(&mut object, json!({"spec": patch}), ROOT).unwrap_or_else(|e| panic!("{patch}: {e}"));
    assert_eq!(object["spec"], want, "{patch}");
}

#[test]
fn objects_merge_and_null_removes() {
    spec(json!({"replicas": 1, "nodeName": "n"}), json!({"replicas": 2, "nodeName": null}), json!({"replicas": 2}));
    spec(json!({"replicas": 1}), json!({"nodeName": null}), json!({"replicas": 1}));
    spec(json!({}), json!({"strategy": {"type": "R", "rollingUpdate": null}}), json!({"strategy": {"type": "R"}}));
    spec(
        json!({"strategy": {"type": "A"}}),
        json!({"strategy": {"$patch": "replace", "x": 1}}),
        json!({"strategy": {"x": 1}}),
    );
    spec(json!({"strategy": {"type": "A"}}), json!({"strategy": {"$patch": "delete"}}), json!({"strategy": {}}));
}

#[test]
fn lists_with_a_merge_key_merge_by_it() {
    let a = json!({"name": "a", "image": "1", "args": ["x"]});
    let b = json!({"name": "b", "image": "1"});
    let both = json!({"containers": [a, b]});
    spec(
        both.clone(),
        json!({"containers": [{"name": "b", "image": "2"}]}),
        json!({"containers": [a, {"name": "b", "image": "2"}]}),
    );
    spec(
        both.clone(),
        json!({"containers": [{"name": "a", "args": ["y", "z"]}]}),
        json!({"containers": [{"name": "a", "image": "1", "args": ["y", "z"]}, b]}),
    );
    spec(both.clone(), json!({"containers": [{"$patch": "delete", "name": "a"}]}), json!({"containers": [b]}));
    spec(
        both.clone(),
        json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
        json!({"containers": [{"name": "c"}]}),
    );
    // As upstream: an item that the server does not know has no place among those it knows, so it comes first.
    spec(
        both.clone(),
        json!({"containers": [{"name": "c", "image": null}]}),
        json!({"containers": [{"name": "c"}, a, b]}),
    );
    spec(json!({}), json!({"containers": [{"$patch": "delete", "name": "a"}, b]}), json!({"containers": [b]}));
    spec(both, json!({"containers": null}), json!({}));
}

#[test]
fn other_lists_are_replaced() {
    spec(
        json!({"tolerations": [{"key": "a"}]}),
        json!({"tolerations": [{"key": "b"}]}),
        json!({"tolerations": [{"key": "b"}]}),
    );
}

#[test]
fn lists_of_scalars_merge_as_sets() {
    let check = |original: Value, patch: Value, want: Value| {
        let mut object = json!({"metadata": original});
        apply(&mut object, json!({"metadata": patch}), ROOT).expect("a good patch");
        assert_eq!(object["metadata"], want, "{patch}");
    };
    let ab = json!({"finalizers": ["a", "b"]});
    check(ab.clone(), json!({"finalizers": ["b", "c"]}), json!({"finalizers": ["a", "b", "c"]}));
    check(ab.clone(), json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), json!({"finalizers": ["b"]}));
    check(
        ab,
        json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}),
        json!({"finalizers": ["c", "b"]}),
    );
}

#[test]
fn the_order_is_the_one_asked_for() {
    let names = |names: &[&str]| names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>();
    let check = |server: &[&str], patch: &[&str], order: &[&str], want: &[&str]| {
        let patch = json!({"containers": names(patch), "$setElementOrder/containers": names(order)});
        spec(json!({"containers": names(server)}), patch, json!({"containers": names(want)}));
    };
    check(&["a", "b", "c"], &[], &["c", "a"], &["b", "c", "a"]);
    check(&["a", "b"], &["c"], &["b", "c", "a"], &["b", "c", "a"]);
    check(&["a", "s", "b"], &[], &["a", "b"], &["a", "s", "b"]);
    check(&[], &["b", "a"], &["b", "a"], &["b", "a"]);
}

#[test]
fn retain_keys_drops_the_rest() {
    spec(
        json!({"strategy": {"type": "R", "rollingUpdate": {"a": "b"}}}),
        json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
        json!({"strategy": {"type": "Recreate"}}),
    );
    spec(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]}),
        json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}),
    );
}

#[test]
fn bad_patches_are_refused() {
    let check = |patch: Value, code: u16, want: &str| {
        let mut object = json!({"spec": {"containers": [{"name": "a"}]}});
        let error = apply(&mut object, patch, ROOT).expect_err("a bad patch");
        assert!(error.code == code && error.message.contains(want), "{} {error}", error.code);
    };
    check(json!([]), 400, "invalid JSON document");
    check(json!({"spec": {"$patch": "x"}}), 422, "unknown patch type found: x");
    check(json!({"spec": {"containers": [{"image": "a"}]}}), 422, "does not contain declared merge key: name");
    check(json!({"spec": {"strategy": {"$retainKeys": ["a"], "b": 1}}}), 422, "retainKeys");
    check(json!({"spec": {"strategy": {"$retainKeys": "a"}}}), 400, "invalid patch format of retainKeys");
    check(json!({"spec": {"$setElementOrder/containers": 1}}), 400, "setElementOrder");
    check(
        json!({"spec": {"containers": [{"name": "a"}], "$setElementOrder/containers": [{"name": "b"}]}}),
        422,
        "doesn't match",
    );
    check(json!({"spec": {"$deleteFromPrimitiveList/containers": 1}}), 400, "primitive list");
}
