//! The watch cache against the store it follows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use xebec_store::{
    Error, Expect, Outcome, Revision, Store,
    cache::{At, Cache, Filter, Index, Indexer, Kind, Limits, Object, Pairs, Query, Snapshot, Start, Watcher},
    embedded, etcd,
};

use crate::{committed, delete, etcd_process::EtcdProcess, put, rng::Rng};

const PODS: &str = "core/pods";

struct Labels;

impl Indexer for Labels {
    fn index(&self, _resource: &str, json: &[u8]) -> Index {
        let object: Value = serde_json::from_slice(json).unwrap();
        let strings = |value: &Value| {
            let map = value.as_object().into_iter().flatten();
            Pairs::new(map.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())))
        };
        Index {
            labels: strings(&object["metadata"]["labels"]),
            fields: Pairs::new(object["spec"]["nodeName"].as_str().map(|node| ("spec.nodeName", node))),
        }
    }
}

struct Fixture {
    store: Arc<dyn Store>,
    cache: Cache,
    _dir: TempDir,
}

impl Fixture {
    async fn new(limits: Limits) -> Self {
        let dir = TempDir::new().unwrap();
        let store: Arc<dyn Store> = Arc::new(embedded::open(dir.path()).await.unwrap());
        let cache = Cache::with_limits(store.clone(), Arc::new(Labels), limits).await.unwrap();
        Self { store, cache, _dir: dir }
    }

    /// Writes a pod whatever it was before.
    async fn put(&self, namespace: &str, name: &str, app: &str) -> Revision {
        write(&*self.store, namespace, name, app, "n1").await
    }

    async fn delete(&self, namespace: &str, name: &str) -> Revision {
        let key = xebec_store::cache::key(PODS, Some(namespace), name);
        let current = self.store.get(&key).await.unwrap().unwrap();
        committed(self.store.txn(delete(&key, current.mod_revision)).await.unwrap())
    }

    async fn list(&self, query: Query<'_>) -> Snapshot {
        self.cache.list(&Query { resource: PODS, ..query }).await.unwrap()
    }
}

async fn write(store: &dyn Store, namespace: &str, name: &str, app: &str, node: &str) -> Revision {
    let key = xebec_store::cache::key(PODS, Some(namespace), name);
    let pod = json!({"metadata": {"name": name, "labels": {"app": app}}, "spec": {"nodeName": node}});
    let mut expect = Expect::Absent;
    loop {
        match store.txn(put(&key, expect, pod.to_string())).await.unwrap() {
            Outcome::Committed(revision) => return revision,
            Outcome::Conflict(entry) => expect = Expect::Revision(entry.unwrap().mod_revision),
        }
    }
}

fn app(app: &'static str) -> Filter {
    Filter::new(move |object| object.labels().get("app") == Some(app))
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot.objects.iter().map(|object| format!("{}/{}", object.namespace(), object.name())).collect()
}

async fn next(watcher: &mut Watcher) -> (Kind, String, u64) {
    let event = tokio::time::timeout(Duration::from_secs(5), watcher.next()).await.expect("an event comes").unwrap();
    let json: Value = serde_json::from_slice(&event.json()).unwrap();
    assert_eq!(json["type"], event.kind.as_str());
    let object: Value = serde_json::from_slice(event.object.as_slice()).unwrap();
    assert_eq!(json["object"], object);
    assert_eq!(object["metadata"]["resourceVersion"], event.revision().to_string());
    (event.kind, event.object.name().to_owned(), event.revision().0)
}

#[tokio::test]
async fn objects_carry_their_revision() {
    let f = Fixture::new(Limits::default()).await;
    let revision = f.put("a", "x", "web").await;
    let object = f.cache.get_consistent(PODS, Some("a"), "x").await.unwrap().unwrap();
    let value: Value = serde_json::from_slice(&object.bytes()).unwrap();
    assert_eq!(value["metadata"]["resourceVersion"], revision.to_string());
    assert_eq!((object.namespace(), object.name(), object.revision()), ("a", "x", revision));
    assert_eq!(f.cache.get(PODS, Some("a"), "y").map(|o| o.revision()), None);
}

#[tokio::test]
async fn lists_are_consistent_paged_and_exact() {
    let f = Fixture::new(Limits::default()).await;
    for (namespace, name, label) in [("a", "1", "web"), ("a", "2", "db"), ("ab", "3", "web"), ("b", "4", "web")] {
        f.put(namespace, name, label).await;
    }
    let all = f.list(Query::default()).await;
    assert_eq!(names(&all), ["a/1", "a/2", "ab/3", "b/4"]);
    assert_eq!(all.revision, f.store.current_revision().await.unwrap());
    assert_eq!(names(&f.list(Query { namespace: Some("a"), ..Query::default() }).await), ["a/1", "a/2"]);
    assert_eq!(names(&f.list(Query { filter: app("web"), ..Query::default() }).await), ["a/1", "ab/3", "b/4"]);
    let one = Query { namespace: Some("a"), filter: Filter::all().with_name("2"), ..Query::default() };
    assert_eq!(names(&f.list(one).await), ["a/2"]);

    let page = f.list(Query { limit: 2, ..Query::default() }).await;
    assert_eq!((names(&page), page.remaining), (vec!["a/1".into(), "a/2".into()], Some(2)));
    f.delete("b", "4").await;
    f.put("ab", "3", "changed").await;
    f.put("ab", "late", "web").await;
    let rest = Query { at: At::Exact(page.revision), start_after: page.next.as_deref(), ..Query::default() };
    let rest = f.list(rest).await;
    assert_eq!((names(&rest), rest.revision), (vec!["ab/3".into(), "b/4".into()], page.revision));
    assert_eq!(rest.objects[0].labels().get("app"), Some("web"));
    let filtered = f.list(Query { limit: 1, filter: app("web"), ..Query::default() }).await;
    assert_eq!((names(&filtered), filtered.remaining, filtered.next.is_some()), (vec!["a/1".into()], None, true));
}

#[tokio::test]
async fn exact_lists_reach_beyond_the_history() {
    let f = Fixture::new(Limits { events: 1, ..Limits::default() }).await;
    let first = f.put("a", "1", "web").await;
    f.put("a", "2", "web").await;
    f.delete("a", "1").await;
    f.put("a", "2", "db").await;
    assert_eq!(names(&f.list(Query { at: At::Exact(first), ..Query::default() }).await), ["a/1"]);
    let page = f.list(Query { at: At::Exact(Revision(first.0 + 1)), limit: 1, ..Query::default() }).await;
    assert_eq!((names(&page), page.remaining, page.next.is_some()), (vec!["a/1".into()], Some(1), true));
}

#[tokio::test]
async fn a_filter_turns_changes_into_additions_and_deletions() {
    let f = Fixture::new(Limits::default()).await;
    let start = f.cache.barrier().await.unwrap();
    let mut watcher = f.cache.watch(PODS, Some("a"), app("web"), Start::After(start)).unwrap();
    f.put("a", "x", "db").await;
    f.put("b", "other", "web").await;
    let appeared = f.put("a", "x", "web").await;
    let changed = f.put("a", "x", "web").await;
    let vanished = f.put("a", "x", "db").await;
    f.delete("a", "x").await;
    let y = f.put("a", "y", "web").await;
    let gone = f.delete("a", "y").await;
    assert_eq!(next(&mut watcher).await, (Kind::Added, "x".into(), appeared.0));
    assert_eq!(next(&mut watcher).await, (Kind::Modified, "x".into(), changed.0));
    assert_eq!(next(&mut watcher).await, (Kind::Deleted, "x".into(), vanished.0));
    assert_eq!(next(&mut watcher).await, (Kind::Added, "y".into(), y.0));
    assert_eq!(next(&mut watcher).await, (Kind::Deleted, "y".into(), gone.0));
    assert_eq!(watcher.progress(), f.cache.barrier().await.unwrap());
}

#[tokio::test]
async fn a_field_names_the_events_that_concern_a_watcher() {
    let f = Fixture::new(Limits::default()).await;
    let on = |node| Filter::all().with_field("spec.nodeName", node);
    let mut n1 = f.cache.watch(PODS, None, on("n1"), Start::Snapshot).unwrap();
    let mut n2 = f.cache.watch(PODS, None, on("n2"), Start::Snapshot).unwrap();
    assert!(n1.take_snapshot().unwrap().objects.is_empty());
    let first = write(&*f.store, "a", "x", "web", "n1").await;
    let moved = write(&*f.store, "a", "x", "web", "n2").await;
    let stays = write(&*f.store, "a", "x", "db", "n2").await;
    assert_eq!(next(&mut n1).await, (Kind::Added, "x".into(), first.0));
    assert_eq!(next(&mut n1).await, (Kind::Deleted, "x".into(), moved.0));
    assert_eq!(next(&mut n2).await, (Kind::Added, "x".into(), moved.0));
    assert_eq!(next(&mut n2).await, (Kind::Modified, "x".into(), stays.0));
    assert!(n1.try_next().unwrap().is_none());
}

#[tokio::test]
async fn old_revisions_have_expired() {
    let f = Fixture::new(Limits { events: 2, ..Limits::default() }).await;
    let first = f.put("a", "1", "web").await;
    for name in ["2", "3", "4"] {
        f.put("a", name, "web").await;
    }
    f.cache.barrier().await.unwrap();
    let expired = f.cache.watch(PODS, None, Filter::all(), Start::After(first));
    assert!(matches!(expired.err(), Some(Error::Compacted { .. })));
    let mut recent = f.cache.watch(PODS, None, Filter::all(), Start::After(Revision(first.0 + 1))).unwrap();
    assert_eq!(next(&mut recent).await.1, "3");
}

#[tokio::test]
async fn a_slow_watcher_is_closed() {
    let f = Fixture::new(Limits { backlog: 3, ..Limits::default() }).await;
    let mut slow = f.cache.watch(PODS, None, Filter::all(), Start::Snapshot).unwrap();
    for name in ["1", "2", "3", "4"] {
        f.put("a", name, "web").await;
    }
    f.cache.barrier().await.unwrap();
    assert!(matches!(slow.next().await, Err(Error::WatchClosed { .. })));
}

#[tokio::test]
async fn a_revision_that_does_not_come_times_out() {
    let f = Fixture::new(Limits::default()).await;
    let result = f.cache.wait_for(Revision(1_000_000)).await;
    assert!(matches!(result, Err(Error::Timeout { .. })));
}

/// Random writes: watchers that start anywhere replay to the same state as a list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_and_events_agree_with_the_store() {
    let f = Fixture::new(Limits::default()).await;
    let mut rng = Rng::new(11);
    let mut watchers = Vec::new();
    for step in 0..800 {
        let (namespace, name) = (["a", "b"][rng.below(2) as usize], rng.below(12).to_string());
        let key = xebec_store::cache::key(PODS, Some(namespace), &name);
        if rng.below(3) == 0 && f.store.get(&key).await.unwrap().is_some() {
            f.delete(namespace, &name).await;
        } else {
            f.put(namespace, &name, ["web", "db"][rng.below(2) as usize]).await;
        }
        if step % 40 == 0 {
            let (filter, scope) = match rng.below(3) {
                0 => (Filter::all(), None),
                1 => (app("web"), Some("a")),
                _ => (app("db"), None),
            };
            let mut watcher = f.cache.watch(PODS, scope, filter.clone(), Start::Snapshot).unwrap();
            let snapshot = watcher.take_snapshot().unwrap();
            watchers.push((watcher, snapshot, filter, scope));
        }
    }
    let end = f.cache.barrier().await.unwrap();
    for (mut watcher, snapshot, filter, namespace) in watchers {
        let mut state: BTreeMap<Arc<str>, Arc<Object>> =
            snapshot.objects.iter().map(|object| (object.key().clone(), object.clone())).collect();
        let mut last = snapshot.revision;
        while let Some(event) = watcher.try_next().unwrap() {
            assert!(event.revision() > last, "no event twice, none out of order");
            last = event.revision();
            let before = match event.kind {
                Kind::Deleted => state.remove(event.object.key()),
                _ => state.insert(event.object.key().clone(), event.object.clone()),
            };
            assert_eq!(before.is_some(), event.kind != Kind::Added, "{event:?}");
        }
        assert_eq!(watcher.progress(), end);
        let list = f.list(Query { filter, namespace, ..Query::default() }).await;
        let expected: Vec<_> = list.objects.iter().map(|object| (object.key().clone(), object.bytes())).collect();
        let found: Vec<_> = state.iter().map(|(key, object)| (key.clone(), object.bytes())).collect();
        assert_eq!(found, expected);
        // The same state again, this time rewound from the history.
        let past = f.list(Query { at: At::Exact(snapshot.revision), namespace, ..Query::default() }).await;
        let ours: Vec<_> = past.objects.iter().map(|object| object.revision()).collect();
        let options = xebec_store::ListOptions { revision: Some(snapshot.revision), ..Default::default() };
        let prefix = format!("/registry/{PODS}/{}", namespace.map(|n| format!("{n}/")).unwrap_or_default());
        let stored = f.store.list(&prefix, options).await.unwrap();
        assert_eq!(ours, stored.entries.iter().map(|entry| entry.mod_revision).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_follows_etcd_across_kill_9_and_foreign_writes() {
    let mut process = EtcdProcess::start(&[]);
    let store: Arc<dyn Store> = Arc::new(etcd::connect(&[process.endpoint()], None).await.unwrap());
    let cache = Cache::new(store.clone(), Arc::new(Labels)).await.unwrap();
    let mut watcher = cache.watch(PODS, None, Filter::all(), Start::Snapshot).unwrap();
    write(&*store, "a", "1", "web", "n1").await;
    process.restart(Duration::from_millis(100)).await;
    cache.barrier().await.unwrap();
    let second = write(&*store, "a", "2", "web", "n1").await;
    // A revision without an event below the prefix: the barrier makes one.
    committed(store.txn(put("/elsewhere", Expect::Absent, "")).await.unwrap());
    let revision = cache.barrier().await.unwrap();
    assert!(revision > second);
    let list = cache.list(&Query { resource: PODS, ..Query::default() }).await.unwrap();
    assert_eq!(names(&list), ["a/1", "a/2"]);
    assert_eq!(next(&mut watcher).await.1, "1");
    assert_eq!(next(&mut watcher).await.1, "2");
}
