//! DELETE and DELETECOLLECTION: at once, after a grace period, or when the last finalizer goes.

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use serde_json::{Value, json};
use xebec_machinery::{GroupResource, Status, object};
use xebec_registry::{Grace, Strategy};
use xebec_store::Expect;

use super::store::{self, Written};
use super::update::{Existing, load};
use super::write::{admit, validate_admission};
use super::{Answer, Call, convert, decode, encode, list};
use crate::admission::Operation;
use crate::kinds::Resource;
use crate::options::{DeleteOptions, ListOptions, Propagation};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// As upstream's `--delete-collection-workers` and then some: deletions wait for the disk, not for the CPU.
const COLLECTION_WORKERS: usize = 16;

/// What a DELETE led to.
pub enum Deleted {
    Gone(Value),
    /// The object stays until its grace period or its finalizers are over.
    Marked(Value),
}

pub async fn delete(call: &Call, body: Bytes) -> Answer {
    let options = DeleteOptions::parse(&call.query, &decode::delete_options(call, &body)?)?;
    warn_of_orphans(call, &options);
    match delete_object(call, &options).await? {
        Deleted::Gone(object) if !returns_object(&call.resource) => {
            encode::value(call, StatusCode::OK, encode::deleted_status(call, &object))
        }
        Deleted::Gone(object) | Deleted::Marked(object) => {
            encode::object(call, StatusCode::OK, convert::shown(&call.resource, object)?)
        }
    }
}

/// Kinds whose store says `ReturnDeletedObject` upstream.
fn returns_object(resource: &Resource) -> bool {
    resource.row.group.is_empty() && matches!(resource.row.plural, "pods" | "services" | "serviceaccounts")
}

/// Deletes the object of the call's path, or begins to.
pub async fn delete_object(call: &Call, options: &DeleteOptions) -> Result<Deleted, Status> {
    let mut fresh = false;
    let mut next = None;
    loop {
        let existing = match next.take() {
            Some(existing) => existing,
            None => load(call, fresh).await?.ok_or_else(|| call.resource.not_found(call.name()))?,
        };
        let plan = match plan(call, options, &existing).await {
            Ok(plan) => plan,
            Err(_) if !fresh => {
                fresh = true;
                continue;
            }
            Err(status) => return Err(status),
        };
        let key = call.resource.key(call.namespace(), call.name());
        let (written, outcome) = match plan {
            Plan::Nothing => return Ok(Deleted::Marked(existing.value)),
            plan if options.dry_run => {
                return Ok(match plan {
                    Plan::Mark(value) => Deleted::Marked(value),
                    _ => Deleted::Gone(existing.value),
                });
            }
            Plan::Mark(mut value) => {
                let expect = Expect::Revision(existing.revision);
                (store::put_object(&call.app, &call.resource, &key, expect, &mut value).await?, Deleted::Marked(value))
            }
            Plan::Remove => {
                let written = store::remove(&call.app, &key, existing.revision).await?;
                let mut value = existing.value;
                if let Written::At(revision) = written {
                    object::set_resource_version(&mut value, &revision.to_string());
                    call.app.services.release(&*call.app.store, &call.resource, &value).await;
                }
                (written, Deleted::Gone(value))
            }
        };
        match written {
            Written::At(_) => return Ok(outcome),
            Written::Conflict(None) => return Err(call.resource.not_found(call.name())),
            Written::Conflict(Some(entry)) => {
                fresh = true;
                let value = call.resource.in_this_version(store::from_entry(&entry)?);
                next = Some(Existing { value, revision: entry.mod_revision });
            }
        }
    }
}

enum Plan {
    Remove,
    Mark(Value),
    /// It is being deleted already, and sooner than this request asks for.
    Nothing,
}

async fn plan(call: &Call, options: &DeleteOptions, existing: &Existing) -> Result<Plan, Status> {
    check_preconditions(call, options, existing)?;
    let old = &existing.value;
    admit(call, Operation::Delete, Value::Null, Some(old), options.dry_run).await?;
    validate_admission(call, Operation::Delete, &mut Value::Null, Some(old), options.dry_run).await?;
    let strategy = &call.resource.strategy;
    let asked = xebec_registry::DeleteOptions { grace_period_seconds: options.grace_period_seconds };
    let grace = match strategy.graceful_delete(old, &asked) {
        Grace::None => 0,
        Grace::Seconds(seconds) => seconds.max(0),
    };
    let finalizers = finalizers(options, old, &**strategy);
    let unfinalized = call.resource.is("", "namespaces")
        && old.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|f| !f.is_empty());
    let begun = object::deletion_timestamp(old).is_some();
    let left = object::deletion_grace_period_seconds(old).unwrap_or(0);
    if grace == 0 && finalizers.is_empty() && !unfinalized {
        return Ok(Plan::Remove);
    }
    let same_finalizers = object::finalizers(old).eq(finalizers.iter().map(String::as_str));
    if begun && (grace >= left || unfinalized) && same_finalizers {
        return Ok(Plan::Nothing);
    }
    let mut new = old.clone();
    if !begun || grace < left {
        // A client may ask for more seconds than there are dates.
        let at = call.app.now().saturating_add(time::Duration::seconds(grace));
        object::set_deletion_timestamp(&mut new, &xebec_machinery::time::rfc3339(at.into()));
        if !call.resource.is("", "namespaces") {
            object::set_deletion_grace_period_seconds(&mut new, grace);
        }
        if !begun && object::generation(old) > 0 {
            object::set_generation(&mut new, object::generation(old) + 1);
        }
    }
    object::set_finalizers(&mut new, &finalizers.iter().map(String::as_str).collect::<Vec<_>>());
    strategy.prepare_for_deletion(&call.context(), &mut new);
    Ok(Plan::Mark(new))
}

fn check_preconditions(call: &Call, options: &DeleteOptions, existing: &Existing) -> Result<(), Status> {
    // As `rest.BeforeDelete`, which names the kind where others name the resource.
    let conflict = |what: &str, wanted: &str, stored: &str, perhaps: &str| {
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({stored}). \
             The object might have been {perhaps}"
        );
        let kind = GroupResource::new(call.resource.row.group, call.resource.row.kind);
        Err(Status::conflict(&kind, call.name(), why))
    };
    let uid = object::uid(&existing.value);
    let revision = existing.revision.to_string();
    match (&options.uid, &options.resource_version) {
        (Some(wanted), _) if wanted != uid => conflict("UID", wanted, uid, "deleted and then recreated"),
        (_, Some(wanted)) if *wanted != revision => conflict("ResourceVersion", wanted, &revision, "modified"),
        _ => Ok(()),
    }
}

fn warn_of_orphans(call: &Call, options: &DeleteOptions) {
    if let Some(text) = call.resource.strategy.deletion_warning().filter(|_| options.propagation.is_none()) {
        call.warn(text);
    }
}

/// The finalizers that the object will have (`deletionFinalizersForGarbageCollection`).
fn finalizers(options: &DeleteOptions, old: &Value, strategy: &dyn Strategy) -> Vec<String> {
    let orphans_by_default = strategy.orphans_by_default();
    let mut finalizers: Vec<String> = object::finalizers(old).map(str::to_owned).collect();
    let decided = finalizers.iter().any(|f| f == ORPHAN || f == FOREGROUND);
    let default = (orphans_by_default && !decided).then_some(Propagation::Orphan);
    let of_kind = strategy.deletion_finalizers(old).iter().filter(|f| !object::finalizers(old).any(|own| own == **f));
    finalizers.extend(of_kind.map(|f| (*f).to_owned()));
    let Some(propagation) = options.propagation.or(default) else { return finalizers };
    finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    finalizers
}

pub async fn delete_collection(call: &Call, body: Bytes) -> Answer {
    let options = DeleteOptions::parse(&call.query, &decode::delete_options(call, &body)?)?;
    warn_of_orphans(call, &options);
    let selection = ListOptions::parse(&call.query, false)?;
    let snapshot = list::snapshot(call, &selection).await?;
    let mut deletions = Vec::with_capacity(snapshot.objects.len());
    for object in &snapshot.objects {
        deletions.push(delete_one(call.for_object(object.namespace(), object.name()), options.clone()));
    }
    let outcomes: Vec<_> = futures::stream::iter(deletions).buffered(COLLECTION_WORKERS).collect().await;
    let mut items = Vec::new();
    for outcome in outcomes {
        if let Some(value) = outcome? {
            items.push(encode::shape(call, convert::shown(&call.resource, value)?));
        }
    }
    let list = json!({
        "kind": call.resource.list_kind(),
        "apiVersion": call.resource.api_version,
        "metadata": list::list_meta(&snapshot),
        "items": items,
    });
    encode::value(call, StatusCode::OK, list)
}

/// `None` if somebody else deleted the object, which is what was asked for.
async fn delete_one(call: Call, options: DeleteOptions) -> Result<Option<Value>, Status> {
    match delete_object(&call, &options).await {
        Ok(Deleted::Gone(value) | Deleted::Marked(value)) => Ok(Some(value)),
        Err(status) if status.code == 404 || status.code == 409 => Ok(None),
        Err(status) => Err(status),
    }
}
