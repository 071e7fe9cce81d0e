//! Deleting a definition deletes its objects first (`pkg/controller/finalizer/crd_finalizer.go`).

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;
use xebec_apiextensions::definition::{CLEANUP, conditions};
use xebec_machinery::object;
use xebec_registry::value::string;
use xebec_store::cache::{At, Filter, Query, Snapshot};
use xebec_store::{Expect, Op, Txn};

use super::write_status;
use crate::app::App;
use crate::server::{LocalService, hooks};

/// Does what can be done now; false if objects are left.
pub async fn finalize(app: &App, service: &LocalService, definition: &Value) -> bool {
    if !object::finalizers(definition).any(|f| f == CLEANUP) {
        return true;
    }
    let Ok(snapshot) = instances(app, definition).await else { return false };
    if !snapshot.objects.is_empty() {
        delete(app, service, definition, &snapshot).await;
        let left = instances(app, definition).await.is_ok_and(|left| !left.objects.is_empty());
        if left {
            let mut new = definition.clone();
            let message = "CustomResource deletion is in progress";
            conditions::set_terminating(&mut new, "True", "InstanceDeletionInProgress", message, &app.now_rfc3339());
            if new != *definition {
                _ = write_status(service, &new).await;
            }
            return false;
        }
    }
    let mut done = definition.clone();
    let message = "removed all instances";
    conditions::set_terminating(&mut done, "False", "InstanceDeletionCompleted", message, &app.now_rfc3339());
    let others: Vec<&str> = object::finalizers(definition).filter(|f| *f != CLEANUP).collect();
    object::set_finalizers(&mut done, &others);
    write_status(service, &done).await
}

/// Every stored object of a definition, whatever its version.
async fn instances(app: &App, definition: &Value) -> xebec_store::Result<Snapshot> {
    let storage = format!("{}/{}", string(definition, "spec.group"), string(definition, "spec.names.plural"));
    app.cache.list(&Query { resource: &storage, filter: Filter::all(), at: At::Consistent, ..Query::default() }).await
}

async fn delete(app: &App, service: &LocalService, definition: &Value, snapshot: &Snapshot) {
    let (group, plural) = (string(definition, "spec.group"), string(definition, "spec.names.plural"));
    let table = app.kinds.custom();
    let Some(served) = table.all().iter().find(|r| r.is(group, plural)) else {
        // Nobody can reach these objects any more, and so nobody can finish their finalizers.
        for object in &snapshot.objects {
            let txn =
                Txn { key: object.key().to_string(), expect: Expect::Revision(object.revision()), op: Op::Delete };
            if let Err(error) = app.store.txn(txn).await {
                tracing::warn!(key = %object.key(), error = xebec_store::chain(&error), "object not deleted");
            }
        }
        return;
    };
    let root = format!("/apis/{group}/{}", served.row.version);
    let collections: BTreeSet<String> = match served.namespaced() {
        true => snapshot.objects.iter().map(|o| format!("{root}/namespaces/{}/{plural}", o.namespace())).collect(),
        false => BTreeSet::from([format!("{root}/{plural}")]),
    };
    for path in collections {
        if let Err(error) = hooks::send(service, Method::DELETE, &path, None).await {
            tracing::warn!(path, error, "objects not deleted");
        }
    }
}
