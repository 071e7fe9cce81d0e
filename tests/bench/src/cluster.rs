//! A whole cluster of one node: from nothing to Ready, pods from creation to Ready, memory at rest.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use serde_json::json;
use xebec_client::kube::api::WatchParams;
use xebec_client::kube::core::WatchEvent;
use xebec_client::{Api, Client, ListParams, PostParams};
use xebec_measure::Report;
use xebec_measure::stats::{millis, percentile};
use xebec_types::core::{Node, Pod};

use crate::api::rss_kib;

/// How long a part of the cluster may take before the run is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(report: &mut Report, xebec: &Path, image: &Path, smoke: bool) -> Result<()> {
    let (rest, pods) = if smoke { (Duration::from_secs(1), 3) } else { (Duration::from_secs(30), 40) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure(report, xebec, image, rest, pods))
}

async fn measure(report: &mut Report, xebec: &Path, image: &Path, rest: Duration, pods: usize) -> Result<()> {
    let start = Instant::now();
    let mut cluster = Cluster::start(xebec, image)?;
    let client = cluster.client().await?;
    report.add("cluster_start_to_readyz", "ms", millis(start.elapsed()), None);
    first_ready_node(&client).await?;
    report.add("start_to_first_ready_node", "ms", millis(start.elapsed()), None);
    cluster.wait_up()?;
    let api = Api::<Pod>::namespaced(client.clone(), "default");
    service_account(&client).await?;
    pod_start(&api, "first").await?;
    report.add("start_to_first_running_pod", "ms", millis(start.elapsed()), None);

    let (mut running, mut ready) = (Vec::new(), Vec::new());
    for n in 0..pods {
        let times = pod_start(&api, &format!("bench-{n}")).await?;
        running.push(times.running);
        ready.push(times.ready);
    }
    for (name, samples) in [("running", &mut running), ("ready", &mut ready)] {
        for (fraction, label) in [(0.5, "p50"), (0.99, "p99")] {
            let value = millis(percentile(samples, fraction));
            report.add(format!("pod_create_to_{name}_{label}"), "ms", value, None);
        }
    }
    delete_all(&api).await?;
    tokio::time::sleep(rest).await;
    let [server, agent, dns] =
        [cluster.rss_mib("server")?, cluster.rss_mib("node-1.agent")?, cluster.rss_mib("node-1/dns")?];
    report.add("server_and_dns_idle_rss", "MiB", server + dns, None);
    report.add("agent_idle_rss", "MiB", agent, None);
    Ok(())
}

struct Started {
    running: Duration,
    ready: Duration,
}

/// Creates a pod of the demo image and watches it.
async fn pod_start(api: &Api<Pod>, name: &str) -> Result<Started> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {
            "containers": [{"name": "c", "image": "xebec-demo:1", "imagePullPolicy": "Never"}],
            "terminationGracePeriodSeconds": 0,
        },
    }))?;
    let start = Instant::now();
    let created = api.create(&PostParams::default(), &pod).await?;
    let version = created.metadata.resource_version.context("a created pod has a resourceVersion")?;
    let wanted = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(api.watch(&wanted, &version).await?);
    let mut running = None;
    while let Some(event) = tokio::time::timeout(PATIENCE, events.try_next()).await?? {
        let WatchEvent::Modified(pod) = event else { continue };
        let status = pod.status.unwrap_or_default();
        if status.phase.as_deref() == Some("Running") {
            let running = *running.get_or_insert_with(|| start.elapsed());
            let conditions = status.conditions.unwrap_or_default();
            if conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
                return Ok(Started { running, ready: start.elapsed() });
            }
        }
    }
    bail!("the watch of pod {name} ended before it was Ready")
}

async fn delete_all(api: &Api<Pod>) -> Result<()> {
    let bench = ListParams::default().labels("app=bench");
    api.delete_collection(&Default::default(), &bench).await?;
    poll("the pods to go", async || Ok(api.list(&bench).await?.items.is_empty().then_some(()))).await
}

async fn first_ready_node(client: &Client) -> Result<()> {
    let api = Api::<Node>::all(client.clone());
    let ready = |node: &Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "True")
    };
    poll("a Ready node", async || Ok(api.list(&ListParams::default()).await?.items.iter().any(ready).then_some(())))
        .await
}

/// Pods are admitted once their account is there.
async fn service_account(client: &Client) -> Result<()> {
    let api = Api::<xebec_types::core::ServiceAccount>::namespaced(client.clone(), "default");
    poll("the service account", async || Ok(api.get_opt("default").await?.map(drop))).await
}

async fn poll<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look().await? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited {PATIENCE:?} for {what}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `xebec up` in a directory of its own; `xebec down` when it is dropped.
struct Cluster {
    xebec: PathBuf,
    dir: tempfile::TempDir,
    up: Child,
}

impl Cluster {
    fn start(xebec: &Path, image: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("xbbench").tempdir_in("/var/tmp")?;
        let mut command = Command::new(xebec);
        command.args(["up", "--nodes", "1", "--dir"]).arg(dir.path()).arg("--image").arg(image);
        let up = command.stdout(Stdio::null()).spawn().context("start xebec up")?;
        Ok(Self { xebec: xebec.to_owned(), dir, up })
    }

    async fn client(&self) -> Result<Client> {
        let kubeconfig = self.dir.path().join("kubeconfig");
        poll("the API server", async || {
            let Ok(client) = xebec_client::connection::from_kubeconfig(&kubeconfig).await else { return Ok(None) };
            let ready = client.request_text(http::Request::get("/readyz").body(Vec::new())?).await;
            Ok(ready.is_ok().then_some(client))
        })
        .await
    }

    /// Until the image is there.
    fn wait_up(&mut self) -> Result<()> {
        let status = self.up.wait()?;
        if !status.success() {
            bail!("xebec up ended with {status}");
        }
        Ok(())
    }

    fn rss_mib(&self, program: &str) -> Result<f64> {
        let path = self.dir.path().join(format!("run/{program}.pid"));
        let file = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let pid = file.split_whitespace().next().context("an empty pid file")?.parse()?;
        Ok(rss_kib(pid)? as f64 / 1024.0)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.up.kill();
        let _ = self.up.wait();
        let down =
            Command::new(&self.xebec).args(["down", "--dir"]).arg(self.dir.path()).stdout(Stdio::null()).status();
        if !down.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("xebec down: {down:?}");
        }
    }
}
