//! The control plane: start, memory, creates and lists, on the embedded store and on etcd beside it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{AsyncBufRead, AsyncBufReadExt};
use xebec_client::{Api, Client, PostParams};
use xebec_measure::stats::{millis, percentile};
use xebec_measure::{ApiServer, Report, free_port};
use xebec_types::ObjectMeta;
use xebec_types::core::ConfigMap;

const CONNECTIONS: usize = 8;
/// Longer than a daemon takes to give back what its start needed.
const REST: Duration = Duration::from_secs(15);

pub fn run(report: &mut Report, xebec: &Path, smoke: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let objects = if smoke { 200 } else { 10_000 };
    let embedded = runtime.block_on(measure(xebec, None, objects))?;
    let etcd = Etcd::start()?;
    let on_etcd = runtime.block_on(measure(xebec, Some(&etcd.url), objects))?;
    for (name, unit, own, peer) in embedded.zip(&on_etcd) {
        let name = name.replace("{n}", &embedded.objects.to_string());
        report.add(name, unit, own, Some(("on etcd", peer)));
    }
    Ok(())
}

/// One value of a run.
type Pick = fn(&Measured) -> f64;

/// One run against one store.
struct Measured {
    ready: Duration,
    idle_kib: u64,
    warm_kib: u64,
    loaded_kib: u64,
    creates_per_s: f64,
    create_p50: Duration,
    create_p99: Duration,
    list: Duration,
    after_lists_kib: u64,
    objects: usize,
}

impl Measured {
    fn zip(&self, other: &Self) -> Vec<(&'static str, &'static str, f64, f64)> {
        let pick = |f: Pick| (f(self), f(other));
        let rows: [(&str, &str, Pick); 8] = [
            ("start_to_readyz", "ms", |m| millis(m.ready)),
            ("server_idle_rss", "MiB", |m| m.idle_kib as f64 / 1024.0),
            ("creates", "/s", |m| m.creates_per_s),
            ("create_p50", "ms", |m| millis(m.create_p50)),
            ("create_p99", "ms", |m| millis(m.create_p99)),
            ("list_{n}_objects", "ms", |m| millis(m.list)),
            ("rss_per_1k_object", "KiB", |m| m.loaded_kib.saturating_sub(m.warm_kib) as f64 / m.objects as f64),
            ("rss_after_ten_lists_of_{n}", "MiB", |m| m.after_lists_kib.saturating_sub(m.loaded_kib) as f64 / 1024.0),
        ];
        rows.into_iter()
            .map(|(name, unit, f)| {
                let (own, peer) = pick(f);
                (name, unit, own, peer)
            })
            .collect()
    }
}

async fn measure(xebec: &Path, etcd: Option<&str>, objects: usize) -> Result<Measured> {
    let start = Instant::now();
    let server = ApiServer::start(xebec, etcd)?;
    let client = server.client().await?;
    let ready = start.elapsed();
    // Idle is after the controllers have made what every cluster has, and the server has let go of its start.
    tokio::time::sleep(REST).await;
    let idle_kib = rss_kib(server.pid())?;
    // Objects are what the memory is measured of, not the code that makes them.
    create(client.clone(), "kube-public", 0, objects / 10).await?;
    let warm_kib = rss_kib(server.pid())?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(server.client().await?);
    }
    let start = Instant::now();
    let share = objects / CONNECTIONS;
    let workers = clients.into_iter().enumerate().map(|(n, client)| tokio::spawn(create(client, "default", n, share)));
    let mut times = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        times.extend(worker.await??);
    }
    let created = start.elapsed();
    let loaded_kib = rss_kib(server.pid())?;
    let list = list(&client).await?;
    futures::future::try_join_all((0..10).map(|_| full_list(&client))).await?;
    Ok(Measured {
        ready,
        idle_kib,
        warm_kib,
        loaded_kib,
        after_lists_kib: rss_kib(server.pid())?,
        creates_per_s: times.len() as f64 / created.as_secs_f64(),
        create_p50: percentile(&mut times, 0.5),
        create_p99: percentile(&mut times, 0.99),
        list,
        objects: times.len(),
    })
}

/// Creates `count` ConfigMaps of 1 KB in `namespace`, one after the other.
async fn create(client: Client, namespace: &str, worker: usize, count: usize) -> Result<Vec<Duration>> {
    let api = Api::<ConfigMap>::namespaced(client, namespace);
    let mut times = Vec::with_capacity(count);
    for n in 0..count {
        let object = ConfigMap {
            metadata: ObjectMeta { name: Some(format!("bench-{worker}-{n}")), ..ObjectMeta::default() },
            data: Some([("payload".to_owned(), "x".repeat(700))].into()),
            ..ConfigMap::default()
        };
        let start = Instant::now();
        api.create(&PostParams::default(), &object).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// The best of five full lists, as bytes that nobody keeps: the client's own decoding is not what is measured.
async fn list(client: &Client) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        full_list(client).await?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

async fn full_list(client: &Client) -> Result<()> {
    let request = http::Request::get("/api/v1/namespaces/default/configmaps").body(Vec::new())?;
    let mut body = std::pin::pin!(client.request_stream(request).await?);
    let mut length = 0;
    loop {
        let read = body.fill_buf().await?.len();
        if read == 0 {
            break;
        }
        body.as_mut().consume(read);
        length += read;
    }
    if length < 1000 {
        bail!("a short list: {length} bytes");
    }
    Ok(())
}

struct Etcd {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir_in("/var/tmp")?;
        let (url, peer) = (format!("http://127.0.0.1:{}", free_port()?), format!("http://127.0.0.1:{}", free_port()?));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(dir.path())
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start etcd")?;
        Ok(Self { child, url, _dir: dir })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Both only fail when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of a process (proc_pid_status(5), VmRSS).
pub fn rss_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
