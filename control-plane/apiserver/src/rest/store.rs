//! The transactions behind the verbs.

use bytes::Bytes;
use serde_json::Value;
use xebec_machinery::{Status, object};
use xebec_store::{Entry, Expect, Op, Outcome, Revision, Txn};

use crate::app::{App, store_error};
use crate::kinds::Resource;

/// What became of a conditional write.
pub enum Written {
    At(Revision),
    Conflict(Option<Entry>),
}

/// The canonical JSON that is stored: without the resourceVersion, which is the store's to say.
pub fn to_bytes(value: &mut Value) -> Result<Bytes, Status> {
    object::metadata_mut(value).remove("resourceVersion");
    serde_json::to_vec(value).map(Bytes::from).map_err(Status::internal)
}

pub fn from_entry(entry: &Entry) -> Result<Value, Status> {
    let mut value: Value = serde_json::from_slice(&entry.value)
        .map_err(|e| Status::internal(format!("stored object {} is not JSON: {e}", entry.key)))?;
    object::set_resource_version(&mut value, &entry.mod_revision.to_string());
    Ok(value)
}

/// Stores `value` under `key` and gives it its version.
pub async fn put(app: &App, key: &str, expect: Expect, value: &mut Value) -> Result<Written, Status> {
    let bytes = to_bytes(value)?;
    let written = txn(app, key, expect, Op::Put(bytes)).await?;
    if let Written::At(revision) = written {
        object::set_resource_version(value, &revision.to_string());
    }
    Ok(written)
}

/// As [`put`], in the version that the resource is stored in.
pub async fn put_object(
    app: &App,
    resource: &Resource,
    key: &str,
    expect: Expect,
    value: &mut Value,
) -> Result<Written, Status> {
    let Some(mut stored) = resource.as_custom().and_then(|custom| custom.stored(value)) else {
        return put(app, key, expect, value).await;
    };
    let written = put(app, key, expect, &mut stored).await?;
    if let Written::At(revision) = written {
        object::set_resource_version(value, &revision.to_string());
    }
    Ok(written)
}

pub async fn remove(app: &App, key: &str, at: Revision) -> Result<Written, Status> {
    txn(app, key, Expect::Revision(at), Op::Delete).await
}

async fn txn(app: &App, key: &str, expect: Expect, op: Op) -> Result<Written, Status> {
    let operation = match (&op, &expect) {
        (Op::Delete, _) => "delete",
        (_, Expect::Absent) => "create",
        _ => "update",
    };
    let _timed = app.metrics.store_request(operation, key);
    match app.store.txn(Txn { key: key.to_owned(), expect, op }).await.map_err(store_error)? {
        Outcome::Committed(revision) => Ok(Written::At(revision)),
        Outcome::Conflict(entry) => Ok(Written::Conflict(entry)),
    }
}
