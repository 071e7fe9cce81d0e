//! Shared informers: one watch and one store for each kind, however many readers.
//!
//! A watch that breaks is resumed from its last resourceVersion after a back-off; a server that
//! was restarted, or killed, is invisible here but for a pause. Readers get `Arc<K>`; nothing
//! copies a list.

mod store;

use crate::retry::Backoff;
use crate::{Api, Client};
use futures::StreamExt;
use kube::Resource;
use kube::runtime::watcher::{self, Event, InitialListStrategy};
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use store::Store;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use xebec_types::ObjectMeta;

/// What an informer can hold.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

impl<K> Object for K where K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

/// The name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Key {
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(xebec_types::object::namespace(meta), xebec_types::object::name(meta))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One object before and after; never both `None`.
#[derive(Debug)]
pub struct Change<K> {
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

impl<K: Resource> Change<K> {
    /// The object as it is, or as it was last.
    #[must_use]
    pub fn object(&self) -> Option<&Arc<K>> {
        self.new.as_ref().or(self.old.as_ref())
    }

    #[must_use]
    pub fn key(&self) -> Key {
        self.object().map_or_else(|| Key::new("", ""), |o| Key::of(o.meta()))
    }

    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.new.is_none()
    }
}

/// Which objects of a kind to hold.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Selection {
    pub fields: String,
    pub labels: String,
}

impl Selection {
    #[must_use]
    pub fn fields(fields: &str) -> Self {
        Self { fields: fields.into(), ..Self::default() }
    }

    #[must_use]
    pub fn labels(labels: &str) -> Self {
        Self { labels: labels.into(), ..Self::default() }
    }

    #[must_use]
    pub fn namespace(namespace: &str) -> Self {
        Self::fields(&format!("metadata.namespace={namespace}"))
    }
}

/// The informers of one process. Cheap to clone; watches end when the last clone is dropped.
#[derive(Clone)]
pub struct Informers(Arc<Hub>);

struct Hub {
    client: Client,
    informers: Mutex<HashMap<(TypeId, Selection), Arc<dyn Any + Send + Sync>>>,
    trims: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Informers {
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Hub {
            client,
            informers: Mutex::default(),
            trims: Mutex::default(),
            tasks: Mutex::new(JoinSet::new()),
        }))
    }

    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Takes parts that no reader in this process needs off every object of a kind, from informers
    /// started later. Such objects must not be written back whole.
    pub fn trim<K: Object>(&self, trim: fn(&mut K)) {
        lock(&self.0.trims).insert(TypeId::of::<K>(), Arc::new(trim));
    }

    /// Every object of a kind. The first call starts the watch; it needs a tokio runtime.
    #[must_use]
    pub fn informer<K: Object>(&self) -> Arc<Informer<K>> {
        self.selected(&Selection::default())
    }

    /// Some objects of a kind, such as the pods of one node:
    /// `Selection::fields("spec.nodeName=n1")`.
    #[must_use]
    pub fn selected<K: Object>(&self, selection: &Selection) -> Arc<Informer<K>> {
        let id = (TypeId::of::<K>(), selection.clone());
        let mut informers = lock(&self.0.informers);
        if let Some(known) = informers.get(&id)
            && let Ok(informer) = Arc::clone(known).downcast::<Informer<K>>()
        {
            return informer;
        }
        let (synced, synced_rx) = watch::channel(false);
        let informer = Arc::new(Informer { store: RwLock::default(), dispatch: Mutex::default(), synced, synced_rx });
        informers.insert(id, Arc::clone(&informer) as Arc<dyn Any + Send + Sync>);
        let trim = lock(&self.0.trims).get(&TypeId::of::<K>()).cloned();
        let trim = trim.and_then(|trim| trim.downcast::<fn(&mut K)>().ok()).map(|trim| *trim);
        let (client, selection) = (self.0.client.clone(), selection.clone());
        lock(&self.0.tasks).spawn(run(client, selection, trim, Arc::clone(&informer)));
        informer
    }
}

/// The objects of one kind, kept current by one watch.
pub struct Informer<K> {
    store: RwLock<Store<K>>,
    /// Held while handlers run, so that each sees changes in order. Taken before `store`.
    dispatch: Mutex<()>,
    synced: watch::Sender<bool>,
    synced_rx: watch::Receiver<bool>,
}

impl<K: Object> Informer<K> {
    /// Returns once the store has held a complete list. It stays synced through reconnects.
    pub async fn synced(&self) {
        let mut synced = self.synced_rx.clone();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    #[must_use]
    pub fn is_synced(&self) -> bool {
        *self.synced_rx.borrow()
    }

    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read().get(namespace, name).cloned()
    }

    #[must_use]
    pub fn get_key(&self, key: &Key) -> Option<Arc<K>> {
        self.get(&key.namespace, &key.name)
    }

    /// Every object, ordered by namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().iter().cloned().collect()
    }

    #[must_use]
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().namespace(namespace).cloned().collect()
    }

    /// The objects that an index (`add_index`) files under `value`.
    #[must_use]
    pub fn by_index(&self, index: &'static str, value: &str) -> Vec<Arc<K>> {
        self.read().by_index(index, value).cloned().collect()
    }

    /// Files objects under the values that `values` gives them. Adding an index twice keeps the first.
    pub fn add_index(&self, name: &'static str, values: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        self.store.write().unwrap_or_else(PoisonError::into_inner).add_index(name, Box::new(values));
    }

    /// Read access without copying. Do not hold it while calling other informers' writers; it cannot
    /// be held across an await.
    #[must_use]
    pub fn read(&self) -> Snapshot<'_, K> {
        Snapshot(self.store.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls `handler` for every object already present and then for every change, in order and on
    /// the informer's task: it must be quick and must not block (add a key to a queue).
    /// It may read this informer.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let handler: Arc<Handler<K>> = Arc::new(handler);
        let _in_order = lock(&self.dispatch);
        let present: Vec<Arc<K>> = {
            let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
            store.handlers.push(Arc::clone(&handler));
            store.iter().cloned().collect()
        };
        for object in present {
            handler(&Change { old: None, new: Some(object) });
        }
    }

    /// The keys that changed since the last call, each once. The first answers name every object.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        let pending = Arc::new(Pending::default());
        let sink = Arc::downgrade(&pending);
        self.on_change(move |change| {
            if let Some(pending) = sink.upgrade() {
                lock(&pending.keys).insert(change.key());
                pending.wake.notify_one();
            }
        });
        Subscription { pending }
    }

    fn apply(&self, object: K) {
        self.commit(|store| vec![store.insert(object)]);
    }

    fn commit(&self, write: impl FnOnce(&mut Store<K>) -> Vec<Change<K>>) {
        let _in_order = lock(&self.dispatch);
        let (changes, handlers) = {
            let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
            (write(&mut store), store.handlers.clone())
        };
        for change in &changes {
            for handler in &handlers {
                handler(change);
            }
        }
    }
}

pub(crate) type Handler<K> = dyn Fn(&Change<K>) + Send + Sync;

/// A read lock on a store.
pub struct Snapshot<'a, K>(RwLockReadGuard<'a, Store<K>>);

impl<K: Object> Snapshot<'_, K> {
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.0.get(namespace, name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.0.iter()
    }

    pub fn namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.0.namespace(namespace)
    }

    pub fn by_index(&self, index: &'static str, value: &str) -> impl Iterator<Item = &Arc<K>> {
        self.0.by_index(index, value)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Keys that changed, each once.
pub struct Subscription {
    pending: Arc<Pending>,
}

#[derive(Default)]
struct Pending {
    keys: Mutex<BTreeSet<Key>>,
    wake: Notify,
}

impl Subscription {
    /// Waits until something changed and returns every key that did.
    pub async fn changed(&mut self) -> BTreeSet<Key> {
        loop {
            let keys = std::mem::take(&mut *lock(&self.pending.keys));
            if !keys.is_empty() {
                return keys;
            }
            self.pending.wake.notified().await;
        }
    }
}

type Trim<K> = Option<fn(&mut K)>;

async fn run<K: Object>(client: Client, selection: Selection, trim: Trim<K>, informer: Arc<Informer<K>>) {
    let api: Api<K> = Api::all(client);
    let mut strategy = InitialListStrategy::StreamingList;
    loop {
        let config = watcher::Config {
            field_selector: Some(selection.fields.clone()).filter(|s| !s.is_empty()),
            label_selector: Some(selection.labels.clone()).filter(|s| !s.is_empty()),
            initial_list_strategy: strategy.clone(),
            ..watcher::Config::default()
        };
        // Only a refused streaming list ends a watch: servers before 1.32 answer it with 422.
        watch_kind(api.clone(), config, trim, &informer).await;
        strategy = InitialListStrategy::ListWatch;
    }
}

async fn watch_kind<K: Object>(api: Api<K>, config: watcher::Config, trim: Trim<K>, informer: &Informer<K>) {
    let streaming = config.initial_list_strategy == InitialListStrategy::StreamingList;
    let mut events = pin!(watcher::watcher(api, config));
    let mut backoff = Backoff::reconnect();
    let mut listed: Vec<K> = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.push(slim(object, trim)),
            Ok(Event::InitDone) => {
                backoff.reset();
                let complete = std::mem::take(&mut listed);
                informer.commit(|store| store.replace(complete));
                informer.synced.send_replace(true);
            }
            Ok(Event::Apply(object)) => {
                backoff.reset();
                informer.apply(slim(object, trim));
            }
            Ok(Event::Delete(object)) => {
                backoff.reset();
                informer.commit(|store| store.remove(&slim(object, trim)).into_iter().collect());
            }
            Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if streaming && status.code == 422 => {
                return;
            }
            Err(error) => {
                let wait = backoff.next_delay();
                let kind = K::kind(&());
                tracing::debug!(%kind, ?wait, error = crate::chain(&error), "watch interrupted");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// `managedFields` is often the larger half of an object and no reader here wants it.
///
/// What serde decodes into grows by doubling, from four elements: a list of one container has room for four, and a pod is
/// twice as large as its copy, which has room for what it holds.
fn slim<K: Resource + Clone>(mut object: K, trim: Trim<K>) -> K {
    object.meta_mut().managed_fields = None;
    if let Some(trim) = trim {
        trim(&mut object);
    }
    object.clone()
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
