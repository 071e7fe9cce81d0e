use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use xebec_store::{Change, Error, Expect, Outcome, Store, etcd};

use crate::{contract::take, create, etcd_process::EtcdProcess, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_outlives_kill_9_without_losing_an_event() {
    let mut process = EtcdProcess::start(&[]);
    let store: Arc<dyn Store> = Arc::new(etcd::connect(&[process.endpoint()], None).await.unwrap());
    let start = store.current_revision().await.unwrap();
    let mut events = store.watch("/registry/", start).await.unwrap();
    let mut writers = JoinSet::new();
    let writer = store.clone();
    writers.spawn(async move {
        let mut committed = Vec::new();
        for n in 0..300 {
            let key = format!("/registry/k/{n:03}");
            // An error leaves open whether the write happened: try again until something is certain.
            loop {
                match writer.txn(put(&key, Expect::Absent, n.to_string())).await {
                    Ok(Outcome::Committed(revision)) => committed.push(revision),
                    Ok(Outcome::Conflict(Some(entry))) => committed.push(entry.mod_revision),
                    Ok(Outcome::Conflict(None)) => panic!("a conflict with nothing"),
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                }
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        committed
    });
    for pause in [10, 400] {
        tokio::time::sleep(Duration::from_millis(250)).await;
        process.restart(Duration::from_millis(pause)).await;
    }
    let seen = take(&mut events, 300).await;
    let written = writers.join_next().await.unwrap().unwrap();
    assert_eq!(seen.iter().map(|event| event.revision).collect::<Vec<_>>(), written);
    assert_eq!(store.current_revision().await.unwrap(), *written.last().unwrap());
}

#[tokio::test]
async fn large_lists_and_values_pass() {
    let process = EtcdProcess::start(&[]);
    let store = etcd::connect(&[process.endpoint()], None).await.unwrap();
    let value = "x".repeat(1 << 20);
    for n in 0..6 {
        create(&store, &format!("/registry/big/{n}"), &value).await;
    }
    let list = store.list("/registry/big/", Default::default()).await.unwrap();
    assert_eq!(list.entries.len(), 6);
    let mut events = store.watch("/registry/big/", Default::default()).await.unwrap();
    let seen = take(&mut events, 6).await;
    assert!(matches!(&seen[5].change, Change::Put { value: seen, .. } if *seen == value));
    let too_large = store.txn(put("/registry/big/9", Expect::Absent, vec![b'x'; 2 << 20])).await;
    assert!(matches!(too_large, Err(Error::TooLarge { .. })), "{too_large:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_database_recovers_by_itself() {
    let process = EtcdProcess::start(&["--quota-backend-bytes=4194304"]);
    let store = etcd::connect(&[process.endpoint()], None).await.unwrap();
    let mut current = None;
    let mut refused = 0;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    let mut written_after = 0;
    while written_after < 2 {
        assert!(tokio::time::Instant::now() < deadline, "etcd stays full");
        let expect = current.map_or(Expect::Absent, Expect::Revision);
        match store.txn(put("/registry/k", expect, vec![b'x'; 200 << 10])).await {
            Ok(Outcome::Committed(revision)) => {
                current = Some(revision);
                written_after += u32::from(refused > 0);
            }
            Ok(Outcome::Conflict(entry)) => current = entry.map(|entry| entry.mod_revision),
            Err(_) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

#[tokio::test]
async fn bad_options_are_named() {
    async fn check(endpoints: &[&str], expected: &str) {
        let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        let options = etcd::Options { request_timeout: Duration::from_millis(300), ..Default::default() };
        let error = etcd::connect_with(&endpoints, None, options).await.err().expect("it cannot work");
        let text = xebec_store::chain(&error);
        assert!(text.contains(expected), "{endpoints:?}: {text}");
    }
    check(&[], "endpoints: none are given").await;
    check(&["127.0.0.1:2379"], "invalid etcd endpoint (http:// or https://): 127.0.0.1:2379").await;
    check(&["http://a", "https://b"], "all http:// or all https://").await;
    check(&["http://127.0.0.1:1"], "store is unavailable: read the revision").await;
}
