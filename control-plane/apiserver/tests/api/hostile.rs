//! Clients that mean harm, or are broken: each is refused or let go within bounds, while others are served.

use std::io::Write;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::crd;
use crate::harness::{CONFIG_MAPS, Cluster, config_map, request};

/// What a refusal may take on a machine that does other things.
pub const SOON: Duration = Duration::from_secs(10);

/// The body is refused with `code` and these words in bounded time, and nothing is stored.
async fn check(cluster: &Cluster, headers: &[(&str, &str)], body: impl Into<bytes::Bytes>, code: u16, words: &str) {
    let sent = cluster.send("POST", CONFIG_MAPS, headers, body);
    let answer = tokio::time::timeout(SOON, sent).await.expect("an answer in time");
    assert_eq!(answer.code, code, "{headers:?}: {}", answer.text);
    assert_eq!(answer.body["kind"], "Status", "{}", answer.text);
    let message = answer.body["message"].as_str().unwrap_or_default();
    assert!(message.contains(words), "{message:?} does not say {words:?}");
    assert_eq!(cluster.get(&format!("{CONFIG_MAPS}/bad")).await.code, 404, "something was stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_would_not_fit_or_parse_are_refused() {
    let cluster = Cluster::start().await;
    let json = [("content-type", "application/json")];
    let yaml = [("content-type", "application/yaml")];
    let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
    let named = |tail: &str| format!(r#"{{"metadata":{{"name":"bad"}},"data":{tail}}}"#);
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    check(&cluster, &json, named(&deep("[", "]")), 400, "recursion limit exceeded").await;
    check(&cluster, &json, named(&deep(r#"{"a":"#, "}")), 400, "recursion limit exceeded").await;
    check(&cluster, &yaml, format!("metadata: {{name: bad}}\ndata: {}", deep("[", "]")), 400, "").await;
    check(&cluster, &json, named(r#""\xff""#), 400, "").await;
    check(&cluster, &json, b"{\"metadata\":{\"name\":\"bad\"},\"data\":{\"a\":\"\xff\xfe\"}}".to_vec(), 400, "").await;
    check(&cluster, &yaml, b"metadata: {name: bad}\ndata: {a: \"\xff\xfe\"}".to_vec(), 400, "").await;
    check(&cluster, &json, "", 400, "").await;
    check(&cluster, &json, named("null") + "garbage", 400, "").await;
    check(&cluster, &protobuf, b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(), 400, "").await;
    // A length that promises more than there is must not be believed.
    check(&cluster, &protobuf, b"k8s\0\x12\xff\xff\xff\xff\x07\x00".to_vec(), 400, "").await;
    check(&cluster, &[("content-type", "application/x-www-form-urlencoded")], "a=b", 415, "unknown format").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_bodies_do_not_become_large_ones() {
    let cluster = Cluster::start().await;
    // Nine levels of nine references each: 3.5 GB if they were expanded.
    let mut bomb = "metadata: {name: bad}\na: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for (from, to) in ('a'..='i').zip('b'..='j') {
        bomb += &format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 9].join(", "));
    }
    let before = resident_kb();
    check(&cluster, &[("content-type", "application/yaml")], bomb, 400, "").await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![b' '; 64 << 20]).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!(gzip.len() < 100 << 10);
    check(&cluster, &[("content-type", "application/json"), ("content-encoding", "gzip")], gzip, 400, "").await;
    let grown = resident_kb().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KB more resident");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_refused_before_it_is_read_whole() {
    let cluster = Cluster::start().await;
    let body = format!(r#"{{"metadata":{{"name":"bad"}},"data":{{"a":"{}"}}}}"#, "x".repeat(3 << 20));
    check(&cluster, &[("content-type", "application/json")], body, 413, "limit is 3145728").await;
    // One byte of a body that never ends, for longer than the server reads.
    let mut connection = cluster.raw(Some("admin")).await;
    let head = format!("POST {CONFIG_MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![b' '; 1 << 20];
    let mut sent = 0_usize;
    while sent < 64 && tokio::time::timeout(SOON, connection.write_all(&chunk)).await.is_ok_and(|w| w.is_ok()) {
        sent += 1;
    }
    assert!(sent < 64, "the server read {sent} MB of a body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_cannot_climb_out_of_their_resource() {
    let cluster = Cluster::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    cluster.post(secrets, &json!({ "metadata": { "name": "s" }, "stringData": { "k": "v" } })).await.expect(201);
    for name in ["..%2fsecrets%2fs", "..%2Fsecrets%2Fs", "%2e%2e/secrets/s", "s%00", "a%2fb", ".", "..", "%2e%2e"] {
        let answer = cluster.get(&format!("{CONFIG_MAPS}/{name}")).await;
        assert!((400..500).contains(&answer.code), "{name}: {} {}", answer.code, answer.text);
        assert!(!answer.text.contains("\"k\""), "{name}: {}", answer.text);
    }
    for name in ["../s", "a/b", "..", "a\u{0}", "\u{202e}", "A", &"a".repeat(254)] {
        let answer = cluster.post(CONFIG_MAPS, &json!({ "metadata": { "name": name } })).await;
        assert_eq!(answer.code, 422, "{name:?}: {}", answer.text);
    }
    for namespace in ["..", "%2e%2e", "default%2f..%2fkube-system"] {
        let answer = cluster.post(&format!("/api/v1/namespaces/{namespace}/configmaps"), &config_map("a")).await;
        assert!((400..500).contains(&answer.code), "{namespace}: {} {}", answer.code, answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_and_slow_clients_do_not_keep_others_from_being_served() {
    let cluster = Cluster::start().await;
    let address = cluster.server.addresses()[0];
    let mut held = Vec::new();
    // Half-open TLS: nothing, and the first bytes of a ClientHello.
    for hello in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        for _ in 0..200 {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            tcp.write_all(hello).await.unwrap();
            held.push(tcp);
        }
    }
    // Slow-loris: a head, and a body, that do not go on.
    let mut slow = Vec::new();
    for text in ["GET /version HTTP/1.1\r\nhost: loc", "POST /api HTTP/1.1\r\nhost: l\r\ncontent-length: 10\r\n\r\n{"] {
        for _ in 0..20 {
            let mut tls = cluster.raw(Some("admin")).await;
            tls.write_all(text.as_bytes()).await.unwrap();
            slow.push(tls);
        }
    }
    let start = Instant::now();
    cluster.post(CONFIG_MAPS, &config_map("served")).await.expect(201);
    cluster.get(&format!("{CONFIG_MAPS}/served")).await.expect(200);
    assert!(start.elapsed() < SOON, "served after {:?}", start.elapsed());
    // Those without a handshake are let go by themselves (10 s).
    let mut byte = [0; 64];
    for tcp in &mut held {
        let read = tokio::time::timeout(Duration::from_secs(20), tcp.read(&mut byte)).await;
        assert!(read.is_ok(), "a silent client is kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_nobody_reads_costs_a_bounded_amount() {
    let cluster = Cluster::start().await;
    let mut unread = Vec::new();
    for _ in 0..20 {
        let response = cluster.open(request("GET", &format!("{CONFIG_MAPS}?watch=true"), &[], "")).await;
        assert_eq!(response.status(), 200);
        unread.push(response);
    }
    let (before, blob) = (resident_kb(), "x".repeat(100_000));
    for i in 0..100 {
        let object =
            json!({ "metadata": { "name": format!("c{}", i % 4) }, "data": { "blob": blob, "i": i.to_string() } });
        let path = format!("{CONFIG_MAPS}/c{}", i % 4);
        let code =
            if i < 4 { cluster.post(CONFIG_MAPS, &object).await } else { cluster.put(&path, &object).await }.code;
        assert!(code == 200 || code == 201, "{code}");
    }
    // 20 watchers share 100 events of 100 KB: about 10 MB once, not 200 MB.
    let grown = resident_kb().saturating_sub(before);
    assert!(grown < 120 << 10, "{grown} KB more resident");
    drop(unread);
    let answer = cluster.get(&format!("{CONFIG_MAPS}/c0")).await.expect(200);
    assert_eq!(answer["data"]["i"], "96");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_instead_of_requests_is_answered_or_let_go() {
    let cluster = Cluster::start().await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: l\r\n\r\n", "a".repeat(1 << 20));
    let headers = format!("GET / HTTP/1.1\r\nhost: l\r\n{}\r\n", "x: y\r\n".repeat(100_000));
    for text in ["\0\0\0\0\r\n\r\n", "BREW / COFFEE\r\n\r\n", long.as_str(), headers.as_str()] {
        let mut connection = cluster.raw(None).await;
        _ = connection.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        let end = tokio::time::timeout(SOON, connection.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "{:?} keeps its connection", &text[..20.min(text.len())]);
        let said = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    let mut sender = cluster.connect(None).await;
    let response = sender.send_request(request("GET", "/version", &[], "")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().first(), Some(&b'{'));
    assert_eq!(cluster.get("/readyz").await.text, "ok");
    let _: Value = cluster.get("/version").await.expect(200);
}

pub fn resident_kb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// A rule that runs until its time is over, on the only thread that requests have.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn others_are_served_while_a_rule_runs() {
    let cluster = Cluster::start().await;
    let numbers = json!({ "type": "array", "items": { "type": "integer" } });
    let spec = json!({ "type": "object", "properties": {
        "color": { "type": "string" }, "replicas": { "type": "integer" },
        "turns": { "type": "array", "maxItems": 1000, "items": { "type": "integer" } },
        "nested": { "type": "array", "maxItems": 10, "items": numbers },
    }, "x-kubernetes-validations": [{ "rule": "self.turns.all(turn, self.nested == self.nested)" }] });
    crd::establish(&cluster, &crd::widgets(&spec)).await;
    let nested = vec![vec![1; 10_000]; 10];
    let slow = crd::widget("slow", &json!({ "turns": vec![1; 1000], "nested": nested }));
    let mut slow = std::pin::pin!(cluster.post(crd::WIDGETS, &slow));
    let has_ended = tokio::time::timeout(Duration::from_millis(300), &mut slow).await.is_ok();
    assert!(!has_ended, "the rule runs");
    let quick = async {
        cluster.get("/api/v1/namespaces/default").await.expect(200);
    };
    tokio::select! {
        biased;
        _ = &mut slow => panic!("the other request waited for the rule"),
        () = quick => {}
    }
    slow.await.refused(422, "Invalid", "actual cost limit exceeded");
}
