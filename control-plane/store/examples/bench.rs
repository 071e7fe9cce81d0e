//! Prints what the stores can do on this machine: `cargo run --release -p xebec-store --example bench`.
//!
//! Creates of 1 KB objects by 8 and 64 writers, each waiting for its write to be durable; start with 100,000 objects and
//! memory per object with the watch cache on top; watch fan-out. etcd is measured beside if it is installed.

#![allow(clippy::unwrap_used)]

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use xebec_store::{
    Expect, Op, Outcome, Store, Txn,
    cache::{Cache, Filter, Index, Indexer, Pairs, Query, Start},
    embedded, etcd,
};

const CREATES: usize = 20_000;
const OBJECTS: usize = 100_000;
const WATCHERS: usize = 1_000;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, dir] = &args[..] {
        assert_eq!(command, "fill");
        return fill_here(Path::new(dir)).await;
    }
    let root = tempfile::tempdir_in(args.first().map_or(".", String::as_str)).unwrap();
    // First, so that memory that other phases leave in the allocator does not hide what this one takes.
    fill(&root.path().join("memory"));
    memory(&root.path().join("memory")).await;
    for writers in [1, 8, 64] {
        let store = Arc::new(embedded::open(root.path().join(format!("embedded-{writers}"))).await.unwrap());
        creates("embedded", store, writers).await;
    }
    for writers in [1, 8, 64] {
        let Some((mut process, endpoint)) = start_etcd(&root.path().join(format!("etcd-{writers}"))) else { break };
        creates("etcd", Arc::new(etcd::connect(&[endpoint], None).await.unwrap()), writers).await;
        process.kill().unwrap();
        process.wait().unwrap();
    }
    fan_out(&root.path().join("fan-out")).await;
}

async fn creates(name: &str, store: Arc<dyn Store>, writers: usize) {
    let total = if writers == 1 { CREATES / 10 } else { CREATES };
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            for n in 0..total / writers {
                let begin = Instant::now();
                create(&*store, &format!("{writer}-{n}")).await;
                times.push(begin.elapsed());
            }
            times
        });
    }
    let times = tasks.join_all().await.concat();
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    println!("{name:9} {writers:3} writers: {rate:8.0} creates/s  {}", percentiles(times));
}

/// Fills a store in a process of its own.
fn fill(dir: &Path) {
    let filled = Command::new(std::env::current_exe().unwrap()).arg("fill").arg(dir).status().unwrap();
    assert!(filled.success());
}

async fn fill_here(dir: &Path) {
    let store =
        Arc::new(embedded::open_with(dir, embedded::Options { sync: false, ..Default::default() }).await.unwrap());
    let mut tasks = JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..OBJECTS / 64 {
                create(&*store, &format!("{writer}-{n}")).await;
            }
        });
    }
    tasks.join_all().await;
}

async fn memory(dir: &Path) {
    let before = rss();
    let start = Instant::now();
    let store: Arc<dyn Store> = Arc::new(embedded::open(dir).await.unwrap());
    let opened = start.elapsed();
    let cache = Cache::new(store.clone(), Arc::new(Labels)).await.unwrap();
    let loaded = start.elapsed();
    let count = OBJECTS / 64 * 64;
    let per_object = (rss() - before) as f64 / count as f64;
    println!(
        "start with {count} objects of 1 KB: log {opened:.0?}, with watch cache {loaded:.0?}; RSS per object {per_object:.0} bytes"
    );
    let start = Instant::now();
    let list = cache.list(&Query { resource: "core/pods", ..Query::default() }).await.unwrap();
    println!("consistent list of {}: {:.1?}", list.objects.len(), start.elapsed());
}

async fn fan_out(dir: &Path) {
    let store: Arc<dyn Store> = Arc::new(embedded::open(dir).await.unwrap());
    let cache = Cache::new(store.clone(), Arc::new(Labels)).await.unwrap();
    let mut tasks = JoinSet::new();
    let epoch = Instant::now();
    for _ in 0..WATCHERS {
        let mut watcher = cache.watch("core/pods", None, Filter::all(), Start::Snapshot).unwrap();
        tasks.spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 200 {
                let event = watcher.next().await.unwrap();
                std::hint::black_box(event.json());
                seen.push(epoch.elapsed());
            }
            seen
        });
    }
    let mut written = Vec::new();
    for n in 0..200 {
        create(&*store, &n.to_string()).await;
        written.push(epoch.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seen = tasks.join_all().await;
    let delays =
        seen.iter().flat_map(|seen| seen.iter().zip(&written).map(|(seen, written)| seen.saturating_sub(*written)));
    println!("{WATCHERS} watchers, event after acknowledgement: {}", percentiles(delays.collect()));
}

async fn create(store: &dyn Store, name: &str) {
    let value = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"labels":{{"app":"bench"}},"name":"{name}","namespace":"default"}},"spec":{{"data":"{}"}}}}"#,
        "x".repeat(900)
    );
    let key = format!("/registry/core/pods/default/{name}");
    let txn = Txn { key, expect: Expect::Absent, op: Op::Put(value.into()) };
    assert!(matches!(store.txn(txn).await.unwrap(), Outcome::Committed(_)));
}

struct Labels;

impl Indexer for Labels {
    fn index(&self, _resource: &str, _json: &[u8]) -> Index {
        Index {
            labels: Pairs::new([("app", "bench")]),
            fields: Pairs::new([("spec.nodeName", "node-1"), ("status.phase", "Running")]),
        }
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    format!("p50 {:.2?}  p99 {:.2?}  max {:.2?}", at(0.5), at(0.99), at(1.0))
}

fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn start_etcd(dir: &Path) -> Option<(Child, String)> {
    let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (client, peer) = (format!("http://127.0.0.1:{}", port()), format!("http://127.0.0.1:{}", port()));
    let child = Command::new("etcd")
        .arg(format!("--data-dir={}", dir.display()))
        .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
        .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
        .arg(format!("--initial-cluster=default={peer}"))
        .args(["--logger=zap", "--log-level=error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Some((child.ok()?, client))
}
