//! What was backed up comes back, in either store, and nothing is written over unasked.

use bytes::Bytes;
use tempfile::TempDir;
use xebec_store::{Entry, Error, Expect, Revision, Store, backup, embedded, etcd};

use crate::{committed, create, delete, etcd_process::EtcdProcess, put};

async fn all(store: &dyn Store) -> Vec<Entry> {
    let mut pages = backup::Pages::new(store);
    let mut all = Vec::new();
    while let Some((entries, _)) = pages.next().await.unwrap() {
        all.extend(entries);
    }
    all
}

fn contents(entries: &[Entry]) -> Vec<(&str, &Bytes)> {
    entries.iter().map(|entry| (&*entry.key, &entry.value)).collect()
}

/// 2,500 objects, of which some were changed and some deleted.
async fn fill(store: &dyn Store) {
    for i in 0..2_500 {
        let key = format!("/registry/core/configmaps/ns/c{i:04}");
        let at = create(store, &key, &format!("{{\"i\":{i}}}")).await;
        match i % 5 {
            0 => _ = committed(store.txn(delete(&key, at)).await.unwrap()),
            1 => _ = committed(store.txn(put(&key, Expect::Revision(at), "{}")).await.unwrap()),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_open_store_is_looked_at_without_disturbing_it() {
    let dir = TempDir::new().unwrap();
    let options = embedded::Options { segment_bytes: 64 << 10, ..embedded::Options::default() };
    let store = embedded::open_with(dir.path(), options).await.unwrap();
    fill(&store).await;
    let look = embedded::look(dir.path()).await.unwrap();
    let last = create(&store, "/registry/core/configmaps/ns/later", "{}").await;
    let seen = all(&look).await;
    assert_eq!(seen.len(), 2_000);
    assert!(seen.iter().all(|entry| entry.mod_revision < last));
    assert!(matches!(look.txn(put("/registry/core/x/y", Expect::Absent, "{}")).await, Err(Error::Closed)));
    drop(look);
    assert!(matches!(embedded::open(dir.path()).await, Err(Error::Locked { .. })));
    assert_eq!(all(&store).await.len(), 2_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looks_during_writes_and_compactions_are_whole() {
    let dir = TempDir::new().unwrap();
    let (age, size) = (std::time::Duration::from_millis(1), 16 << 10);
    let options =
        embedded::Options { segment_bytes: size, history_age: age, history_bytes: size, ..Default::default() };
    let store = embedded::open_with(dir.path(), options).await.unwrap();
    // The pair is written one after the other: never is the second newer than the first.
    let writer = async {
        let mut at = [Revision(0); 2];
        for i in 0..2_000 {
            for (n, at) in at.iter_mut().enumerate() {
                let key = format!("/registry/core/configmaps/ns/pair{n}");
                let expect = if i == 0 { Expect::Absent } else { Expect::Revision(*at) };
                *at = committed(store.txn(put(&key, expect, format!("{i:0>500}"))).await.unwrap());
            }
        }
    };
    let looker = async {
        for _ in 0..50 {
            let seen = all(&embedded::look(dir.path()).await.unwrap()).await;
            let values: Vec<u32> =
                seen.iter().map(|e| std::str::from_utf8(&e.value).unwrap().parse().unwrap()).collect();
            assert!(values.len() < 2 || values[0] == values[1] || values[0] == values[1] + 1, "{values:?}");
        }
    };
    tokio::join!(writer, looker);
}

#[tokio::test]
async fn a_destroyed_store_comes_back() {
    let dir = TempDir::new().unwrap();
    let store = embedded::open(dir.path()).await.unwrap();
    fill(&store).await;
    let kept = all(&store).await;
    let seen = store.current_revision().await.unwrap();
    drop(store);
    std::fs::remove_dir_all(dir.path()).unwrap();

    let restore = |replace| embedded::restore(dir.path(), Revision(1_000_000), kept.iter().cloned().map(Ok), replace);
    assert_eq!(restore(false).unwrap(), 2_000);
    assert!(matches!(restore(false), Err(Error::NotEmpty { .. })));
    let store = embedded::open(dir.path()).await.unwrap();
    assert_eq!(all(&store).await, kept);
    assert!(create(&store, "/registry/core/configmaps/ns/next", "{}").await > Revision(1_000_000));
    // A client that was connected before must list again.
    assert!(matches!(store.watch("/registry/", seen).await, Err(Error::Compacted { .. })));
    assert!(matches!(restore(true), Err(Error::Locked { .. })));
    drop(store);
    assert_eq!(restore(true).unwrap(), 2_000);
    assert_eq!(all(&embedded::open(dir.path()).await.unwrap()).await, kept);
}

#[tokio::test]
async fn a_backup_of_one_store_comes_back_in_the_other() {
    let dir = TempDir::new().unwrap();
    let store = embedded::open(dir.path()).await.unwrap();
    fill(&store).await;
    let kept = all(&store).await;
    let process = EtcdProcess::start(&[]);
    let etcd = etcd::connect(&[process.endpoint()], None).await.unwrap();
    etcd.nudge().await.unwrap();
    assert!(backup::is_empty(&etcd).await.unwrap(), "a store's own marks are no objects");
    for entry in &kept {
        backup::write(&etcd, entry).await.unwrap();
    }
    assert!(!backup::is_empty(&etcd).await.unwrap());
    assert!(matches!(backup::write(&etcd, &kept[0]).await, Err(Error::NotEmpty { .. })));
    let back = all(&etcd).await;
    assert_eq!(contents(&back), contents(&kept));
    assert_eq!(backup::clear(&etcd).await.unwrap(), 2_000);
    assert!(backup::is_empty(&etcd).await.unwrap());
}
