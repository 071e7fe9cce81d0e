//! Objects with a type: which fields they set, how they merge, what differs, what goes away.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::patch::fields::{FieldSet, member, spelled};
use crate::patch::{ListKind, PatchSchema, Shape};

/// How a value is walked: by members, by items that have identities, or not at all.
enum Walk<'a> {
    Leaf,
    Members(&'a Map<String, Value>),
    Items(&'a [Value], ListKind),
}

fn walk<S: PatchSchema>(value: &Value, schema: S) -> Walk<'_> {
    match (schema.shape(), value) {
        (Shape::Object { atomic: false } | Shape::Deduced, Value::Object(map)) if !map.is_empty() => Walk::Members(map),
        (Shape::List(kind @ (ListKind::Set | ListKind::Map(_))), Value::Array(items)) => Walk::Items(items, kind),
        _ => Walk::Leaf,
    }
}

/// The step to an item of a list; an error names what is missing.
fn step<S: PatchSchema>(item: &Value, kind: ListKind, schema: S) -> Result<String, String> {
    let ListKind::Map(keys) = kind else { return Ok(format!("v:{item}")) };
    let mut id = BTreeMap::new();
    for key in keys {
        let value = match (item.get(key), schema.member_default(key)) {
            (Some(value), _) if !value.is_null() => value.clone(),
            (_, Some(default)) => default.into(),
            _ => {
                return Err(format!(
                    "associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
                ));
            }
        };
        id.insert(*key, value);
    }
    serde_json::to_string(&id).map(|id| format!("k:{id}")).map_err(|e| e.to_string())
}

/// The items of a list by their steps, in order; of items with one step the first counts.
fn items<S: PatchSchema>(list: &[Value], kind: ListKind, schema: S) -> Vec<(String, &Value)> {
    let mut found: Vec<(String, &Value)> = Vec::with_capacity(list.len());
    for item in list {
        if let Ok(step) = step(item, kind, schema)
            && !found.iter().any(|(other, _)| *other == step)
        {
            found.push((step, item));
        }
    }
    found
}

fn find<'a>(items: &[(String, &'a Value)], step: &str) -> Option<&'a Value> {
    items.iter().find(|(other, _)| other == step).map(|(_, item)| *item)
}

/// Whether the members of an object are keys of a map, which are owned themselves, rather than fields of a struct. Only a struct knows its fields.
fn is_map<S: PatchSchema>(schema: S) -> bool {
    schema.member("\0").is_some()
}

/// The fields that a configuration sets.
pub(super) fn fields_of<S: PatchSchema>(value: &Value, schema: S) -> Result<FieldSet, String> {
    let mut set = FieldSet::default();
    match walk(value, schema) {
        Walk::Leaf => set.owned = true,
        Walk::Members(map) => {
            for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
                let ty = schema.member(name).ok_or_else(|| format!(".{name}: field not declared in schema"))?;
                let mut child = fields_of(value, ty).map_err(|e| at(name, &e))?;
                child.owned |= is_map(schema);
                set.put(member(name), child);
            }
        }
        Walk::Items(list, kind) => {
            let schema = schema.item();
            for (index, item) in list.iter().enumerate() {
                let step = step(item, kind, schema).map_err(|e| format!(": element {index}: {e}"))?;
                if set.children.contains_key(&step) {
                    return Err(format!(": duplicate entries for key {}", spelled(&step)));
                }
                let mut child = fields_of(item, schema).map_err(|e| spelled(&step) + &e)?;
                child.owned = true;
                set.put(step, child);
            }
        }
    }
    Ok(set)
}

fn at(name: &str, problem: &str) -> String {
    format!(".{name}{problem}")
}

/// `config` laid over `live`.
pub(super) fn merge<S: PatchSchema>(live: &Value, config: &Value, schema: S) -> Value {
    match (walk(live, schema), walk(config, schema)) {
        (Walk::Members(old), Walk::Members(new)) => {
            let mut merged = old.clone();
            for (name, value) in new.iter().filter(|(_, value)| !value.is_null()) {
                let made = match (old.get(name), schema.member(name)) {
                    (Some(old), Some(ty)) => merge(old, value, ty),
                    _ => value.clone(),
                };
                merged.insert(name.clone(), made);
            }
            merged.into()
        }
        (Walk::Items(old, kind), Walk::Items(new, _)) => merge_items(old, new, kind, schema.item()).into(),
        // An empty object asks for nothing but its existence.
        (Walk::Members(_), Walk::Leaf) if config.as_object().is_some_and(Map::is_empty) && is_granular(schema) => {
            live.clone()
        }
        _ => config.clone(),
    }
}

fn is_granular<S: PatchSchema>(schema: S) -> bool {
    matches!(schema.shape(), Shape::Object { atomic: false } | Shape::Deduced)
}

/// Items of both lists. Those of `new` keep its order; those only in `old` come as early as their old neighbours allow.
fn merge_items<S: PatchSchema>(old: &[Value], new: &[Value], kind: ListKind, schema: S) -> Vec<Value> {
    let (old, new) = (items(old, kind, schema), items(new, kind, schema));
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let mut taken: Vec<&str> = Vec::new();
    let mut left = old.iter().peekable();
    for (step, item) in &new {
        // What stands before this item in the old list, and only there, still does.
        let shared = find(&old, step).is_some() && !taken.contains(&step.as_str());
        while let Some((other, value)) =
            left.next_if(|(other, _)| if shared { other != step } else { find(&new, other).is_none() })
        {
            if find(&new, other).is_none() {
                merged.push((*value).clone());
            }
            taken.push(other);
        }
        if shared {
            _ = left.next();
        }
        merged.push(match find(&old, step) {
            Some(old) => merge(old, item, schema),
            None => (*item).clone(),
        });
    }
    merged.extend(left.filter(|(other, _)| find(&new, other).is_none()).map(|(_, value)| (*value).clone()));
    merged
}

/// The fields of `new` that are not, or not so, in `old` (structured-merge-diff's `Compare`: what it calls added and modified).
pub(super) fn changed<S: PatchSchema>(old: &Value, new: &Value, schema: S) -> FieldSet {
    if old == new {
        return FieldSet::default();
    }
    let mut set = FieldSet::default();
    match (walk(new, schema), old) {
        (Walk::Members(new), Value::Object(_) | Value::Null) => {
            for (name, value) in new.iter().filter(|(_, value)| !value.is_null()) {
                let Some(ty) = schema.member(name) else { continue };
                let child = match old.get(name) {
                    Some(old) => changed(old, value, ty),
                    None => ty.unset().map_or_else(|| added(value, ty), |unset| changed(&unset, value, ty)),
                };
                set.put(member(name), child);
            }
        }
        (Walk::Items(new, kind), Value::Array(_) | Value::Null) => {
            let schema = schema.item();
            let old = items(old.as_array().map_or(&[], Vec::as_slice), kind, schema);
            for (step, item) in items(new, kind, schema) {
                let child = match find(&old, &step) {
                    Some(old) => changed(old, item, schema),
                    None => added(item, schema),
                };
                set.put(step, child);
            }
        }
        // Emptied: what was in it is gone, the object itself did not change.
        (Walk::Leaf, Value::Object(_)) if new.is_object() && is_granular(schema) => {}
        _ => set = added(new, schema),
    }
    set
}

/// All fields of a value that was not there, with every object and list among them. A list that breaks the rules of its type is owned as a whole.
fn added<S: PatchSchema>(value: &Value, schema: S) -> FieldSet {
    let mut set = fields_of(value, schema).unwrap_or_else(|_| FieldSet::leaf());
    set.own();
    set
}

/// Removes what was applied last, in `last`, and nobody owns any more.
pub(super) fn prune<S: PatchSchema>(object: &mut Value, last: &FieldSet, owned: &FieldSet, schema: S) {
    match walk(object, schema) {
        Walk::Leaf => {}
        Walk::Members(_) => {
            let Value::Object(map) = object else { return };
            map.retain(|name, value| {
                let step = member(name);
                let (Some(last), Some(ty)) = (last.children.get(&step), schema.member(name)) else { return true };
                let Some(owned) = owned.children.get(&step) else { return false };
                prune_child(value, last, owned, ty)
            });
        }
        Walk::Items(_, kind) => {
            let Value::Array(list) = object else { return };
            let schema = schema.item();
            list.retain_mut(|item| {
                let Ok(step) = step(item, kind, schema) else { return true };
                let Some(last) = last.children.get(&step) else { return true };
                // An item of which others own only some fields goes: it is its key that holds it.
                match owned.children.get(&step).filter(|owned| owned.owned) {
                    Some(owned) => prune_child(item, last, owned, schema),
                    None => false,
                }
            });
        }
    }
}

/// Prunes below; false if that left nothing of what nobody asked for as such.
fn prune_child<S: PatchSchema>(value: &mut Value, last: &FieldSet, owned: &FieldSet, schema: S) -> bool {
    let had = !is_hollow(value);
    prune(value, last, owned, schema);
    owned.owned || !(had && is_hollow(value))
}

fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Takes out of a set what is not in the object.
pub(super) fn keep_existing<S: PatchSchema>(set: &mut FieldSet, object: &Value, schema: S) {
    match walk(object, schema) {
        // The inside of what is a leaf now is owned by whoever owned any of it.
        Walk::Leaf => {
            set.owned |= !set.children.is_empty() && !is_hollow(object);
            set.children.clear();
        }
        Walk::Members(map) => set.children.retain(|step, child| {
            let name = step.strip_prefix("f:").unwrap_or_default();
            let (Some(value), Some(ty)) = (map.get(name).filter(|v| !v.is_null()), schema.member(name)) else {
                return false;
            };
            keep_existing(child, value, ty);
            !child.is_empty()
        }),
        Walk::Items(list, kind) => {
            let schema = schema.item();
            let items = items(list, kind, schema);
            set.children.retain(|step, child| {
                let Some(item) = find(&items, step) else { return false };
                keep_existing(child, item, schema);
                !child.is_empty()
            });
        }
    }
}
