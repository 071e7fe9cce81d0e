//! Server-side apply: who owns which field, what an applied configuration makes of an object, and who else's fields it would change.

mod managed;
mod typed;

use serde_json::{Map, Value};

use self::managed::{Entry, Managers, Operation};
use super::PatchSchema;
use super::fields::FieldSet;
use crate::Status;
use crate::object;
use crate::status::{Cause, Reason};

/// The annotation in which `kubectl apply` without `--server-side` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// All annotations together may have so many bytes (`TotalAnnotationSizeLimitB`).
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

/// Fields nobody owns.
const UNOWNED: [&[&str]; 10] = [
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// Who writes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// `fieldManager`, or the start of the user agent.
    pub name: &'a str,
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// As [`crate::time::rfc3339`] writes it.
    pub now: &'a str,
    /// Fields this endpoint does not write: `status` for the object itself, `spec` for its status.
    pub ignored: &'a [&'a [&'a str]],
}

/// Applies `config` to `live`, or creates an object from it. Both must be canonical already, or a value written in two ways would count as changed. The result carries its `managedFields`; it equals `live` if nothing changed.
pub fn apply<S: PatchSchema>(
    live: Option<&Value>,
    config: &Value,
    schema: S,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, Status> {
    if object::at(config, &["metadata", "managedFields"]).is_some_and(|m| !m.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let mut config = config.clone();
    manager.ignored.iter().for_each(|path| remove(&mut config, path));
    let mut applied = typed::fields_of(&config, schema).map_err(|problem| untyped(&config, &problem))?;
    disown(&mut applied, manager);

    let mut managers = live.map(Managers::decode).unwrap_or_default();
    if let Some(live) = live.filter(|_| managers.is_empty()) {
        let mut set = typed::changed(&Value::Object(Map::new()), live, schema);
        disown(&mut set, &Manager { ignored: &[], ..*manager });
        managers.entries.push(Entry::update("before-first-apply", manager, set));
    }
    let before = managers.clone();

    let empty = Value::Object(Map::new());
    let old = live.unwrap_or(&empty);
    let mut merged = typed::merge(old, &config, schema);
    let mine = managers.index_of(manager, Operation::Apply);
    let last = mine.map(|i| managers.entries.remove(i));
    managers.entries.push(Entry::apply(manager, applied));
    if let Some(last) = &last {
        let owned = managers.union();
        typed::prune(&mut merged, &last.set, &owned, schema);
    }
    without_managed_fields(&mut merged);

    let changed = typed::changed(old, &merged, schema);
    if manager.name == "kubectl" && manager.subresource.is_empty() {
        sync_last_applied(&mut merged, &config);
    }
    let force = force || may_take_over(live, manager, schema, &managers, &changed);
    take(&mut managers, &changed, force)?;
    managers.keep_existing(&merged, schema);
    if let Some(live) = live {
        let mut unmanaged = live.clone();
        without_managed_fields(&mut unmanaged);
        if unmanaged == merged && managers.same_owners(&before) {
            return Ok(live.clone());
        }
    }
    managers.encode_into(&mut merged);
    Ok(merged)
}

/// A configuration that does not fit its type. Upstream has no code for this, so it is 500 without a reason (`structuredmerge.go`).
pub fn untyped(config: &Value, problem: &str) -> Status {
    let version = object::api_version(config);
    // As Go prints a GroupVersionKind: the core group is empty.
    let slash = if version.contains('/') { "" } else { "/" };
    let (namespace, name, kind) = (object::namespace(config), object::name(config), object::kind(config));
    let message =
        format!("failed to create typed patch object ({namespace}/{name}; {slash}{version}, Kind={kind}): {problem}");
    Status::new(500, Reason::Unknown, message)
}

/// Notes in `new` who owns what after an update (PUT, or a patch that is no apply) by `manager`; `live` is the object before, none on create.
pub fn update_managed_fields<S: PatchSchema>(live: Option<&Value>, new: &mut Value, schema: S, manager: &Manager<'_>) {
    let given = object::at(new, &["metadata", "managedFields"]).cloned();
    // A list with one empty entry, or an empty list, asks to forget.
    let reset = match &given {
        Some(Value::Array(entries)) => entries.iter().all(|e| e.as_object().is_some_and(Map::is_empty)),
        _ => false,
    };
    let mut managers = Managers::default();
    let before = live.map(Managers::decode).unwrap_or_default();
    let direct = manager.subresource.is_empty() && given.is_some() && !reset;
    if direct {
        managers = Managers::decode(new);
    }
    if managers.is_empty() && !reset {
        managers.clone_from(&before);
    }
    without_managed_fields(new);
    // What nobody is known to own stays so until somebody applies (`skipnonapplied.go`).
    if live.is_some() && (reset || managers.is_empty()) {
        return;
    }
    let sent = set_unwritten(live, new, manager);
    let empty = Value::Object(Map::new());
    let mut changed = typed::changed(live.unwrap_or(&empty), new, schema);
    disown(&mut changed, manager);
    for entry in &mut managers.entries {
        if !entry.is(manager, Operation::Update) {
            entry.set.subtract(&changed);
        }
    }
    if !changed.is_empty() {
        match managers.index_of(manager, Operation::Update) {
            Some(mine) => {
                let entry = &mut managers.entries[mine];
                entry.set.union(&changed);
                manager.now.clone_into(&mut entry.time);
            }
            None => managers.entries.push(Entry::update(manager.name, manager, changed)),
        }
    }
    managers.keep_existing(new, schema);
    managers.cap(manager);
    for (path, value) in sent {
        set(new, path, value);
    }
    managers.encode_into(new);
}

/// Gives what this endpoint does not write the values that it has, so that nobody loses or gets it; answers what was sent in their place.
fn set_unwritten<'a>(
    live: Option<&Value>,
    new: &mut Value,
    manager: &Manager<'a>,
) -> Vec<(&'a [&'a str], Option<Value>)> {
    let unwritten = manager.ignored.iter();
    unwritten.map(|path| (*path, set(new, path, live.and_then(|live| object::at(live, path)).cloned()))).collect()
}

/// Takes fields that change away from their other owners, which is a conflict unless forced. The applier is the last entry.
fn take(managers: &mut Managers, changed: &FieldSet, force: bool) -> Result<(), Status> {
    let Some((_, others)) = managers.entries.split_last_mut() else { return Ok(()) };
    let conflicts: Vec<(String, Vec<String>)> = others
        .iter()
        .map(|other| (other.shown(), other.set.intersection(changed).paths()))
        .filter(|(_, paths)| !paths.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(conflict(conflicts));
    }
    others.iter_mut().for_each(|other| other.set.subtract(changed));
    Ok(())
}

fn conflict(mut conflicts: Vec<(String, Vec<String>)>) -> Status {
    conflicts.sort();
    let cause = |manager: &str, path: &str| Cause {
        reason: "FieldManagerConflict".into(),
        message: format!("conflict with {manager}"),
        field: path.to_owned(),
    };
    let causes: Vec<Cause> =
        conflicts.iter().flat_map(|(manager, paths)| paths.iter().map(move |path| cause(manager, path))).collect();
    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => {
            let lines = conflicts.iter().map(|(manager, paths)| {
                let paths: Vec<_> = paths.iter().map(|path| format!("- {path}")).collect();
                format!("conflicts with {manager}:\n{}", paths.join("\n"))
            });
            let lines: Vec<_> = lines.collect();
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    Status::apply_conflict(causes, message)
}

/// `kubectl apply --server-side` may take the fields that `kubectl apply` wrote before, as the annotation tells.
fn may_take_over<S: PatchSchema>(
    live: Option<&Value>,
    manager: &Manager<'_>,
    schema: S,
    managers: &Managers,
    changed: &FieldSet,
) -> bool {
    let last = live.filter(|_| manager.name == "kubectl").and_then(|live| object::annotation(live, LAST_APPLIED));
    let Some(last) = last.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return false };
    let Ok(mut allowed) = typed::fields_of(&last, schema) else { return false };
    let annotation =
        FieldSet::decode(&serde_json::json!({"f:metadata": {"f:annotations": {format!("f:{LAST_APPLIED}"): {}}}}));
    allowed.union(&annotation);
    managers.entries.iter().rev().skip(1).all(|other| {
        let mut conflicting = other.set.intersection(changed);
        conflicting.subtract(&allowed);
        conflicting.is_empty()
    })
}

/// Where `kubectl apply` left its annotation, `kubectl apply --server-side` keeps it true, so that the former can take over again
/// (`lastappliedupdater.go`).
fn sync_last_applied(merged: &mut Value, config: &Value) {
    if object::annotation(merged, LAST_APPLIED).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    remove(&mut config, &["metadata", "annotations", LAST_APPLIED]);
    object::set_annotation(merged, LAST_APPLIED, &format!("{config}\n"));
    let bytes: usize = object::annotations(merged).map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        remove(merged, &["metadata", "annotations", LAST_APPLIED]);
    }
}

/// Takes out what nobody may own, and what this endpoint does not write.
fn disown(set: &mut FieldSet, manager: &Manager<'_>) {
    UNOWNED.iter().chain(manager.ignored).for_each(|path| set.remove(path));
    let metadata = super::fields::member("metadata");
    if let Some(meta) = set.children.get_mut(&metadata) {
        meta.owned = false;
        if meta.is_empty() {
            set.children.remove(&metadata);
        }
    }
}

fn without_managed_fields(object: &mut Value) {
    remove(object, &["metadata", "managedFields"]);
}

/// Sets the value at a path, or removes it; answers what was there. Nothing is set below what is no object.
fn set(object: &mut Value, path: &[&str], value: Option<Value>) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(object, |object, name| object.get_mut(*name))?.as_object_mut()?;
    match value {
        Some(value) => parent.insert((*last).to_owned(), value),
        None => parent.remove(*last),
    }
}

fn remove(object: &mut Value, path: &[&str]) {
    match path {
        [] => {}
        [name] => _ = object.as_object_mut().map(|map| map.remove(*name)),
        [name, rest @ ..] => {
            if let Some(child) = object.get_mut(*name) {
                remove(child, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
