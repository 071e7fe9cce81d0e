//! `metadata.managedFields`: a list of managers with the fields each owns.

use serde_json::{Value, json};

use super::Manager;
use super::typed;
use crate::object;
use crate::patch::PatchSchema;
use crate::patch::fields::FieldSet;

/// More managers that update than this are merged into one (upstream's `DefaultMaxUpdateManagers`).
const UPDATE_MANAGERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Operation {
    Apply,
    Update,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    name: String,
    operation: Operation,
    api_version: String,
    subresource: String,
    pub(super) time: String,
    pub(super) set: FieldSet,
}

impl Entry {
    fn new(name: &str, operation: Operation, manager: &Manager<'_>, set: FieldSet) -> Self {
        Self {
            name: name.to_owned(),
            operation,
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
            time: manager.now.to_owned(),
            set,
        }
    }

    pub(super) fn apply(manager: &Manager<'_>, set: FieldSet) -> Self {
        Self::new(manager.name, Operation::Apply, manager, set)
    }

    pub(super) fn update(name: &str, manager: &Manager<'_>, set: FieldSet) -> Self {
        Self::new(name, Operation::Update, manager, set)
    }

    /// Appliers are the same whatever version they apply.
    pub(super) fn is(&self, manager: &Manager<'_>, operation: Operation) -> bool {
        self.name == manager.name
            && self.operation == operation
            && self.subresource == manager.subresource
            && (operation == Operation::Apply || self.api_version == manager.api_version)
    }

    fn owns_what(&self, other: &Self) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && self.api_version == other.api_version
            && self.set == other.set
    }

    /// As messages about conflicts name it.
    pub(super) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    fn decode(entry: &Value) -> Option<Self> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match entry.get("operation")?.as_str()? {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Self {
            name: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            set: FieldSet::decode(entry.get("fieldsV1")?),
        })
    }

    fn encode(&self) -> Value {
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut entry = json!({
            "manager": self.name, "operation": operation, "apiVersion": self.api_version, "time": self.time,
            "fieldsType": "FieldsV1", "fieldsV1": self.set.encode(),
        });
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.as_str().into();
        }
        entry
    }
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Managers {
    pub(super) entries: Vec<Entry>,
}

impl Managers {
    /// From an object; entries that make no sense are left out.
    pub(super) fn decode(object: &Value) -> Self {
        let list = object::at(object, &["metadata", "managedFields"]).and_then(Value::as_array);
        Self { entries: list.into_iter().flatten().filter_map(Entry::decode).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn index_of(&self, manager: &Manager<'_>, operation: Operation) -> Option<usize> {
        self.entries.iter().position(|entry| entry.is(manager, operation))
    }

    pub(super) fn union(&self) -> FieldSet {
        let mut all = FieldSet::default();
        self.entries.iter().for_each(|entry| all.union(&entry.set));
        all
    }

    /// Nobody owns what is not there.
    pub(super) fn keep_existing<S: PatchSchema>(&mut self, object: &Value, schema: S) {
        for entry in &mut self.entries {
            typed::keep_existing(&mut entry.set, object, schema);
        }
        self.entries.retain(|entry| !entry.set.is_empty());
    }

    /// Whether the same managers own the same fields, whenever they wrote them.
    pub(super) fn same_owners(&self, before: &Self) -> bool {
        let in_before = |entry: &Entry| before.entries.iter().any(|old| entry.owns_what(old));
        self.entries.len() == before.entries.len() && self.entries.iter().all(in_before)
    }

    /// Merges the oldest updates into one entry when there are too many.
    pub(super) fn cap(&mut self, manager: &Manager<'_>) {
        let updates = |entries: &[Entry]| entries.iter().filter(|e| e.operation == Operation::Update).count();
        while updates(&self.entries) > UPDATE_MANAGERS_MAX {
            let named = |e: &&Entry| e.operation == Operation::Update && e.name != ANCIENT;
            let Some(oldest) = self.entries.iter().filter(named).min_by(|a, b| a.time.cmp(&b.time)).cloned() else {
                return;
            };
            self.entries.retain(|entry| *entry != oldest);
            match self.entries.iter_mut().find(|e| e.name == ANCIENT && e.api_version == oldest.api_version) {
                Some(ancient) => {
                    ancient.set.union(&oldest.set);
                    ancient.time = oldest.time;
                }
                None => {
                    let at =
                        Manager { api_version: &oldest.api_version, now: &oldest.time, subresource: "", ..*manager };
                    self.entries.push(Entry::update(ANCIENT, &at, oldest.set.clone()));
                }
            }
            // Two entries became one, or the first of its kind was made: then one more must go.
        }
    }

    pub(super) fn encode_into(mut self, object: &mut Value) {
        let order =
            |e: &Entry| (e.operation, e.time.clone(), e.name.clone(), e.api_version.clone(), e.subresource.clone());
        self.entries.sort_by_key(order);
        let meta = object::metadata_mut(object);
        if self.entries.is_empty() {
            meta.remove("managedFields");
        } else {
            meta.insert("managedFields".into(), self.entries.iter().map(Entry::encode).collect());
        }
    }
}
