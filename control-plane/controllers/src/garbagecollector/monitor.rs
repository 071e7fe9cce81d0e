//! Watches that feed the graph.

use super::Collector;
use super::graph::{Identity, Kind, Uid};
use crate::discovery::Served;
use futures::StreamExt;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use tokio::task::{AbortHandle, JoinSet};
use xebec_client::kube::core::{DynamicObject, PartialObjectMeta};
use xebec_client::kube::runtime::watcher::{self, Event};
use xebec_client::retry::Backoff;
use xebec_client::{Api, chain};
use xebec_types::{ObjectMeta, object};

/// One task for each kind; all end when this is dropped.
#[derive(Default)]
pub(super) struct Monitors {
    tasks: JoinSet<()>,
    running: HashMap<String, (Served, AbortHandle)>,
}

impl Monitors {
    /// Starts and stops watches so that these kinds are watched.
    pub(super) fn follow(&mut self, collector: &Arc<Collector>, kinds: Vec<Served>) {
        self.running.retain(|_, (kind, task)| {
            let stays = kinds.contains(kind);
            if !stays {
                task.abort();
            }
            stays
        });
        for kind in kinds {
            let name = kind.group_resource();
            if !self.running.contains_key(&name) {
                let task = self.tasks.spawn(watch(Arc::clone(collector), kind.clone()));
                self.running.insert(name, (kind, task));
            }
        }
    }
}

async fn watch(collector: Arc<Collector>, kind: Served) {
    let config = watcher::Config::default().streaming_lists();
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(collector.client.clone(), &kind.api);
    let mut events = pin!(watcher::watcher(api, config));
    let mut backoff = Backoff::reconnect();
    let kind = Arc::new(Kind { group: kind.api.group.into(), name: kind.api.kind.into() });
    let identity = |meta: &ObjectMeta| {
        Identity::new(Arc::clone(&kind), object::uid(meta).into(), object::namespace(meta), object::name(meta))
    };
    let defines_kinds = &*kind.group == "apiextensions.k8s.io" && &*kind.name == "CustomResourceDefinition";
    let mut listed: HashSet<Uid> = HashSet::new();
    while let Some(event) = events.next().await {
        if defines_kinds && matches!(event, Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_))) {
            collector.kinds_changed.notify_one();
        }
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(observe(&collector, identity(&object.metadata), &object));
            }
            Ok(Event::InitDone) => {
                backoff.reset();
                let listed = std::mem::take(&mut listed);
                let gone: Vec<Uid> =
                    collector.graph().of_kind(&kind).filter(|uid| !listed.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| collector.gone(uid));
                // Owners that went before this watch began are in no list and in no event.
                let work = collector.graph().unseen(&kind);
                collector.enqueue(work);
            }
            Ok(Event::Apply(object)) => {
                observe(&collector, identity(&object.metadata), &object);
            }
            Ok(Event::Delete(object)) => collector.gone(&object::uid(&object.metadata).into()),
            Err(error) => {
                tracing::debug!(kind = %kind.name, error = chain(&error), "watch interrupted");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

fn observe(collector: &Collector, identity: Identity, object: &PartialObjectMeta<DynamicObject>) -> Uid {
    let uid = identity.uid.clone();
    let work = collector.graph().observe(identity, &object.metadata);
    collector.enqueue(work);
    uid
}
