//! Sets of fields, as `metadata.managedFields` writes them (`FieldsV1`).
//!
//! A step of a path is kept in its written form: `f:name` is a member, `k:{"name":"a"}` the item of a list with that key, `v:"x"` the item with that value,
//! `i:0` the item at that place.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A tree of fields. `owned` says that the field at this node itself is in the set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldSet {
    pub owned: bool,
    pub children: BTreeMap<String, FieldSet>,
}

/// The step to a member of an object.
pub fn member(name: &str) -> String {
    format!("f:{name}")
}

impl FieldSet {
    pub fn leaf() -> Self {
        Self { owned: true, children: BTreeMap::new() }
    }

    pub fn is_empty(&self) -> bool {
        !self.owned && self.children.is_empty()
    }

    /// Adds every node of the tree to the set.
    pub fn own(&mut self) {
        self.owned = true;
        self.children.values_mut().for_each(Self::own);
    }

    /// Adds a child unless it is empty.
    pub fn put(&mut self, step: String, child: Self) {
        if !child.is_empty() {
            self.children.insert(step, child);
        }
    }

    /// Reads `FieldsV1`; steps of unknown form are kept as they are.
    pub fn decode(fields: &Value) -> Self {
        let Value::Object(map) = fields else { return Self::default() };
        if map.is_empty() {
            return Self::leaf();
        }
        let mut set = Self { owned: map.contains_key("."), children: BTreeMap::new() };
        for (step, value) in map.iter().filter(|(step, _)| *step != ".") {
            set.put(step.clone(), Self::decode(value));
        }
        set
    }

    pub fn encode(&self) -> Value {
        let mut map = Map::new();
        if self.owned && !self.children.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        map.extend(self.children.iter().map(|(step, child)| (step.clone(), child.encode())));
        map.into()
    }

    pub fn union(&mut self, other: &Self) {
        self.owned |= other.owned;
        for (step, child) in &other.children {
            self.children.entry(step.clone()).or_default().union(child);
        }
    }

    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { owned: self.owned && other.owned, children: BTreeMap::new() };
        for (step, child) in &self.children {
            if let Some(other) = other.children.get(step) {
                both.put(step.clone(), child.intersection(other));
            }
        }
        both
    }

    /// Takes out every field that is in `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.owned &= !other.owned;
        self.children.retain(|step, child| {
            if let Some(other) = other.children.get(step) {
                child.subtract(other);
            }
            !child.is_empty()
        });
    }

    /// Takes out the member at a path with all below it.
    pub fn remove(&mut self, path: &[&str]) {
        let [name, rest @ ..] = path else { return };
        let step = member(name);
        match self.children.get_mut(&step) {
            Some(child) if !rest.is_empty() => {
                child.remove(rest);
                if child.is_empty() {
                    self.children.remove(&step);
                }
            }
            Some(_) => _ = self.children.remove(&step),
            None => {}
        }
    }

    /// The paths in the set, spelled as upstream does: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect(&mut String::new(), &mut found);
        found
    }

    fn collect(&self, path: &mut String, found: &mut Vec<String>) {
        if self.owned {
            found.push(path.clone());
        }
        for (step, child) in &self.children {
            let length = path.len();
            path.push_str(&spelled(step));
            child.collect(path, found);
            path.truncate(length);
        }
    }
}

/// One step as it is shown to people.
pub(super) fn spelled(step: &str) -> String {
    match step.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("v:", value)) => format!("[={value}]"),
        Some(("k:", keys)) => match serde_json::from_str::<BTreeMap<String, Value>>(keys) {
            Ok(keys) => format!("[{}]", keys.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")),
            Err(_) => format!("[{keys}]"),
        },
        Some((_, index)) => format!("[{index}]"),
        None => step.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sets_are_written_as_fields_v1() {
        let check = |fields: Value, paths: &[&str]| {
            let set = FieldSet::decode(&fields);
            assert_eq!(set.encode(), fields);
            assert_eq!(set.paths(), paths);
        };
        check(json!({"f:spec": {"f:replicas": {}}}), &[".spec.replicas"]);
        check(
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}}),
            &[".spec.containers[name=\"a\"]", ".spec.containers[name=\"a\"].image"],
        );
        check(json!({"f:finalizers": {"v:\"x\"": {}}}), &[".finalizers[=\"x\"]"]);
        check(json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {}}}), &[".ports[port=80,protocol=\"TCP\"]"]);
    }

    #[test]
    fn sets_combine() {
        let set = |fields: Value| FieldSet::decode(&fields);
        let a = set(json!({"f:a": {}, "f:b": {".": {}, "f:c": {}}}));
        let b = set(json!({"f:b": {"f:c": {}, "f:d": {}}}));
        assert_eq!(a.intersection(&b).encode(), json!({"f:b": {"f:c": {}}}));
        let mut union = a.clone();
        union.union(&b);
        assert_eq!(union.encode(), json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}}));
        let mut difference = a.clone();
        difference.subtract(&b);
        assert_eq!(difference.encode(), json!({"f:a": {}, "f:b": {}}));
        difference.remove(&["b"]);
        assert_eq!(difference.encode(), json!({"f:a": {}}));
    }
}
