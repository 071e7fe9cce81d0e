//! Watches of the kinds that quotas count: a deletion is counted at once.

use super::GATHER;
use crate::discovery::Served;
use futures::StreamExt;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use tokio::task::JoinSet;
use xebec_client::kube::core::{DynamicObject, PartialObjectMeta};
use xebec_client::kube::runtime::watcher::{self, Event};
use xebec_client::retry::Backoff;
use xebec_client::{Api, Client, Informer, Key, Workqueue, chain};
use xebec_types::core::ResourceQuota;
use xebec_types::object;

/// One task for each kind that some quota counts; all end when this is dropped.
pub(super) struct Monitors {
    client: Client,
    queue: Workqueue<Key>,
    quotas: Arc<Informer<ResourceQuota>>,
    tasks: JoinSet<()>,
    running: HashSet<String>,
}

impl Monitors {
    pub(super) fn new(client: Client, queue: Workqueue<Key>, quotas: Arc<Informer<ResourceQuota>>) -> Self {
        Self { client, queue, quotas, tasks: JoinSet::new(), running: HashSet::new() }
    }

    pub(super) fn follow(&mut self, kind: &Served) {
        if self.running.insert(kind.group_resource()) {
            let api = Api::all_with(self.client.clone(), &kind.api);
            self.tasks.spawn(watch(api, self.queue.clone(), Arc::clone(&self.quotas)));
        }
    }
}

async fn watch(
    api: Api<PartialObjectMeta<DynamicObject>>,
    queue: Workqueue<Key>,
    quotas: Arc<Informer<ResourceQuota>>,
) {
    let mut events = pin!(watcher::watcher(api, watcher::Config::default().streaming_lists()));
    let mut backoff = Backoff::reconnect();
    let recount = |namespace: &str| {
        quotas.list_namespace(namespace).iter().for_each(|q| queue.add_after(Key::of(&q.metadata), GATHER));
    };
    while let Some(event) = events.next().await {
        match event {
            // A list after a break may lack what went meanwhile.
            Ok(Event::InitDone) => {
                backoff.reset();
                quotas.list().iter().for_each(|q| queue.add_after(Key::of(&q.metadata), GATHER));
            }
            Ok(Event::Apply(object) | Event::Delete(object)) => recount(object::namespace(&object.metadata)),
            Ok(Event::Init | Event::InitApply(_)) => {}
            Err(error) => {
                tracing::debug!(error = chain(&error), "watch interrupted");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}
