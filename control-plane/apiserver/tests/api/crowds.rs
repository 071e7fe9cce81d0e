//! Many clients that mean harm at once, and those that the transport's own time limits do not see.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use xebec_apiserver::Limits;

use crate::harness::{CONFIG_MAPS, Cluster, config_map};
use crate::hostile::{SOON, resident_kb};

const SECOND: Duration = Duration::from_secs(1);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const OPEN: &str = "xebec_apiserver_connections";

fn ended(reason: &str) -> String {
    format!("xebec_apiserver_connections_ended_total{{reason=\"{reason}\"}}")
}

/// Others get what they ask for, now.
async fn others_are_served(cluster: &Cluster, name: &str) -> Duration {
    let start = Instant::now();
    cluster.post(CONFIG_MAPS, &config_map(name)).await.expect(201);
    cluster.get(&format!("{CONFIG_MAPS}/{name}")).await.expect(200);
    assert!(start.elapsed() < SOON, "{name}: served after {:?}", start.elapsed());
    start.elapsed()
}

/// Waits until the server says so of itself.
async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < limit, "{what}: not after {limit:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Clients whose files do not count for this process: those of a thread with a table of its own (unshare(2)).
struct Crowd(mpsc::Sender<(SocketAddr, usize, oneshot::Sender<()>)>);

impl Crowd {
    /// Before there is a server, whose files the thread would keep open.
    fn gather() -> Self {
        let (orders, ordered) = mpsc::channel::<(SocketAddr, usize, oneshot::Sender<()>)>();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_FILES).unwrap();
            let mut held = Vec::new();
            for (address, count, done) in ordered {
                for number in 0..count {
                    let mut tcp = std::net::TcpStream::connect(address).unwrap();
                    if number % 2 == 0 {
                        tcp.write_all(b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
                    }
                    held.push(tcp);
                }
                _ = done.send(());
            }
        });
        Self(orders)
    }

    /// Connections that say nothing, or the first bytes of a ClientHello, for as long as the crowd stays.
    async fn connect(&self, address: SocketAddr, count: usize) {
        let (done, is_done) = oneshot::channel();
        self.0.send((address, count, done)).unwrap();
        is_done.await.expect("all connect");
    }
}

/// Lets this process have so many files.
fn make_room(files: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = files.max(hard);
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, needed, needed) {
        panic!("{files} open files: {error}: raise the hard limit (ulimit -Hn {files})");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_cost_little_and_end_by_themselves() {
    const HALF_OPEN: usize = 9_600;
    const WHOLE: usize = 400;
    // The server's ends, both of those that speak TLS, and what else there is.
    make_room((HALF_OPEN + 2 * WHOLE + 1_500) as u64);
    let crowd = Crowd::gather();
    let limits = Limits { handshake: 25 * SECOND, header: 40 * SECOND, idle: 40 * SECOND, ..Limits::default() };
    let cluster = Cluster::with(|config| {
        config.connections = limits;
        config.request_timeout = 40 * SECOND;
    })
    .await;
    let address = cluster.server.addresses()[0];
    others_are_served(&cluster, "before").await;
    let empty = resident_kb();
    let per = |from: usize, to: usize, count: usize| to.saturating_sub(from) as f64 / count as f64;
    // Some finish TLS and then: nothing, half a head, half a body, a watch that is never read.
    let watch = format!("GET {CONFIG_MAPS}?watch=true HTTP/1.1\r\nhost: l\r\n\r\n");
    let sayings = [
        "",
        "GET /version HTTP/1.1\r\nhost: loc",
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nhost: l\r\ncontent-length: 100\r\n\r\n{",
        &watch,
    ];
    let mut slow = Vec::new();
    for number in 0..WHOLE {
        let mut tls = cluster.raw(Some("admin")).await;
        tls.write_all(sayings[number % sayings.len()].as_bytes()).await.unwrap();
        slow.push(tls);
    }
    let whole = resident_kb();
    // Both ends of TLS are in this process.
    println!("{WHOLE} with TLS: {:.1} KB each, both ends", per(empty, whole, WHOLE));
    assert!(per(empty, whole, WHOLE) < 256.0, "{} KB", whole - empty);
    crowd.connect(address, HALF_OPEN).await;
    let all = (HALF_OPEN + WHOLE) as i64;
    until("all are taken", SOON, async || cluster.metric(OPEN).await >= all).await;
    let halves = resident_kb();
    println!("{HALF_OPEN} half-open connections: {:.1} KB each", per(whole, halves, HALF_OPEN));
    assert!(per(whole, halves, HALF_OPEN) < 24.0, "{} KB", halves - whole);
    println!(
        "of {all} connections others are served in {:?} meanwhile",
        others_are_served(&cluster, "meanwhile").await
    );
    // The watches go on until they are given up.
    until("they end", 90 * SECOND, async || cluster.metric(OPEN).await <= slow.len() as i64 / 4 + 10).await;
    assert!(cluster.metric(&ended("handshake_timeout")).await >= HALF_OPEN as i64);
    assert!(cluster.metric("apiserver_tls_handshake_errors_total").await >= HALF_OPEN as i64);
    drop(slow);
    until("watches are noticed", SOON, async || cluster.metric(OPEN).await <= 10).await;
    others_are_served(&cluster, "after").await;
}

/// A connection from this address of the loopback.
async fn dial(cluster: &Cluster, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((std::net::Ipv4Addr::from(from), 0).into()).unwrap();
    socket.connect(cluster.server.addresses()[0]).await.unwrap()
}

/// Whether the server still holds it; it would say nothing else.
async fn is_open(tcp: &mut TcpStream) -> bool {
    let mut byte = [0];
    tokio::time::timeout(Duration::from_millis(50), tcp.read(&mut byte)).await.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_does_not_keep_others_out() {
    const COUNT: usize = 8;
    let cluster = Cluster::with(|config| {
        config.connections = Limits { count: COUNT, handshake: 60 * SECOND, ..Limits::default() };
    })
    .await;
    until("nobody is connected", SOON, async || cluster.metric(OPEN).await == 0).await;
    let node: (&str, &[&str]) = ("system:node:n", &["system:nodes"]);
    let mut of_node = cluster.connect_over(dial(&cluster, [127, 0, 0, 2]).await, Some(node)).await;
    let me = crate::harness::request("GET", "/version", &[], "");
    assert_eq!(of_node.send_request(me.clone()).await.unwrap().status(), 200);
    let mut hoard = Vec::new();
    for _ in 1..COUNT {
        hoard.push(dial(&cluster, [127, 0, 0, 2]).await);
    }
    until("all are taken", SOON, async || cluster.metric(OPEN).await == COUNT as i64).await;
    let mut more = dial(&cluster, [127, 0, 0, 2]).await;
    assert!(!is_open(&mut more).await, "the address with the most gets no more");
    let admin: (&str, &[&str]) = ("admin", &["system:masters"]);
    let mut other = cluster.connect_over(dial(&cluster, [127, 0, 0, 3]).await, Some(admin)).await;
    assert_eq!(other.send_request(me.clone()).await.unwrap().status(), 200, "another address does");
    let displaced = ended("displaced");
    until("one gave way", SOON, async || cluster.metric(&displaced).await == 1).await;
    assert!(!is_open(&mut hoard[0]).await, "the one that was silent for longest");
    for tcp in &mut hoard[1..] {
        assert!(is_open(tcp).await);
    }
    assert_eq!(of_node.send_request(me).await.unwrap().status(), 200, "a node keeps its own");
    assert_eq!(cluster.metric("xebec_apiserver_connections_refused_total{reason=\"limit\"}").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_without_files_goes_on_when_there_are_some() {
    let cluster = Cluster::start().await;
    let address = cluster.server.addresses()[0];
    let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let sockets: Vec<TcpSocket> = (0..100).map(|_| TcpSocket::new_v4().unwrap()).collect();
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, used + 5, hard).unwrap();
    let mut held = Vec::new();
    for socket in sockets {
        held.push(socket.connect(address).await.unwrap());
    }
    let refused = "xebec_apiserver_connections_refused_total{reason=\"accept\"}";
    until("failures are counted", SOON, async || cluster.metric(refused).await > 2).await;
    drop(held);
    others_are_served(&cluster, "after").await;
    setrlimit(Resource::RLIMIT_NOFILE, before, hard).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_not_taken() {
    let limits = Limits { count: 10, handshake: 5 * SECOND, ..Limits::default() };
    let cluster = Cluster::with(|config| config.connections = limits).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(TcpStream::connect(cluster.server.addresses()[0]).await.unwrap());
    }
    let mut closed = 0;
    for tcp in &mut held {
        let read = tokio::time::timeout(Duration::from_millis(200), tcp.read(&mut [0; 8])).await;
        closed += i64::from(read.is_ok());
    }
    assert!((10..20).contains(&closed), "{closed} of 20 were let go");
    let refused = "xebec_apiserver_connections_refused_total{reason=\"limit\"}";
    assert_eq!(cluster.metric(refused).await, closed);
    drop(held);
    until("there is room again", SOON, async || cluster.metric(OPEN).await == 0).await;
    others_are_served(&cluster, "after").await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET /version` in HPACK: indexed fields, and two that are not.
fn headers(stream: u32) -> Vec<u8> {
    frame(1, 5, stream, b"\x82\x87\x04\x08/version\x01\x01l")
}

/// What the server sends until it closes the connection; none if it does not.
async fn until_closed(connection: &mut (impl AsyncReadExt + Unpin), limit: Duration) -> Option<Vec<u8>> {
    let mut said = Vec::new();
    let read = tokio::time::timeout(limit, connection.read_to_end(&mut said)).await;
    read.is_ok().then_some(said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_connections_that_ask_for_nothing_or_read_nothing_end() {
    let limits = Limits { handshake: 3 * SECOND, idle: 2 * SECOND, answer: 2 * SECOND, ..Limits::default() };
    let cluster = Cluster::with(|config| config.connections = limits).await;
    let mut idle = cluster.raw_http2().await;
    idle.write_all(&[PREFACE, &frame(4, 0, 0, b"")].concat()).await.unwrap();
    let said = until_closed(&mut idle, SOON).await.expect("an idle connection is kept");
    // GOAWAY
    assert!(said.windows(5).any(|bytes| bytes == [8, 7, 0, 0, 0]), "{said:?}");
    // SETTINGS_INITIAL_WINDOW_SIZE 0: not a byte of any body fits.
    let mut unread = cluster.raw_http2().await;
    let settings = frame(4, 0, 0, b"\0\x04\0\0\0\0");
    unread.write_all(&[PREFACE, &settings, &headers(1)].concat()).await.unwrap();
    let said = until_closed(&mut unread, SOON).await.expect("a connection whose answers are not read is kept");
    assert!(said.len() < 4_096, "{} bytes", said.len());
    // A client that finished TLS, agreed on HTTP/2 and says nothing at all.
    let mut silent = cluster.raw_http2().await;
    assert!(until_closed(&mut silent, SOON).await.is_some(), "a silent connection is kept");
    assert_eq!(cluster.metric(&ended("unread")).await, 1);
    assert_eq!(cluster.metric(&ended("idle")).await, 2);
    others_are_served(&cluster, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_end_or_wait() {
    let cluster = Cluster::start().await;
    let before = resident_kb();
    // Streams that are opened and taken back at once (CVE-2023-44487).
    let mut resets = cluster.raw_http2().await;
    let mut flood = [PREFACE, &frame(4, 0, 0, b"")].concat();
    for number in 0..5_000 {
        let stream = 2 * number + 1;
        flood.extend([headers(stream), frame(3, 0, stream, b"\0\0\0\x08")].concat());
    }
    _ = tokio::time::timeout(SOON, resets.write_all(&flood)).await;
    assert!(until_closed(&mut resets, SOON).await.is_some(), "resets go on");
    // Pings and settings, whose answers nobody reads: the server stops to read.
    let mut pings = cluster.raw_http2().await;
    pings.write_all(&[PREFACE, &frame(4, 0, 0, b"")].concat()).await.unwrap();
    let flood = [frame(6, 0, 0, b"12345678"), frame(4, 0, 0, b"")].concat().repeat(1_000);
    let mut sent = 0;
    while sent < 64 << 20
        && tokio::time::timeout(2 * SECOND, pings.write_all(&flood)).await.is_ok_and(|written| written.is_ok())
    {
        sent += flood.len();
    }
    assert!(sent < 64 << 20, "{sent} bytes of pings were taken");
    // A head that never ends (CONTINUATION).
    let mut endless = cluster.raw_http2().await;
    let mut head = [PREFACE, &frame(4, 0, 0, b""), &frame(1, 0, 1, b"\x82\x87\x84")].concat();
    head.extend(frame(9, 0, 1, &b"\0\x01a\x01b".repeat(3_000)).repeat(1_000));
    _ = tokio::time::timeout(SOON, endless.write_all(&head)).await;
    assert!(until_closed(&mut endless, SOON).await.is_some(), "an endless head is read");
    let grown = resident_kb().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KB more resident");
    others_are_served(&cluster, "after").await;
}
