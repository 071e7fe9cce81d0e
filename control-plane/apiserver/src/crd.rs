//! CustomResourceDefinitions: the resources that they make are served like all others.
//!
//! The table of custom resources follows the definitions in the watch cache. A definition's resources are in the table before its status says
//! `Established`, so that who waits for the condition finds them.

mod finalize;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use xebec_apiextensions::CustomResource;
use xebec_apiextensions::definition::conditions;
use xebec_machinery::status::Reason;
use xebec_machinery::{GroupResource, Status, object};
use xebec_store::cache::{At, Filter, Query, Start, Watcher};

use crate::app::App;
use crate::kinds::{Resource, Table};
use crate::server::{LocalService, hooks};
use crate::user::UserInfo;

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
const STORAGE: &str = "apiextensions.k8s.io/customresourcedefinitions";
const COLLECTION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// How often a deletion looks whether finalizers let its objects go, and writes that failed are tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// A definition and the revision that wrote it.
#[derive(Clone)]
struct Defined {
    value: Arc<Value>,
    revision: u64,
    fingerprint: u64,
}

impl Defined {
    fn new(value: Value, revision: u64) -> Self {
        Self { fingerprint: xebec_apiextensions::fingerprint(&value), value: Arc::new(value), revision }
    }
}

pub fn is_definition(resource: &GroupResource) -> bool {
    resource.group == GROUP && resource.resource == PLURAL
}

/// A definition on its way out takes no more objects.
pub fn may_create(resource: &Resource) -> Result<(), Status> {
    if resource.as_custom().is_some_and(|custom| custom.terminating) {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(Status::new(405, Reason::MethodNotAllowed, why));
    }
    Ok(())
}

/// Serves what the stored definitions define.
pub async fn load(app: &App) -> xebec_store::Result<()> {
    serve(app, &definitions(app, &[]).await?, 0);
    Ok(())
}

/// Follows the definitions until the server stops.
pub async fn run(app: Arc<App>) {
    let service = LocalService::new(app.clone(), UserInfo::loopback());
    let mut watcher: Option<Watcher> = None;
    let mut known = Vec::new();
    loop {
        if watcher.is_none() {
            watcher = app.cache.watch(STORAGE, None, Filter::all(), Start::Snapshot).ok();
        }
        let settled = match definitions(&app, &known).await {
            Ok(definitions) => {
                known.clone_from(&definitions);
                reconcile(&app, &service, definitions).await
            }
            Err(_) => false,
        };
        let news = async {
            match watcher.as_mut() {
                Some(watcher) => watcher.next().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let again = async {
            match settled && !app.stop.is_cancelled() {
                true => std::future::pending().await,
                false => tokio::time::sleep(AGAIN).await,
            }
        };
        tokio::select! {
            () = app.stop.cancelled() => return,
            alive = news => if !alive { watcher = None },
            () = again => {}
        }
        // One pass for all that happened meanwhile.
        while watcher.as_mut().is_some_and(|watcher| matches!(watcher.try_next(), Ok(Some(_)))) {}
    }
}

/// The definitions in the order in which they were made: the first has a right to its names. Those in `known` are not read again.
async fn definitions(app: &App, known: &[Defined]) -> xebec_store::Result<Vec<Defined>> {
    let query = Query { resource: STORAGE, filter: Filter::all(), at: At::Any, ..Query::default() };
    let snapshot = app.cache.list(&query).await?;
    let read = |object: &Arc<xebec_store::cache::Object>| {
        let same = known.iter().find(|k| k.revision == object.revision().0 && object::name(&k.value) == object.name());
        match same {
            Some(same) => Some(same.clone()),
            None => crate::app::parse(object).ok().map(|value| Defined::new(value, object.revision().0)),
        }
    };
    let mut found: Vec<Defined> = snapshot.objects.iter().filter_map(read).collect();
    let order = |d: &Defined| {
        let text = |text: &str| text.to_owned();
        (object::creation_timestamp(&d.value).map(text), text(object::name(&d.value)))
    };
    found.sort_by_cached_key(order);
    Ok(found)
}

/// Serves what is defined, then says so; false if something is left to do.
async fn reconcile(app: &App, service: &LocalService, mut definitions: Vec<Defined>) -> bool {
    let (mut changed, now) = (Vec::new(), app.now_rfc3339());
    for index in 0..definitions.len() {
        if object::deletion_timestamp(&definitions[index].value).is_some() {
            continue;
        }
        let all: Vec<&Value> = definitions.iter().map(|d| &*d.value).collect();
        if let Some(new) = conditions::settled(all[index], &all, &now) {
            definitions[index] = Defined::new(new, definitions[index].revision);
            changed.push(definitions[index].value.clone());
        }
    }
    // What was written before these schemas were known here is not taken for what they allow.
    serve(app, &definitions, app.cache.revision().0);
    let mut done = true;
    for definition in &changed {
        done &= write_status(service, definition).await;
    }
    for definition in definitions.iter().filter(|d| object::deletion_timestamp(&d.value).is_some()) {
        done &= finalize::finalize(app, service, &definition.value).await;
    }
    done
}

/// Replaces the table. What did not change stays as it is, with its compiled schemas and its watches.
fn serve(app: &App, definitions: &[Defined], revision: u64) {
    let before = app.kinds.custom();
    let mut resources = Vec::new();
    for defined in definitions.iter().filter(|d| conditions::is_served(&d.value)) {
        let same = before.all().iter().filter(|r| r.as_custom().is_some_and(|c| c.fingerprint == defined.fingerprint));
        let same: Vec<_> = same.cloned().collect();
        if !same.is_empty() {
            resources.extend(same);
            continue;
        }
        let since = revision.max(defined.revision);
        for custom in CustomResource::served(&defined.value, defined.fingerprint, since) {
            resources.push(Arc::new(Resource::custom(custom, app.stop.child_token())));
        }
    }
    let table = Table::new(resources);
    if table.fingerprint == before.fingerprint && table.all().len() == before.all().len() {
        return;
    }
    app.kinds.set_custom(table);
    let now = app.kinds.custom();
    let stays = |old: &Arc<Resource>| now.all().iter().any(|new| Arc::ptr_eq(new, old));
    before.all().iter().filter(|old| !stays(old)).for_each(|old| old.gone.cancel());
}

/// False if the definition changed meanwhile: it is looked at again.
async fn write_status(service: &LocalService, definition: &Value) -> bool {
    let path = format!("{COLLECTION}/{}/status", object::name(definition));
    match hooks::send(service, Method::PUT, &path, Some(definition)).await {
        Ok((200..=299 | 404, _)) => true,
        // The newer state is another event.
        Ok((409, _)) => true,
        Ok((code, body)) => {
            tracing::warn!(definition = object::name(definition), code, message = %body["message"], "status not written");
            false
        }
        Err(error) => {
            tracing::warn!(definition = object::name(definition), error, "status not written");
            false
        }
    }
}
