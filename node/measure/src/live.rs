//! From a write to the API to the moment at which a client's connect() sees it.

use std::net::{SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use xebec_agent::services::DatapathSink;
use xebec_client::{Api, Client, Informers, Patch, PatchParams, PostParams};
use xebec_netlink::Netns;
use xebec_types::core::Service;
use xebec_types::discovery::EndpointSlice;

use crate::api_server::ApiServer;
use crate::figure::Report;
use crate::pair::{Ebpf, Pair, backends};
use crate::stats::{millis, percentile};

const NAMESPACE: &str = "default";
const NAME: &str = "bench";
/// A change that is not live by then never will be.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks: a hundredth of what is expected.
const LOOK: Duration = Duration::from_micros(20);

/// Starts `xebec server` and what a node runs behind it, and lets a Service's only endpoint come and go.
///
/// # Errors
/// When the server does not come up, or a change does not become live.
pub fn run(report: &mut Report, xebec: &Path, smoke: bool) -> Result<()> {
    let pair = Pair::new()?;
    let ebpf = Ebpf::open(&pair.client)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let changes = if smoke { 6 } else { 400 };
    let mut times = runtime.block_on(measure(&pair, &ebpf, xebec, changes))?;
    for (fraction, name) in [(0.5, "p50"), (0.99, "p99")] {
        report.add(format!("api_to_live_{name}_ms"), "ms", millis(percentile(&mut times, fraction)), None);
    }
    Ok(())
}

async fn measure(pair: &Pair, ebpf: &Ebpf, xebec: &Path, changes: usize) -> Result<Vec<Duration>> {
    let server = ApiServer::start(xebec, None)?;
    let (writer, reader) = (server.client().await?, server.client().await?);
    let informers = Informers::new(reader);
    let node = xebec_services::Node { name: NAME.to_owned(), zone: None, ..xebec_services::Node::default() };
    let sink = Arc::new(DatapathSink::new(Arc::clone(&ebpf.datapath)));
    let stop = CancellationToken::new();
    let config = xebec_services::Config::new(node);
    let controller = tokio::spawn({
        let stop = stop.clone();
        async move { xebec_services::run(&informers, config, sink, Arc::default(), stop).await }
    });
    let times = changes_of(pair, ebpf, &writer, changes).await;
    stop.cancel();
    controller.await.context("the services' controller panicked")?;
    times
}

async fn changes_of(pair: &Pair, ebpf: &Ebpf, client: &Client, changes: usize) -> Result<Vec<Duration>> {
    let target = create(client).await?;
    let api = Api::<EndpointSlice>::namespaced(client.clone(), NAMESPACE);
    let _inside = ebpf.cgroup.enter()?;
    let netns = &pair.client.netns;
    watch(netns, target, false)?.await??;
    let mut times = Vec::with_capacity(changes);
    for n in 0..changes {
        let (ip, _) = backends()[0];
        let there = n % 2 == 0;
        let endpoints = if there { json!([{"addresses": [ip.to_string()]}]) } else { json!([]) };
        let seen = watch(netns, target, there)?;
        let start = Instant::now();
        api.patch(NAME, &PatchParams::default(), &Patch::Merge(json!({"endpoints": endpoints}))).await?;
        times.push(seen.await??.saturating_duration_since(start));
    }
    Ok(times)
}

/// A UDP Service without endpoints: connect() says without a packet whether there is one.
async fn create(client: &Client) -> Result<SocketAddrV4> {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": NAME}, "spec": {"ports": [{"port": 80, "protocol": "UDP"}]},
    }))?;
    let services = Api::<Service>::namespaced(client.clone(), NAMESPACE);
    let service = services.create(&PostParams::default(), &service).await.context("create a Service")?;
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4", "endpoints": [], "ports": [{"port": 8080, "protocol": "UDP"}],
    }))?;
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), NAMESPACE);
    slices.create(&PostParams::default(), &slice).await.context("create an EndpointSlice")?;
    let ip = service.spec.and_then(|spec| spec.cluster_ip).context("a Service has a cluster IP")?;
    Ok(SocketAddrV4::new(ip.parse().with_context(|| format!("the cluster IP {ip}"))?, 80))
}

type Seen = tokio::sync::oneshot::Receiver<Result<Instant>>;

/// When connect() succeeds, or when it is refused. The socket is tried once when this returns.
fn watch(netns: &Netns, target: SocketAddrV4, there: bool) -> Result<Seen> {
    let (done, seen) = tokio::sync::oneshot::channel();
    netns.spawn("watch", move || {
        // Nobody waits any more: the run failed.
        let _ = done.send(look(target, there));
    })?;
    Ok(seen)
}

fn look(target: SocketAddrV4, there: bool) -> Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    loop {
        let connected = match socket.connect(target) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => false,
            Err(error) => return Err(error).with_context(|| format!("connect to {target}")),
        };
        let now = Instant::now();
        if connected == there {
            return Ok(now);
        }
        if now > deadline {
            bail!("{target} {} after {PATIENCE:?}", if there { "is refused" } else { "is not refused" });
        }
        std::thread::sleep(LOOK);
    }
}
