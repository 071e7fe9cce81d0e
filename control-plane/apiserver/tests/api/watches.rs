use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::harness::{CONFIG_MAPS, Cluster, config_map, request};

/// A watch, read event by event.
pub struct Watch {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Watch {
    async fn open(cluster: &Cluster, query: &str, accept: &str) -> Self {
        Self::over(cluster, CONFIG_MAPS, query, accept).await
    }

    pub async fn over(cluster: &Cluster, collection: &str, query: &str, accept: &str) -> Self {
        let path = format!("{collection}?watch=true&{query}");
        let response = cluster.open(request("GET", &path, &[("accept", accept)], Bytes::new())).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next event; `None` when the watch is over.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await.expect("an event");
            self.buffer.extend_from_slice(&frame?.unwrap().into_data().unwrap());
        }
    }

    /// `TYPE name`
    pub async fn expect(&mut self, expected: &str) -> Value {
        let event = self.next().await.expect(expected);
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-");
        assert_eq!(format!("{} {name}", event["type"].as_str().unwrap()), expected, "{event}");
        event
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_what_happens() {
    let cluster = Cluster::start().await;
    let made = cluster.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut all = Watch::open(&cluster, "", "").await;
    all.expect("ADDED a").await;
    let mut since = Watch::open(&cluster, &format!("resourceVersion={version}"), "").await;
    let patched =
        cluster.patch("merge", &format!("{CONFIG_MAPS}/a"), &json!({ "data": { "b": "2" } })).await.expect(200);
    cluster.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null).await.expect(200);
    for watch in [&mut all, &mut since] {
        assert_eq!(watch.expect("MODIFIED a").await["object"], patched);
        watch.expect("DELETED a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_comes_and_goes_with_its_labels() {
    let cluster = Cluster::start().await;
    cluster.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let mut watch = Watch::open(&cluster, "labelSelector=x%3Dy", "").await;
    let path = format!("{CONFIG_MAPS}/a");
    cluster.patch("merge", &path, &json!({ "metadata": { "labels": { "x": "y" } } })).await.expect(200);
    watch.expect("ADDED a").await;
    cluster.patch("merge", &path, &json!({ "metadata": { "labels": { "x": "z" } } })).await.expect(200);
    watch.expect("DELETED a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn initial_events_end_with_a_bookmark() {
    let cluster = Cluster::start().await;
    cluster.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = Watch::open(&cluster, query, "").await;
    watch.expect("ADDED a").await;
    let bookmark = watch.expect("BOOKMARK -").await;
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    cluster.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
    watch.expect("ADDED b").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_in_time_and_says_where_it_was() {
    let cluster = Cluster::start().await;
    let mut watch = Watch::open(&cluster, "resourceVersion=0&timeoutSeconds=1", "").await;
    assert!(watch.next().await.is_none());
    let refused = cluster.get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).await;
    refused.refused(422, "Invalid", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_watched_row_by_row() {
    let cluster = Cluster::start().await;
    cluster.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let mut watch = Watch::open(&cluster, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert!(first["object"]["columnDefinitions"].is_array());
    cluster.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
    let second = watch.next().await.unwrap();
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    assert!(second["object"]["columnDefinitions"].is_null());
}

/// What the server cannot give is said inside the stream, as upstream's cacher does.
async fn check_refused(cluster: &Cluster, query: &str, code: u16, message: &str) {
    let mut watch = Watch::open(cluster, query, "").await;
    let event = watch.next().await.expect("an event");
    assert_eq!((event["type"].as_str(), event["object"]["code"].as_u64()), (Some("ERROR"), Some(u64::from(code))));
    assert!(event["object"]["message"].as_str().unwrap().contains(message), "{event}");
    assert!(watch.next().await.is_none(), "nothing follows an error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_cannot_be_watched_are_refused_in_the_stream() {
    let cluster = Cluster::start().await;
    cluster.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let cluster = cluster.restart().await;
    check_refused(&cluster, "resourceVersion=1", 410, "too old resource version: 1 (").await;
    let future = "resourceVersion=999999&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    check_refused(&cluster, future, 504, "Too large resource version: 999999").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_watch_starts_is_what_the_client_asked_for() {
    let cluster = Cluster::start().await;
    let made = cluster.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let list = "resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let cases = [
        // Present objects come first as ADDED; then what happens.
        (String::new(), &["ADDED a", "ADDED b"][..]),
        ("resourceVersion=0".to_owned(), &["ADDED a", "ADDED b"]),
        (format!("resourceVersion={version}"), &["ADDED b"]),
        (format!("sendInitialEvents=false&resourceVersion={version}&{list}"), &["ADDED b"]),
        (format!("sendInitialEvents=true&{list}"), &["ADDED a", "BOOKMARK -", "ADDED b"]),
        (format!("sendInitialEvents=true&resourceVersion=0&{list}"), &["ADDED a", "BOOKMARK -", "ADDED b"]),
        (format!("sendInitialEvents=true&resourceVersion={version}&{list}"), &["ADDED a", "BOOKMARK -", "ADDED b"]),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(), &["ADDED a", "ADDED b"]),
        ("fieldSelector=metadata.name%3Da".to_owned(), &["ADDED a"]),
    ];
    for (query, expected) in cases {
        let mut watch = Watch::open(&cluster, &query, "").await;
        let (last, before) = expected.split_last().unwrap();
        for event in before {
            watch.expect(event).await;
        }
        cluster.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
        watch.expect(last).await;
        cluster.delete(&format!("{CONFIG_MAPS}/b"), &Value::Null).await.expect(200);
    }
}

/// Conformance: "should receive events on concurrent watches in same order".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watch_tells_the_same_in_the_same_order() {
    let cluster = Cluster::start().await;
    let first = cluster.post(CONFIG_MAPS, &config_map("first")).await.expect(201);
    let start = first["metadata"]["resourceVersion"].as_str().unwrap();
    let mut reference = Watch::open(&cluster, &format!("resourceVersion={start}"), "").await;
    let writer = async |name: &str| {
        let path = format!("{CONFIG_MAPS}/{name}");
        for round in 0..5 {
            cluster.post(CONFIG_MAPS, &config_map(name)).await.expect(201);
            cluster.patch("merge", &path, &json!({ "data": { "round": round.to_string() } })).await.expect(200);
            cluster.delete(&path, &Value::Null).await.expect(200);
        }
    };
    tokio::join!(writer("a"), writer("b"), writer("c"));
    let version = |event: &Value| event["object"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut told = vec![start.to_owned()];
    for _ in 0..45 {
        told.push(version(&reference.next().await.unwrap()));
    }
    assert!(told.is_sorted_by_key(|version| version.parse::<u64>().unwrap()), "{told:?}");
    // A watch from any of these versions tells what came after it, as the first did.
    for at in 0..told.len() - 1 {
        let mut watch = Watch::open(&cluster, &format!("resourceVersion={}", told[at]), "").await;
        for expected in &told[at + 1..] {
            assert_eq!(version(&watch.next().await.unwrap()), *expected, "from {}", told[at]);
        }
    }
}
