//! What is seen while the watch cache, which lost its place in the store's history, loads again.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore};
use xebec_store::cache::{At, Cache, Filter, Index, Indexer, Query, Start, Watcher};
use xebec_store::{Entry, Error, EventStream, List, ListOptions, Outcome, Result, Revision, Store, Txn, embedded};

use crate::{committed, create, delete};

/// More than fit in one page of a load.
const OBJECTS: usize = 2_100;
const MAPS: &str = "core/configmaps";

/// A store whose watches can be made to fall silent and to fail, and whose lists can be held after their first page.
struct Broken {
    inner: Arc<dyn Store>,
    silence: Arc<Notify>,
    fail: Arc<Notify>,
    pages: Semaphore,
    waiting: Notify,
}

#[async_trait]
impl Store for Broken {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<List> {
        if options.start_after.is_some() {
            self.waiting.notify_one();
            _ = self.pages.acquire().await;
        }
        self.inner.list(prefix, options).await
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome> {
        self.inner.txn(txn).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<EventStream> {
        let events = self.inner.watch(prefix, after).await?;
        let (silence, fail) = (self.silence.clone(), self.fail.clone());
        let failure = stream::once(async move {
            fail.notified().await;
            Err(Error::Compacted { requested: after, compacted: after })
        });
        Ok(events.take_until(async move { silence.notified().await }).chain(failure).boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.inner.compact(revision).await
    }

    async fn current_revision(&self) -> Result<Revision> {
        self.inner.current_revision().await
    }
}

struct Nothing;

impl Indexer for Nothing {
    fn index(&self, _resource: &str, _json: &[u8]) -> Index {
        Index::default()
    }
}

fn key(index: usize) -> String {
    xebec_store::cache::key(MAPS, Some("default"), &format!("m{index:04}"))
}

fn watch(cache: &Cache) -> (Watcher, usize) {
    let mut watcher = cache.watch(MAPS, None, Filter::all(), Start::Snapshot).unwrap();
    let seen = watcher.take_snapshot().unwrap().objects.len();
    (watcher, seen)
}

async fn count(cache: &Cache, at: At) -> usize {
    cache.list(&Query { resource: MAPS, at, ..Query::default() }).await.unwrap().objects.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_a_part_of_what_there_is() {
    let dir = TempDir::new().unwrap();
    let inner: Arc<dyn Store> = Arc::new(embedded::open(dir.path()).await.unwrap());
    let all: Vec<usize> = (0..OBJECTS).collect();
    for some in all.chunks(300) {
        let keys: Vec<String> = some.iter().map(|index| key(*index)).collect();
        futures::future::join_all(keys.iter().map(|key| create(&*inner, key, "{}"))).await;
    }
    let store = Arc::new(Broken {
        inner: inner.clone(),
        silence: Arc::default(),
        fail: Arc::default(),
        pages: Semaphore::new(1),
        waiting: Notify::new(),
    });
    let cache = Cache::new(store.clone(), Arc::new(Nothing)).await.unwrap();
    let (mut follower, seen) = watch(&cache);
    assert_eq!(seen, OBJECTS);
    store.waiting.notified().await;

    // One goes and one comes while the cache hears nothing; then it must load again.
    store.silence.notify_one();
    let gone = inner.get(&key(0)).await.unwrap().unwrap().mod_revision;
    committed(inner.txn(delete(&key(0), gone)).await.unwrap());
    create(&*inner, &key(OBJECTS), "{\"new\":1}").await;
    let held = store.pages.acquire().await.unwrap();
    store.fail.notify_one();
    store.waiting.notified().await;
    assert_eq!(count(&cache, At::Any).await, OBJECTS, "what was known, until all is known");
    let (mut second, seen) = watch(&cache);
    assert_eq!(seen, OBJECTS);
    assert!(cache.get(MAPS, Some("default"), "m2099").is_some());
    drop(held);

    assert!(matches!(follower.next().await, Err(Error::WatchClosed { .. })));
    assert!(matches!(second.next().await, Err(Error::WatchClosed { .. })));
    assert_eq!(count(&cache, At::Consistent).await, OBJECTS);
    assert!(cache.get(MAPS, Some("default"), "m0000").is_none());
    assert!(cache.get(MAPS, Some("default"), "m2100").is_some());
    let (mut third, seen) = watch(&cache);
    assert_eq!(seen, OBJECTS);
    create(&*inner, &key(OBJECTS + 1), "{}").await;
    assert_eq!(third.next().await.unwrap().object.name(), "m2101");
}
