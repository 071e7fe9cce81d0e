//! Patches of four kinds, and who owns which field.

use serde_json::{Value, json};
use xebec_machinery::gvk::GroupVersionKind;
use xebec_machinery::patch::apply::{self, Manager};
use xebec_machinery::patch::fields::FieldSet;
use xebec_machinery::patch::{json, merge, strategic};
use xebec_schema::{View, schema};

use super::document::objects;
use super::{halves, joined};

pub fn json_seeds() -> Vec<Vec<u8>> {
    let object = objects()[0].to_string();
    let patches = [
        json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": "z"}, {"op": "remove", "path": "/spec/containers/0"}]),
        json!([{"op": "test", "path": "/kind", "value": "Pod"}, {"op": "replace", "path": "/spec/containers/0/image", "value": "j"}]),
        json!([{"op": "copy", "from": "/spec", "path": "/spec/containers/-"}, {"op": "move", "from": "/metadata", "path": "/x"}]),
    ];
    patches.iter().map(|patch| joined(&object, &patch.to_string())).collect()
}

fn object(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Value>(bytes).ok().filter(Value::is_object)
}

pub fn json(bytes: &[u8]) {
    let (target, patch) = halves(bytes);
    if let Some(mut target) = object(target) {
        _ = json::apply(&mut target, patch).is_ok();
    }
}

pub fn pair_seeds() -> Vec<Vec<u8>> {
    let object = objects()[0].to_string();
    let patches = [
        json!({"metadata": {"labels": {"x": null, "n": "1"}}, "spec": {"containers": [{"name": "c", "image": "j"}, {"name": "d"}]}}),
        json!({"spec": {"containers": [{"name": "c", "$patch": "delete"}], "$setElementOrder/containers": [{"name": "c"}],
            "tolerations": [{"$patch": "replace"}]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["b"], "ownerReferences": [{"uid": "u", "$patch": "merge"}]},
            "spec": {"$retainKeys": ["containers"], "containers": []}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}),
    ];
    patches.iter().map(|patch| joined(&object, &patch.to_string())).collect()
}

fn pod() -> Option<View> {
    schema().by_kind(&GroupVersionKind::new("", "v1", "Pod")).map(View::of)
}

/// A patch that was applied changes nothing when it is applied again.
pub fn merge(bytes: &[u8]) {
    let (target, patch) = halves(bytes);
    let (Some(mut target), Ok(patch)) = (object(target), serde_json::from_slice::<Value>(patch)) else { return };
    merge::apply(&mut target, patch.clone());
    let once = target.clone();
    merge::apply(&mut target, patch);
    assert_eq!(target, once);
}

pub fn strategic(bytes: &[u8]) {
    let (target, patch) = halves(bytes);
    let (Some(mut target), Ok(patch), Some(pod)) = (object(target), serde_json::from_slice(patch), pod()) else {
        return;
    };
    _ = strategic::apply(&mut target, patch, pod).is_ok();
}

/// What was applied can be applied again, by the same manager and by another that forces it.
pub fn apply(bytes: &[u8]) {
    let (live, config) = halves(bytes);
    let (Some(config), Some(pod)) = (object(config), pod()) else { return };
    let live = object(live);
    let manager =
        |name| Manager { name, api_version: "v1", subresource: "", now: "2026-01-01T00:00:00Z", ignored: &[] };
    if let Ok(applied) = apply::apply(live.as_ref(), &config, pod, &manager("a"), true) {
        let again = apply::apply(Some(&applied), &config, pod, &manager("a"), false);
        assert!(again.is_ok(), "{again:?}: {applied}");
        let other = apply::apply(Some(&applied), &config, pod, &manager("b"), true);
        assert!(other.is_ok(), "{other:?}: {applied}");
    }
}

pub fn fields_seeds() -> Vec<Vec<u8>> {
    let fields = [
        json!({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}}}),
        json!({"f:spec": {"f:finalizers": {"v:\"a\"": {}, "v:1": {}}, "i:0": {}}}),
    ];
    fields.iter().map(|fields| fields.to_string().into_bytes()).collect()
}

/// What is written of a set is read as the same set.
pub fn fields(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let set = FieldSet::decode(&value);
    let again = FieldSet::decode(&set.encode());
    assert_eq!(again.encode(), set.encode());
    let mut other = set.clone();
    other.union(&again);
    other.subtract(&set);
    other.remove(&["metadata", "labels"]);
    _ = (other.intersection(&set), set.paths());
}
