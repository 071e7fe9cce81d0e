use std::time::Duration;

use tempfile::TempDir;
use xebec_store::{
    Error, Expect, ListOptions, Revision, Store,
    embedded::{self, Options},
};

use crate::{committed, contract::take, create, delete, put, rng::Rng};

const SMALL: Options =
    Options { segment_bytes: 4 << 10, history_age: Duration::from_secs(3600), history_bytes: 32 << 10, sync: false };

#[tokio::test]
async fn state_and_history_survive_a_restart() {
    let dir = TempDir::new().unwrap();
    let store = embedded::open(dir.path()).await.unwrap();
    let first = create(&store, "/registry/a", "1").await;
    let second = create(&store, "/registry/b", "2").await;
    let third = committed(store.txn(delete("/registry/a", first)).await.unwrap());
    assert!(matches!(embedded::open(dir.path()).await, Err(Error::Locked { .. })));
    drop(store);

    let store = embedded::open(dir.path()).await.unwrap();
    assert_eq!(store.current_revision().await.unwrap(), third);
    assert_eq!(store.get("/registry/a").await.unwrap(), None);
    assert_eq!(store.get("/registry/b").await.unwrap().unwrap().mod_revision, second);
    let past = ListOptions { revision: Some(second), ..ListOptions::default() };
    assert_eq!(store.list("/registry/", past).await.unwrap().entries.len(), 2);
    let mut events = store.watch("/registry/", first).await.unwrap();
    assert_eq!(take(&mut events, 2).await[1].revision, third);
    assert!(create(&store, "/registry/a", "again").await > third);
}

/// Random writes against a map, with compaction and restarts in between.
#[tokio::test]
async fn files_stay_bounded_and_hold_the_state() {
    let dir = TempDir::new().unwrap();
    let mut rng = Rng::new(7);
    let mut model = std::collections::BTreeMap::new();
    let mut peak = 0;
    for round in 0..6 {
        let store = embedded::open_with(dir.path(), SMALL).await.unwrap();
        for _ in 0..600 {
            let key = format!("/registry/k/{:02}", rng.below(40));
            let value = "v".repeat(rng.below(400) as usize);
            match model.get(&key) {
                Some((revision, _)) if rng.below(4) == 0 => {
                    committed(store.txn(delete(&key, *revision)).await.unwrap());
                    model.remove(&key);
                }
                current => {
                    let expect = current.map_or(Expect::Absent, |(revision, _)| Expect::Revision(*revision));
                    let revision = committed(store.txn(put(&key, expect, value.clone())).await.unwrap());
                    model.insert(key, (revision, value));
                }
            }
        }
        // Compaction runs every second; it has to come to rest below the limit on history plus what is live.
        let bound = SMALL.history_bytes + 2 * SMALL.segment_bytes + 3 * 40 * 450;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while store.usage().base + store.usage().segments > bound {
            assert!(tokio::time::Instant::now() < deadline, "round {round}: {:?} > {bound}", store.usage());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        peak = peak.max(store.usage().base);
        let list = store.list("/registry/k/", ListOptions::default()).await.unwrap();
        let found: Vec<_> = list.entries.iter().map(|e| (e.key.to_string(), e.mod_revision, e.value.clone())).collect();
        let expected: Vec<_> =
            model.iter().map(|(k, (revision, value))| (k.clone(), *revision, value.clone().into())).collect();
        assert_eq!(found, expected, "round {round}");
        let on_disk: u64 = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(on_disk <= bound, "{on_disk} > {bound}");
    }
    assert!(peak > 0, "the live objects were rewritten at least once");
}

#[tokio::test]
async fn a_watch_reads_old_revisions_from_the_files() {
    let dir = TempDir::new().unwrap();
    let options = Options { history_bytes: 1 << 30, ..SMALL };
    let store = embedded::open_with(dir.path(), options).await.unwrap();
    for i in 0..300 {
        create(&store, &format!("/registry/k/{i:04}"), &"x".repeat(5000)).await;
    }
    // Beyond what is in memory, across segments, and on into what comes next.
    let mut events = store.watch("/registry/", Revision(1)).await.unwrap();
    let past = take(&mut events, 300).await;
    create(&store, "/registry/k/last", "").await;
    let next = take(&mut events, 1).await;
    let revisions: Vec<u64> = past.iter().chain(&next).map(|event| event.revision.0).collect();
    assert_eq!(revisions, (2..=302).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_interrupted_write_is_dropped_and_damage_is_refused() {
    let dir = TempDir::new().unwrap();
    // Without reserved space, so that the file ends where its content does.
    let unsynced = Options { sync: false, ..Options::default() };
    let store = embedded::open_with(dir.path(), unsynced).await.unwrap();
    let revision = create(&store, "/registry/a", "kept").await;
    let path = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
    let log = path.into_iter().find(|p| p.file_name().unwrap().to_str().unwrap().starts_with("log-")).unwrap();
    let whole = std::fs::metadata(&log).unwrap().len() as usize;
    create(&store, "/registry/b", "second").await;
    drop(store);
    let bytes = std::fs::read(&log).unwrap();

    for cut in whole..bytes.len() {
        std::fs::write(&log, &bytes[..cut]).unwrap();
        let store = embedded::open(dir.path()).await.unwrap();
        assert_eq!(store.current_revision().await.unwrap(), revision, "cut at {cut}");
        assert_eq!(store.get("/registry/a").await.unwrap().unwrap().value, "kept");
    }
    let mut torn = bytes.clone();
    *torn.last_mut().unwrap() ^= 1;
    std::fs::write(&log, &torn).unwrap();
    let store = embedded::open(dir.path()).await.unwrap();
    assert_eq!(store.current_revision().await.unwrap(), revision);
    drop(store);

    let mut damaged = bytes;
    damaged[whole - 1] ^= 1;
    std::fs::write(&log, &damaged).unwrap();
    assert!(matches!(embedded::open(dir.path()).await, Err(Error::Corrupt { offset: 0, .. })));
}

#[tokio::test]
async fn values_have_a_limit() {
    let dir = TempDir::new().unwrap();
    let store = embedded::open(dir.path()).await.unwrap();
    let value = vec![b'x'; embedded::VALUE_BYTES_MAX + 1];
    let result = store.txn(put("/registry/a", Expect::Absent, value)).await;
    assert!(matches!(result, Err(Error::TooLarge { .. })));
}
