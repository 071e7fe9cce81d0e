//! `kill -9` at random moments loses no acknowledged write.
//!
//! The test binary runs itself as the victim: it writes and prints every acknowledged write to its parent.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use xebec_store::{Expect, ListOptions, Outcome, Store, embedded};

use crate::{put, rng::Rng};

const DIR: &str = "XEBEC_STORE_CRASH_DIR";
const KEYS: u64 = 16;

#[tokio::test]
async fn no_acknowledged_write_is_lost_by_kill_9() {
    let dir = TempDir::new().unwrap();
    let mut rng = Rng::new(std::process::id().into());
    let mut acknowledged: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for round in 0..8 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["crash::victim", "--exact", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_millis(150 + rng.below(250))).await;
        victim.kill().unwrap();
        victim.wait().unwrap();
        let lines = reader.join().unwrap();
        for line in &lines {
            if let [key, revision, value] = line.split(' ').collect::<Vec<_>>()[..]
                && key.starts_with('/')
                && value.ends_with('.')
            {
                acknowledged.insert(key.to_owned(), (revision.parse().unwrap(), value.to_owned()));
            }
        }
        let store = embedded::open(dir.path()).await.unwrap();
        let list = store.list("/registry/", ListOptions::default()).await.unwrap();
        for (key, (revision, value)) in &acknowledged {
            let found = list.entries.iter().find(|entry| &*entry.key == key).unwrap_or_else(|| panic!("{key} is lost"));
            let newer = found.mod_revision.0 > *revision;
            assert!(newer || found.value == value.as_bytes(), "round {round}: {key}@{revision} is lost");
            assert!(found.mod_revision.0 >= *revision, "round {round}: {key} went back in time");
        }
    }
    assert!(acknowledged.len() as u64 == KEYS, "the victims wrote: {}", acknowledged.len());
}

/// Writes until it is killed; passes at once when it is not told where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let options = embedded::Options {
        segment_bytes: 64 << 10,
        history_bytes: 128 << 10,
        history_age: Duration::from_secs(1),
        sync: true,
    };
    let store = embedded::open_with(dir, options).await.unwrap();
    let write = async |key: u64| {
        let key = format!("/registry/k/{key}");
        let mut current = store.get(&key).await.unwrap();
        for n in 0u64.. {
            let expect = current.as_ref().map_or(Expect::Absent, |entry| Expect::Revision(entry.mod_revision));
            let value = format!("{n}-{}.", "x".repeat((n % 700) as usize));
            match store.txn(put(&key, expect, value.clone())).await.unwrap() {
                Outcome::Committed(revision) => {
                    println!("{key} {revision} {value}");
                    current = store.get(&key).await.unwrap();
                }
                Outcome::Conflict(entry) => current = entry,
            }
        }
    };
    futures::future::join_all((0..KEYS).map(write)).await;
}

/// A limit on the size of files stands for a full disk: a write that does not fit is refused as a whole, the next that does
/// is taken.
#[tokio::test]
async fn a_write_that_does_not_fit_on_the_disk_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let limited = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -f 1000; exec "$0" crash::limited --exact --nocapture"#])
        .arg(std::env::current_exe().unwrap())
        .env(DIR, dir.path())
        .output()
        .unwrap();
    assert!(limited.status.success(), "{limited:?}");
    let store = embedded::open(dir.path()).await.unwrap();
    let list = store.list("/registry/", ListOptions::default()).await.unwrap();
    let found: Vec<_> = list.entries.iter().map(|entry| (&*entry.key, entry.value.len())).collect();
    assert_eq!(found, [("/registry/1", 300_000), ("/registry/3", 1000)]);
}

#[tokio::test]
async fn limited() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = embedded::open(dir).await.unwrap();
    for (key, size, fits) in
        [("/registry/1", 300_000, true), ("/registry/2", 900_000, false), ("/registry/3", 1000, true)]
    {
        let result = store.txn(put(key, Expect::Absent, vec![b'x'; size])).await;
        match result {
            Ok(Outcome::Committed(_)) if fits => {}
            Err(xebec_store::Error::Unavailable { .. }) if !fits => {}
            other => panic!("{key}: {other:?}"),
        }
    }
}
