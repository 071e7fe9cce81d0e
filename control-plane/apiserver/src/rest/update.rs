//! UPDATE, and the loop that every change of an existing object goes through.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use xebec_machinery::{Status, object};
use xebec_registry::certificates;
use xebec_registry::core::namespace;
use xebec_registry::pod::{ephemeral, resize};
use xebec_registry::value::same;
use xebec_store::{Expect, Revision};

use super::store::{self, Written};
use super::write::{self, admit, aside, validate_admission};
use super::{Answer, Call, convert, create_object, decode, encode, managed, meta};
use crate::admission::Operation;
use crate::app::parse;
use crate::options::WriteOptions;

/// Which part of the object a request writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Main,
    Status,
    /// `certificatesigningrequests/approval`
    Approval,
    /// `namespaces/finalize`
    Finalize,
    /// `pods/ephemeralcontainers`
    EphemeralContainers,
    /// `pods/resize`
    Resize,
    /// A change that the server itself decides (binding): no strategy, no admission.
    Server,
}

/// An object as it is stored.
pub struct Existing {
    pub value: Value,
    pub revision: Revision,
}

/// Bounds retries of writes that may retry; each means that another writer made progress.
const ATTEMPTS_MAX: usize = 64;

pub async fn update(call: &Call, body: Bytes) -> Answer {
    update_part(call, body, Part::Main).await
}

pub async fn update_part(call: &Call, body: Bytes, part: Part) -> Answer {
    let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
    let resource = &call.resource;
    let mut sent = decode::object(call, &body, &resource.gvk, resource.definition(), options.field_validation)?;
    meta::match_name(call, &mut sent)?;
    meta::match_namespace(call, &mut sent)?;
    convert::stored(resource, &mut sent);
    if part == Part::Main {
        write::default(resource, &mut sent);
    }
    match change(call, &options, part, |_| Ok(sent.clone())).await? {
        Some(value) => encode::object(call, StatusCode::OK, convert::shown(resource, value)?),
        None if part == Part::Main && resource.strategy.allow_create_on_update() => {
            let value = create_object(call, sent, &options).await?;
            encode::object(call, StatusCode::CREATED, value)
        }
        None => Err(resource.not_found(call.name())),
    }
}

/// Writes what `produce` makes of the present object; `None` if there is no object.
///
/// What `produce` returns carries the version that it was made from. If it demands another version than the stored one the
/// change is refused; if it demands none or the stored one, it is made again from whatever another writer stored meanwhile.
pub async fn change(
    call: &Call,
    options: &WriteOptions,
    part: Part,
    produce: impl Fn(&Value) -> Result<Value, Status>,
) -> Result<Option<Value>, Status> {
    let mut fresh = false;
    let mut next = None;
    for _ in 0..ATTEMPTS_MAX {
        let existing = match next.take() {
            Some(existing) => Some(existing),
            None => load(call, fresh).await?,
        };
        let Some(existing) = existing else { return Ok(None) };
        let attempt = async {
            let new = produce(&existing.value)?;
            let pinned = check_version(call, &new, &existing)?;
            Ok((prepare(call, options, part, new, &existing.value).await?, pinned))
        };
        let (mut new, pinned) = match attempt.await {
            Ok(prepared) => prepared,
            // Perhaps the cache is behind: the answer must be about the newest state.
            Err(_) if !fresh => {
                fresh = true;
                continue;
            }
            Err(status) => return Err(status),
        };
        match commit(call, options, part, &mut new, &existing).await? {
            Commit::Done => return Ok(Some(new)),
            Commit::Gone => return Ok(None),
            Commit::Raced(_) if pinned => {
                return Err(Status::modified(&call.resource.gr, call.name()));
            }
            Commit::Raced(newer) => next = Some(newer),
        }
    }
    Err(Status::modified(&call.resource.gr, call.name()))
}

/// The object of the call's path.
pub async fn load(call: &Call, fresh: bool) -> Result<Option<Existing>, Status> {
    let (resource, namespace, name) = (&call.resource, call.namespace(), call.name());
    let object = match fresh {
        true => call.app.find_consistent(resource, namespace, name).await?,
        false => call.app.find(resource, namespace, name).await?,
    };
    object
        .map(|object| Ok(Existing { value: resource.in_this_version(parse(&object)?), revision: object.revision() }))
        .transpose()
}

/// Whether the client demands the version that is stored; an error if it demands another.
fn check_version(call: &Call, new: &Value, existing: &Existing) -> Result<bool, Status> {
    let resource = &call.resource;
    let wanted = object::resource_version(new);
    let uid = object::uid(new);
    if !uid.is_empty() && uid != object::uid(&existing.value) {
        let stored = object::uid(&existing.value);
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}");
        return Err(Status::conflict(&resource.gr, call.name(), why));
    }
    match wanted {
        "" | "0" if !resource.strategy.allow_unconditional_update() => {
            use xebec_machinery::field::{Error, Path};
            let error = Error::invalid(&Path::new("metadata.resourceVersion"), 0, "must be specified for an update");
            Err(Status::invalid(&resource.gk, call.name(), vec![error]))
        }
        "" | "0" => Ok(false),
        wanted if wanted == existing.revision.to_string() => Ok(call.info.verb == crate::request_info::Verb::Update),
        _ => Err(Status::modified(&resource.gr, call.name())),
    }
}

/// Everything between decoding and storing.
async fn prepare(
    call: &Call,
    options: &WriteOptions,
    part: Part,
    mut new: Value,
    old: &Value,
) -> Result<Value, Status> {
    let (resource, strategy) = (&call.resource, &call.resource.strategy);
    object::set_resource_version(&mut new, object::resource_version(old));
    meta::carry_over(&mut new, old);
    if part == Part::Server {
        return Ok(new);
    }
    let subresource = call.info.subresource.as_str();
    if matches!(part, Part::Main | Part::EphemeralContainers | Part::Resize) {
        write::default(resource, &mut new);
    }
    // Owners are of what was sent and its defaults, not of what admission and the strategy make of it (apiserver's `handlers/update.go`). An apply has
    // recorded its owners itself.
    if !call.is_apply() {
        if !matches!(part, Part::Main | Part::Status) {
            keep_unwritten(call, part, &mut new, old);
        }
        managed::update(call, Some(old), &mut new, options, subresource);
    }
    let mut new = admit(call, Operation::Update, new, Some(old), options.dry_run).await?;
    match part {
        Part::Main => {
            write::default(resource, &mut new);
            strategy.prepare_for_update(&call.context(), &mut new, old);
        }
        Part::Status => strategy.prepare_for_status_update(&call.context(), &mut new, old),
        _ => keep_unwritten(call, part, &mut new, old),
    }
    if matches!(part, Part::Main | Part::EphemeralContainers | Part::Resize) {
        count_generation(resource, &mut new, old);
    }
    let errors = aside(resource, || match part {
        Part::Main => strategy.validate_update(&new, old),
        Part::Status => strategy.validate_status_update(&new, old),
        Part::Approval => certificates::validate_approval(&new, old),
        Part::Finalize => namespace::validate_finalize(&new, old),
        Part::EphemeralContainers => ephemeral::validate(&new, old),
        Part::Resize => resize::validate(&new, old),
        Part::Server => Vec::new(),
    });
    if !errors.is_empty() {
        return Err(Status::invalid(&resource.gk, call.name(), errors));
    }
    if part == Part::Main {
        strategy.warnings(&new, Some(old)).into_iter().for_each(|text| call.warn(text));
    }
    validate_admission(call, Operation::Update, &mut new, Some(old), options.dry_run).await?;
    if part == Part::Main {
        super::escalation::check(call, &new, Some(old)).await?;
    }
    Ok(new)
}

/// What a subresource does not write stays as it is.
fn keep_unwritten(call: &Call, part: Part, new: &mut Value, old: &Value) {
    match part {
        Part::Approval => certificates::prepare_for_approval(&call.context(), new, old),
        Part::Finalize => namespace::prepare_for_finalize(new, old),
        Part::EphemeralContainers => ephemeral::prepare(new, old),
        Part::Resize => resize::prepare(new, old),
        Part::Main | Part::Status | Part::Server => {}
    }
}

fn count_generation(resource: &crate::kinds::Resource, new: &mut Value, old: &Value) {
    if resource.strategy.has_generation() && resource.strategy.spec_changed(new, old) {
        object::set_generation(new, object::generation(old) + 1);
    }
}

enum Commit {
    Done,
    Gone,
    /// Another writer was faster; this is what it stored.
    Raced(Existing),
}

async fn commit(
    call: &Call,
    options: &WriteOptions,
    part: Part,
    new: &mut Value,
    existing: &Existing,
) -> Result<Commit, Status> {
    let resource = &call.resource;
    let key = resource.key(call.namespace(), call.name());
    let version = existing.revision.to_string();
    let lease = match part {
        Part::Main => call.app.services.for_update(resource, new, &existing.value)?,
        _ => call.app.services.nothing(),
    };
    if options.dry_run {
        object::set_resource_version(new, &version);
        return Ok(Commit::Done);
    }
    let last_finalizer = is_last_finalizer(resource, new, &existing.value);
    if !last_finalizer && unchanged(new, &existing.value) {
        new.clone_from(&existing.value);
        return Ok(Commit::Done);
    }
    let store = &*call.app.store;
    let mut lease = lease.claim(&call.app, resource, new, Some(&existing.value)).await?;
    let written = if last_finalizer {
        let written = store::remove(&call.app, &key, existing.revision).await?;
        if let Written::At(revision) = written {
            object::set_resource_version(new, &revision.to_string());
            call.app.services.release(&*call.app.store, resource, new).await;
        }
        written
    } else {
        store::put_object(&call.app, resource, &key, Expect::Revision(existing.revision), new).await?
    };
    match written {
        Written::At(_) => {
            lease.keep(store, new).await;
            Ok(Commit::Done)
        }
        Written::Conflict(entry) => {
            lease.abandon(store, new).await;
            let Some(entry) = entry else { return Ok(Commit::Gone) };
            let value = resource.in_this_version(store::from_entry(&entry)?);
            Ok(Commit::Raced(Existing { value, revision: entry.mod_revision }))
        }
    }
}

/// Whether nothing but the times of field ownership differs: such an update is not written.
fn unchanged(new: &Value, old: &Value) -> bool {
    let strip = |value: &Value| {
        let mut value = value.clone();
        let metadata = object::metadata_mut(&mut value);
        metadata.remove("resourceVersion");
        // Owners apart: a field in a set is an empty object, which `same` would not miss.
        let mut owners = metadata.remove("managedFields").unwrap_or_default().as_array().cloned().unwrap_or_default();
        owners.iter_mut().filter_map(Value::as_object_mut).for_each(|entry| _ = entry.remove("time"));
        owners.sort_by_cached_key(Value::to_string);
        (value, owners)
    };
    let ((new_rest, new_owners), (old_rest, old_owners)) = (strip(new), strip(old));
    new.get("spec") == old.get("spec")
        && new.get("status") == old.get("status")
        && new_owners == old_owners
        && same(&new_rest, &old_rest)
}

/// Whether this update takes away the last thing that kept a deleted object (`ShouldDeleteDuringUpdate`).
fn is_last_finalizer(resource: &crate::kinds::Resource, new: &Value, old: &Value) -> bool {
    if object::deletion_timestamp(old).is_none() || object::finalizers(new).next().is_some() {
        return false;
    }
    if resource.is("", "namespaces") {
        return new.pointer("/spec/finalizers").and_then(Value::as_array).is_none_or(Vec::is_empty);
    }
    object::deletion_grace_period_seconds(old).unwrap_or(0) == 0
}
