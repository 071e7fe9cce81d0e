//! Empties and removes namespaces that are being deleted, as upstream's `namespace` controller.

mod step;

use crate::discovery::{self, Served};
use crate::{Context, control};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
pub use step::{Content, Left, Step, step};
use tokio_util::sync::CancellationToken;
use xebec_client::{
    Api, Client, DeleteParams, Error, Informer, Key, ListParams, Outcome, Patch, PatchParams, Workqueue, chain,
    is_not_found,
};
use xebec_types::core::{Namespace, NamespaceCondition};
use xebec_types::{object, time};

const WORKERS: usize = 4;
/// How often a namespace that is not empty yet is looked at, at first and later.
const SOON: Duration = Duration::from_millis(300);
const LATER: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let namespaces: Arc<Informer<Namespace>> = context.informers.informer();
    let queue: Workqueue<Key> = Workqueue::new();
    let sink = queue.clone();
    namespaces.on_change(move |change| {
        if change.new.as_ref().is_some_and(|n| object::is_being_deleted(&n.metadata)) {
            sink.add(change.key());
        }
    });
    namespaces.synced().await;
    let sync = |key: Key| {
        let (namespaces, context) = (&namespaces, &context);
        async move {
            let Some(namespace) = namespaces.get_key(&key) else { return Outcome::Done };
            control::outcome("namespace", &key, sync(context, &namespace).await)
        }
    };
    queue.run(WORKERS, &stop, sync).await;
}

async fn sync(context: &Context, namespace: &Namespace) -> Result<Outcome, Error> {
    let client = &context.client;
    if !step::is_ours(namespace) {
        return Ok(Outcome::Done);
    }
    let name = object::name(&namespace.metadata);
    let content = match discovery::served(client).await {
        Ok(kinds) => empty(client, name, kinds).await,
        Err(error) => Content { undiscovered: Some(chain(&error)), ..Content::default() },
    };
    let now = context.now();
    match step(namespace, &content, now) {
        Step::Finalize => {
            finalize(client, namespace).await?;
            tracing::info!(namespace = name, "namespace is empty and gone");
            Ok(Outcome::Done)
        }
        Step::Wait { conditions } => {
            if let Some(conditions) = conditions {
                write_conditions(client, name, &conditions).await?;
            }
            let since = namespace.metadata.deletion_timestamp.as_ref().map_or(now, |t| t.0);
            let is_young = time::since(since, now) < PATIENCE;
            Ok(Outcome::After(if is_young { SOON } else { LATER }))
        }
    }
}

/// Deletes what is in the namespace and tells what was left. While there are pods the rest stays: NetworkPolicies and what else
/// guards them outlive them (KEP-5080).
async fn empty(client: &Client, namespace: &str, kinds: Vec<Served>) -> Content {
    let deletable = kinds.into_iter().filter(|k| k.namespaced && k.allows("delete") && k.allows("list"));
    let (pods, others) = deletable.partition::<Vec<_>, _>(|k| k.api.group.is_empty() && k.api.plural == "pods");
    let mut content = Content::default();
    for kinds in [pods, others] {
        let work = kinds.into_iter().map(|kind| async move {
            let left = empty_kind(client, namespace, &kind).await;
            (format!("{}.{}", kind.api.plural, kind.api.group), left)
        });
        for (kind, left) in control::in_parallel(work).await {
            content.add(kind, left.map_err(|error| chain(&error)));
        }
        if !content.is_empty() {
            break;
        }
    }
    content
}

async fn empty_kind(client: &Client, namespace: &str, kind: &Served) -> Result<Left, Error> {
    let api = kind.within(client, namespace);
    let everything = ListParams::default();
    let before = api.list_metadata(&everything).await?.items;
    if before.is_empty() {
        return Ok(Left::default());
    }
    if kind.allows("deletecollection") {
        match api.delete_collection(&DeleteParams::background(), &everything).await {
            Ok(_) => {}
            Err(Error::Api(status)) if status.code == 404 || status.code == 405 => {
                delete_each(&api, &before).await?;
            }
            Err(error) => return Err(error),
        }
    } else {
        delete_each(&api, &before).await?;
    }
    let after = api.list_metadata(&everything).await?.items;
    let finalizers = after.iter().flat_map(|o| o.metadata.finalizers.clone().unwrap_or_default());
    Ok(Left { objects: after.len(), finalizers: finalizers.collect() })
}

type Metadata = xebec_client::kube::core::PartialObjectMeta<xebec_client::kube::core::DynamicObject>;

async fn delete_each(api: &Api<xebec_client::kube::core::DynamicObject>, objects: &[Metadata]) -> Result<(), Error> {
    let names: Vec<String> = objects.iter().map(|o| object::name(&o.metadata).into()).collect();
    let work = names.into_iter().map(|name| async move {
        match api.delete(&name, &DeleteParams::background()).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    });
    control::in_parallel(work).await.into_iter().collect()
}

async fn write_conditions(client: &Client, name: &str, conditions: &[NamespaceCondition]) -> Result<(), Error> {
    let patch = json!({"status": {"phase": "Terminating", "conditions": conditions}});
    let api: Api<Namespace> = Api::all(client.clone());
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// Takes our finalizer off; with the last one the namespace goes.
async fn finalize(client: &Client, namespace: &Namespace) -> Result<(), Error> {
    let name = object::name(&namespace.metadata);
    let body = serde_json::to_vec(&step::finalized(namespace)).map_err(Error::SerdeError)?;
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(Error::HttpError)?;
    match client.request::<serde_json::Value>(request).await {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}
