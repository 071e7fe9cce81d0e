//! One suite for both stores.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture};
use tempfile::TempDir;
use tokio::task::JoinSet;
use xebec_store::{Change, Error, Event, EventStream, Expect, ListOptions, Outcome, Revision, Store};

use crate::{committed, create, delete, etcd_process::EtcdProcess, put, rng::Rng};

type Test = fn(Arc<dyn Store>) -> BoxFuture<'static, ()>;

async fn check(test: Test) {
    let dir = TempDir::new().unwrap();
    test(Arc::new(xebec_store::embedded::open(dir.path()).await.unwrap())).await;
    let etcd = EtcdProcess::start(&[]);
    test(Arc::new(xebec_store::etcd::connect(&[etcd.endpoint()], None).await.unwrap())).await;
}

/// The next events until `count` have come.
pub async fn take(events: &mut EventStream, count: usize) -> Vec<Event> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("an event comes");
        taken.extend(batch.expect("the watch goes on").unwrap());
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

#[tokio::test]
async fn a_write_happens_only_as_expected() {
    check(|store| {
        Box::pin(async move {
            assert_eq!(store.get("/registry/a").await.unwrap(), None);
            let first = create(&*store, "/registry/a", "1").await;
            let entry = store.get("/registry/a").await.unwrap().unwrap();
            assert_eq!((&*entry.key, &entry.value[..]), ("/registry/a", &b"1"[..]));
            assert_eq!((entry.create_revision, entry.mod_revision), (first, first));

            let again = store.txn(put("/registry/a", Expect::Absent, "2")).await.unwrap();
            assert_eq!(again, Outcome::Conflict(Some(entry.clone())));
            let stale = store.txn(put("/registry/a", Expect::Revision(Revision(first.0 + 9)), "2")).await.unwrap();
            assert_eq!(stale, Outcome::Conflict(Some(entry)));
            assert_eq!(store.txn(delete("/registry/b", first)).await.unwrap(), Outcome::Conflict(None));

            let second = committed(store.txn(put("/registry/a", Expect::Revision(first), "2")).await.unwrap());
            assert!(second > first);
            let entry = store.get("/registry/a").await.unwrap().unwrap();
            assert_eq!((entry.create_revision, entry.mod_revision), (first, second));
            let gone = committed(store.txn(delete("/registry/a", second)).await.unwrap());
            assert!(gone > second);
            assert_eq!(store.get("/registry/a").await.unwrap(), None);
            assert_eq!(store.txn(delete("/registry/a", second)).await.unwrap(), Outcome::Conflict(None));
            assert_eq!(store.current_revision().await.unwrap(), gone);
            assert!(create(&*store, "/registry/a", "3").await > gone);
        })
    })
    .await;
}

#[tokio::test]
async fn lists_page_through_one_revision() {
    check(|store| {
        Box::pin(async move {
            for name in ["a", "b", "c", "d", "e"] {
                create(&*store, &format!("/registry/x/{name}"), name).await;
            }
            let last = create(&*store, "/registry/xy", "").await;
            let options = ListOptions { limit: 2, ..ListOptions::default() };
            let page = store.list("/registry/x/", options.clone()).await.unwrap();
            assert_eq!((page.entries.len(), page.more, page.remaining, page.revision), (2, true, 3, last));
            // Neither a later write nor a later deletion shows in the pages that follow.
            let at_d = store.get("/registry/x/d").await.unwrap().unwrap().mod_revision;
            committed(store.txn(delete("/registry/x/d", at_d)).await.unwrap());
            create(&*store, "/registry/x/c1", "late").await;
            let mut names = Vec::new();
            let mut start_after = page.entries.last().map(|entry| entry.key.to_string());
            loop {
                let options = ListOptions { start_after, revision: Some(last), ..options.clone() };
                let page = store.list("/registry/x/", options).await.unwrap();
                assert_eq!(page.revision, last);
                names.extend(page.entries.iter().map(|entry| String::from_utf8(entry.value.to_vec()).unwrap()));
                start_after = page.entries.last().map(|entry| entry.key.to_string());
                if !page.more {
                    break;
                }
            }
            assert_eq!(names, ["c", "d", "e"]);
            let all = store.list("/registry/x/", ListOptions::default()).await.unwrap();
            assert_eq!((all.entries.len(), all.more, all.remaining), (5, false, 0));
            let future = ListOptions { revision: Some(Revision(1 << 40)), ..ListOptions::default() };
            assert!(matches!(store.list("/registry/x/", future).await, Err(Error::Future { .. })));
        })
    })
    .await;
}

#[tokio::test]
async fn a_watch_sees_the_past_and_the_present() {
    check(|store| {
        Box::pin(async move {
            let before = store.current_revision().await.unwrap();
            let first = create(&*store, "/registry/x/a", "1").await;
            create(&*store, "/registry/y/a", "other").await;
            let second = committed(store.txn(put("/registry/x/a", Expect::Revision(first), "2")).await.unwrap());
            let mut events = store.watch("/registry/x/", before).await.unwrap();
            let mut later = store.watch("/registry/x/", first).await.unwrap();
            let past = take(&mut events, 2).await;
            assert_eq!(past[0].change, Change::Put { value: "1".into(), create_revision: first });
            assert_eq!((past[1].revision, &*past[1].key), (second, "/registry/x/a"));
            let gone = committed(store.txn(delete("/registry/x/a", second)).await.unwrap());
            let expected = [Event { key: "/registry/x/a".into(), revision: gone, change: Change::Delete }];
            assert_eq!(take(&mut events, 1).await, expected);
            assert_eq!(take(&mut later, 2).await, [&past[1..], &expected].concat());
        })
    })
    .await;
}

#[tokio::test]
async fn compaction_ends_the_past() {
    check(|store| {
        Box::pin(async move {
            let mut revision = create(&*store, "/registry/a", "0").await;
            let old = revision;
            for i in 0..5 {
                let next = store.txn(put("/registry/a", Expect::Revision(revision), i.to_string())).await.unwrap();
                revision = committed(next);
            }
            let at = |revision| ListOptions { revision: Some(revision), ..ListOptions::default() };
            assert_eq!(store.list("/registry/", at(old)).await.unwrap().entries[0].value, "0");
            store.compact(revision).await.unwrap();
            store.compact(revision).await.unwrap();
            assert!(matches!(store.list("/registry/", at(old)).await, Err(Error::Compacted { .. })));
            assert_eq!(store.list("/registry/", at(revision)).await.unwrap().entries[0].value, "4");
            let watch = match store.watch("/registry/", old).await {
                Ok(mut events) => events.next().await.unwrap().map(|_| ()),
                Err(error) => Err(error),
            };
            assert!(matches!(watch, Err(Error::Compacted { .. })));
            let mut events = store.watch("/registry/", revision).await.unwrap();
            create(&*store, "/registry/b", "").await;
            take(&mut events, 1).await;
        })
    })
    .await;
}

/// Many writers increment few counters by compare-and-swap: no increment is lost, and the events replay to the state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_never_lose_an_update() {
    const WRITERS: u64 = 12;
    const INCREMENTS: u64 = 25;
    check(|store| {
        Box::pin(async move {
            let start = store.current_revision().await.unwrap();
            let mut events = store.watch("/registry/", start).await.unwrap();
            let mut writers = JoinSet::new();
            for seed in 0..WRITERS {
                let store = store.clone();
                writers.spawn(async move {
                    let mut rng = Rng::new(seed);
                    let mut writes = 0;
                    for _ in 0..INCREMENTS {
                        let key = format!("/registry/n/{}", rng.below(3));
                        writes += increment(&*store, &key).await;
                    }
                    writes
                });
            }
            let writes: u64 = writers.join_all().await.into_iter().sum();
            assert_eq!(writes, WRITERS * INCREMENTS);
            let list = store.list("/registry/n/", ListOptions::default()).await.unwrap();
            let total: u64 = list.entries.iter().map(|entry| number(&entry.value)).sum();
            assert_eq!(total, WRITERS * INCREMENTS);
            let mut replayed = BTreeMap::new();
            let mut last = start;
            for event in take(&mut events, writes as usize).await {
                assert!(event.revision > last, "revisions only grow");
                last = event.revision;
                let Change::Put { value, .. } = event.change else { panic!("nothing was deleted") };
                let previous = replayed.insert(event.key.to_string(), number(&value)).unwrap_or(0);
                assert_eq!(number(&value), previous + 1);
            }
            assert_eq!(replayed.values().sum::<u64>(), total);
        })
    })
    .await;
}

async fn increment(store: &dyn Store, key: &str) -> u64 {
    let mut current = store.get(key).await.unwrap();
    loop {
        let (expect, value) = match &current {
            None => (Expect::Absent, 1),
            Some(entry) => (Expect::Revision(entry.mod_revision), number(&entry.value) + 1),
        };
        match store.txn(put(key, expect, value.to_string())).await.unwrap() {
            Outcome::Committed(_) => return 1,
            Outcome::Conflict(entry) => current = entry,
        }
    }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}
