//! The watch cache: every object of the store as the bytes that clients see, with a bounded history of events per resource.
//!
//! One watch over the store feeds it. Lists and watches are answered from memory at a known revision; a consistent list
//! first learns the store's newest revision and waits until the cache has reached it.

mod barrier;
mod event;
mod feed;
mod filter;
mod history;
mod object;
mod pairs;
mod resource;
pub(crate) mod splice;
mod watcher;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{sync::watch, task::JoinSet};

pub use event::{Event, Kind};
pub use filter::Filter;
pub use history::Limits;
pub use object::{Object, key, resource_of};
pub use pairs::Pairs;
pub use watcher::Watcher;

use crate::{Entry, Error, ListOptions, PREFIX, Result, Revision, Store};
use barrier::Barrier;
use resource::Resource;

/// What selectors look at.
#[derive(Default)]
pub struct Index {
    pub labels: Pairs,
    /// Selectable fields beyond `metadata.name` and `metadata.namespace`.
    pub fields: Pairs,
}

/// Extracts the index of an object. Called once per stored revision.
pub trait Indexer: Send + Sync + 'static {
    /// `resource` is `<group>/<resource>`; `json` the object without `resourceVersion`.
    fn index(&self, resource: &str, json: &[u8]) -> Index;
}

/// What a list asks for.
#[derive(Clone, Default)]
pub struct Query<'a> {
    /// `<group>/<resource>`, `core` for the empty group.
    pub resource: &'a str,
    pub namespace: Option<&'a str>,
    pub filter: Filter,
    pub at: At,
    /// Zero means no limit.
    pub limit: usize,
    /// The key that the previous page ended with ([`Snapshot::next`]).
    pub start_after: Option<&'a str>,
}

/// How fresh a list must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum At {
    /// Whatever the cache has (`resourceVersion=0`).
    Any,
    NotOlderThan(Revision),
    /// The state at this revision (`resourceVersionMatch=Exact`, continue tokens).
    Exact(Revision),
    /// Everything that was acknowledged before the call.
    #[default]
    Consistent,
}

/// The objects that a list asked for, all at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub revision: Revision,
    pub objects: Vec<Arc<Object>>,
    /// `start_after` of the next page, if there is one.
    pub next: Option<String>,
    /// How many objects follow the page; counted only without a filter.
    pub remaining: Option<u64>,
}

/// Where a watch starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Events after this revision.
    After(Revision),
    /// The present state ([`Watcher::take_snapshot`]), then the events that follow it without a gap.
    Snapshot,
}

/// See the module.
pub struct Cache {
    shared: Arc<Shared>,
    barrier: Barrier,
    _tasks: JoinSet<()>,
}

struct Shared {
    store: Arc<dyn Store>,
    indexer: Arc<dyn Indexer>,
    limits: Limits,
    resources: RwLock<Resources>,
    /// Every event up to this revision has been applied.
    applied: watch::Sender<Revision>,
}

#[derive(Default)]
struct Resources {
    by_name: HashMap<Arc<str>, Arc<Resource>>,
    /// The revision that the cache was loaded at.
    loaded: Revision,
}

/// How long a read waits for the cache to reach its revision, as upstream's cacher.
const WAIT: Duration = Duration::from_secs(3);
/// After this long without the revision the store is asked to make an event.
const NUDGE_AFTER: Duration = Duration::from_millis(100);

impl Cache {
    /// Loads everything below [`PREFIX`] and follows it.
    pub async fn new(store: Arc<dyn Store>, indexer: Arc<dyn Indexer>) -> Result<Self> {
        Self::with_limits(store, indexer, Limits::default()).await
    }

    pub async fn with_limits(store: Arc<dyn Store>, indexer: Arc<dyn Indexer>, limits: Limits) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let barrier = Barrier::start(store.clone(), &mut tasks);
        let shared = Arc::new(Shared {
            store,
            indexer,
            limits,
            resources: RwLock::default(),
            applied: watch::Sender::new(Revision(0)),
        });
        feed::load(&shared).await?;
        tasks.spawn(feed::follow(shared.clone()));
        Ok(Self { shared, barrier, _tasks: tasks })
    }

    /// The object as the cache has it.
    pub fn get(&self, resource: &str, namespace: Option<&str>, name: &str) -> Option<Arc<Object>> {
        self.shared.resource(resource)?.get(&key(resource, namespace, name))
    }

    /// The object after waiting for everything that was acknowledged before the call.
    pub async fn get_consistent(
        &self,
        resource: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>> {
        self.barrier().await?;
        Ok(self.get(resource, namespace, name))
    }

    pub async fn list(&self, query: &Query<'_>) -> Result<Snapshot> {
        match query.at {
            At::Any => {}
            At::NotOlderThan(revision) | At::Exact(revision) => self.wait_for(revision).await?,
            At::Consistent => {
                self.barrier().await?;
            }
        }
        let applied = *self.shared.applied.borrow();
        let Some(resource) = self.shared.resource(query.resource) else {
            let revision = if let At::Exact(revision) = query.at { revision } else { applied };
            if revision >= self.shared.resources.read().loaded {
                return Ok(Snapshot { revision, objects: Vec::new(), next: None, remaining: Some(0) });
            }
            return self.list_store(query, revision).await;
        };
        match query.at {
            At::Exact(revision) => match resource.list_at(query, revision) {
                Some(snapshot) => Ok(snapshot),
                None => self.list_store(query, revision).await,
            },
            _ => Ok(resource.list(query, &self.shared.applied)),
        }
    }

    /// Events of a resource. Fails with [`Error::Compacted`] if `start` is older than the history.
    pub fn watch(&self, resource: &str, namespace: Option<&str>, filter: Filter, start: Start) -> Result<Watcher> {
        let resource = self.shared.resource_or_new(resource);
        resource.watch(namespace, filter, start, self.shared.applied.subscribe())
    }

    /// Returns when every event up to `revision` has been applied.
    pub async fn wait_for(&self, revision: Revision) -> Result<()> {
        let mut applied = self.shared.applied.subscribe();
        if *applied.borrow() >= revision {
            return Ok(());
        }
        let reached = applied.wait_for(|applied| *applied >= revision);
        if tokio::time::timeout(NUDGE_AFTER, reached).await.is_ok_and(|reached| reached.is_ok()) {
            return Ok(());
        }
        // Only for revisions that exist: a client may ask for any number.
        if self.shared.store.current_revision().await? >= revision {
            self.shared.store.nudge().await?;
        }
        let reached = applied.wait_for(|applied| *applied >= revision);
        match tokio::time::timeout(WAIT, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Closed),
            Err(_) => Err(Error::Timeout { revision, current: *self.shared.applied.borrow() }),
        }
    }

    /// Waits until the cache has everything that was acknowledged before the call, and returns the revision.
    pub async fn barrier(&self) -> Result<Revision> {
        let revision = self.barrier.current_revision().await?;
        self.wait_for(revision).await?;
        Ok(revision)
    }

    /// The revision up to which every event has been applied.
    pub fn revision(&self) -> Revision {
        *self.shared.applied.borrow()
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// (`<group>/<resource>`, number of objects) of every resource that has been seen.
    pub fn counts(&self) -> Vec<(Arc<str>, usize)> {
        let resources: Vec<_> = self.shared.resources.read().by_name.values().cloned().collect();
        resources.iter().map(|resource| (resource.name().clone(), resource.len())).collect()
    }

    /// A page at a revision that the history does not reach back to.
    async fn list_store(&self, query: &Query<'_>, revision: Revision) -> Result<Snapshot> {
        let prefix = match query.namespace {
            Some(namespace) => format!("{PREFIX}{}/{namespace}/", query.resource),
            None => format!("{PREFIX}{}/", query.resource),
        };
        let mut objects = Vec::new();
        let mut start_after = query.start_after.map(str::to_owned);
        loop {
            let limit = if query.limit == 0 { 0 } else { query.limit - objects.len() };
            let options = ListOptions { limit, start_after, revision: Some(revision) };
            let list = self.shared.store.list(&prefix, options).await?;
            let last = list.entries.last().map(|entry| entry.key.to_string());
            objects.extend(
                list.entries
                    .iter()
                    .map(|entry| self.shared.object(entry))
                    .filter(|object| query.filter.matches(object)),
            );
            let full = query.limit != 0 && objects.len() >= query.limit;
            if !list.more || full {
                let remaining = query.filter.is_all().then_some(list.remaining);
                return Ok(Snapshot { revision, objects, next: last.filter(|_| list.more), remaining });
            }
            start_after = last;
        }
    }
}

impl Shared {
    fn resource(&self, name: &str) -> Option<Arc<Resource>> {
        self.resources.read().by_name.get(name).cloned()
    }

    fn resource_or_new(&self, name: &str) -> Arc<Resource> {
        if let Some(resource) = self.resource(name) {
            return resource;
        }
        let mut resources = self.resources.write();
        if let Some(resource) = resources.by_name.get(name) {
            return resource.clone();
        }
        let name: Arc<str> = name.into();
        let resource = Arc::new(Resource::new(name.clone(), resources.loaded, self.limits));
        resources.by_name.insert(name, resource.clone());
        resource
    }

    fn object(&self, entry: &Entry) -> Arc<Object> {
        Arc::new(Object::new(entry, &*self.indexer))
    }
}
