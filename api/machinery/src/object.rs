//! Accessors of what every object has: `apiVersion`, `kind` and `metadata`. An absent string reads as `""`, as in upstream's ObjectMeta.

use serde_json::{Map, Value};

fn str_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn meta_str<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get("metadata").map_or("", |meta| str_of(meta, key))
}

/// A value as an object; whatever is there and is none gives way.
fn members(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(map) = value else { unreachable!("made an object above") };
    map
}

/// The member of an object, itself made an object where it is none.
pub fn ensure_map<'a>(value: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    members(members(value).entry(key).or_insert(Value::Null))
}

/// Sets a string in a map of `metadata`.
fn set_in(object: &mut Value, map: &str, key: &str, value: &str) {
    let map = metadata_mut(object).entry(map).or_insert(Value::Null);
    members(map).insert(key.to_owned(), value.into());
}

pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    ensure_map(object, "metadata")
}

/// Sets a field of `metadata`; an empty string removes it, as `omitempty` would.
fn set_meta_str(object: &mut Value, key: &str, text: &str) {
    let meta = metadata_mut(object);
    if text.is_empty() {
        meta.remove(key);
    } else {
        meta.insert(key.to_owned(), text.into());
    }
}

pub fn api_version(object: &Value) -> &str {
    str_of(object, "apiVersion")
}

pub fn kind(object: &Value) -> &str {
    str_of(object, "kind")
}

pub fn set_type(object: &mut Value, api_version: &str, kind: &str) {
    if let Value::Object(map) = object {
        map.insert("apiVersion".into(), api_version.into());
        map.insert("kind".into(), kind.into());
    }
}

pub fn name(object: &Value) -> &str {
    meta_str(object, "name")
}

pub fn generate_name(object: &Value) -> &str {
    meta_str(object, "generateName")
}

pub fn namespace(object: &Value) -> &str {
    meta_str(object, "namespace")
}

pub fn uid(object: &Value) -> &str {
    meta_str(object, "uid")
}

pub fn resource_version(object: &Value) -> &str {
    meta_str(object, "resourceVersion")
}

pub fn generation(object: &Value) -> i64 {
    object.get("metadata").and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or_default()
}

pub fn creation_timestamp(object: &Value) -> Option<&str> {
    Some(meta_str(object, "creationTimestamp")).filter(|t| !t.is_empty())
}

pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    Some(meta_str(object, "deletionTimestamp")).filter(|t| !t.is_empty())
}

pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    object.get("metadata")?.get("deletionGracePeriodSeconds")?.as_i64()
}

pub fn set_name(object: &mut Value, name: &str) {
    set_meta_str(object, "name", name);
}

pub fn set_namespace(object: &mut Value, namespace: &str) {
    set_meta_str(object, "namespace", namespace);
}

pub fn set_uid(object: &mut Value, uid: &str) {
    set_meta_str(object, "uid", uid);
}

pub fn set_resource_version(object: &mut Value, version: &str) {
    set_meta_str(object, "resourceVersion", version);
}

pub fn set_creation_timestamp(object: &mut Value, time: &str) {
    set_meta_str(object, "creationTimestamp", time);
}

pub fn set_deletion_timestamp(object: &mut Value, time: &str) {
    set_meta_str(object, "deletionTimestamp", time);
}

pub fn set_deletion_grace_period_seconds(object: &mut Value, seconds: i64) {
    metadata_mut(object).insert("deletionGracePeriodSeconds".into(), seconds.into());
}

pub fn set_generation(object: &mut Value, generation: i64) {
    metadata_mut(object).insert("generation".into(), generation.into());
}

fn strings<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    let map = object.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)))
}

fn string_in<'a>(object: &'a Value, map: &str, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get(map)?.get(key)?.as_str()
}

pub fn labels(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    strings(object, "labels")
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    string_in(object, "labels", key)
}

pub fn set_label(object: &mut Value, key: &str, value: &str) {
    set_in(object, "labels", key, value);
}

pub fn annotations(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    strings(object, "annotations")
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    string_in(object, "annotations", key)
}

pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    set_in(object, "annotations", key, value);
}

pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    let list = object.get("metadata").and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

pub fn set_finalizers(object: &mut Value, finalizers: &[&str]) {
    let meta = metadata_mut(object);
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".into(), finalizers.into());
    }
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnerReference<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

pub fn owner_references(object: &Value) -> impl Iterator<Item = OwnerReference<'_>> {
    let list = object.get("metadata").and_then(|m| m.get("ownerReferences")).and_then(Value::as_array);
    let flag = |owner: &Value, key| owner.get(key).and_then(Value::as_bool).unwrap_or_default();
    list.into_iter().flatten().map(move |owner| OwnerReference {
        api_version: str_of(owner, "apiVersion"),
        kind: str_of(owner, "kind"),
        name: str_of(owner, "name"),
        uid: str_of(owner, "uid"),
        controller: flag(owner, "controller"),
        block_owner_deletion: flag(owner, "blockOwnerDeletion"),
    })
}

pub fn controller_of(object: &Value) -> Option<OwnerReference<'_>> {
    owner_references(object).find(|owner| owner.controller)
}

/// The value at a path of member names: `at(pod, &["spec", "nodeName"])`.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// The string at a path, `""` when there is none.
pub fn str_at<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_read_and_written() {
        let mut object = json!({"kind": "X", "metadata": {"name": "a", "labels": null, "ownerReferences": [{"uid": "u", "controller": true}]}});
        assert_eq!((name(&object), namespace(&object), deletion_timestamp(&object)), ("a", "", None));
        assert_eq!(controller_of(&object).map(|owner| owner.uid), Some("u"));
        set_label(&mut object, "k", "v");
        set_annotation(&mut object, "k", "v");
        set_namespace(&mut object, "n");
        set_name(&mut object, "");
        set_finalizers(&mut object, &["f"]);
        assert_eq!((label(&object, "k"), annotation(&object, "k"), namespace(&object)), (Some("v"), Some("v"), "n"));
        assert_eq!((object["metadata"].get("name"), finalizers(&object).collect::<Vec<_>>()), (None, vec!["f"]));
        assert_eq!(labels(&object).collect::<Vec<_>>(), [("k", "v")]);
        assert_eq!(str_at(&object, &["metadata", "namespace"]), "n");
    }
}
