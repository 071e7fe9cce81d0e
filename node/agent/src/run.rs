//! The task tree.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_client::bootstrap::{Join, JoinError, Joined, join};
use xebec_client::identity::Identity;
use xebec_client::node::NodeClient;
use xebec_client::{EventRecorder, Informers};
use xebec_clock::Clock;
use xebec_cri::RuntimeClient;
use xebec_datapath::Datapath;
use xebec_podnet::PodNetwork;
use xebec_services::{Forwarding, NodeAddresses, ServiceKey};
use xebec_types::annotation::FORWARDING_MODE;

use crate::addresses::Numbering;
use crate::bandwidth::Bandwidth;
use crate::drift::Repairs;
use crate::withdraw::WithdrawFromServices;
use crate::{
    Config, announce, canary, cidr, dns, drift, garbage, migration, network, pause, peers, remotes, services, status,
    udp,
};

/// The longest that a node waits for its routes to others before it is Ready.
const ROUTES_PATIENCE: Duration = Duration::from_secs(10);

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("join the cluster")]
    Join(#[from] JoinError),
    #[error("use {endpoint}: is containerd running?")]
    Runtime {
        endpoint: String,
        #[source]
        source: xebec_cri::Error,
    },
    #[error("learn the node's podCIDR")]
    PodCidr(#[source] std::io::Error),
    #[error("set up the pod network")]
    Network(#[source] AnyError),
    #[error("{task} ended")]
    Task {
        task: &'static str,
        #[source]
        source: Option<AnyError>,
    },
}

/// Runs the node until `stop`, or until a part fails.
///
/// # Errors
/// The first part that failed.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let joined = Arc::new(
        join(&Join {
            servers: config.servers.clone(),
            token: config.token.clone(),
            ca_file: config.ca_file.clone(),
            dir: config.identity_dir(),
            node_name: config.node_name.clone(),
            clock: Clock::default(),
        })
        .await?,
    );
    let addresses = config.node_ips.clone();
    let serving = joined.serving(&addresses).await?;
    let endpoint = config.container_runtime_endpoint.display().to_string();
    pause::ensure(xebec_cri::connect(&config.container_runtime_endpoint))
        .await
        .map_err(|source| Error::Runtime { endpoint, source })?;
    let informers = Informers::new(joined.client.clone());
    let (ready, network_ready) = watch::channel(false);

    let mut tasks = Tasks { set: JoinSet::new(), stop: stop.clone() };
    let recorder = EventRecorder::new(joined.client.clone(), "xebec-agent", &config.node_name, joined.clock.clone());
    let services = ServicesShared::new(Repairs::new(&config.node_name, Some(recorder.clone())), recorder);
    let nodes = NodeClient::new(joined.ca_pem.as_bytes(), Arc::clone(&joined.identity), joined.clock.clone())
        .map_err(|source| Error::Join(source.into()))?;
    let withdraw = WithdrawFromServices::new(&informers, &config.node_name, services.applied.subscribe(), nodes);
    let kubelet = xebec_kubelet::Config {
        withdraw: Some(Arc::new(withdraw)),
        applied_slices: Some(services.applied.subscribe()),
        node_conditions: Some(services.verdicts.subscribe()),
        metrics: vec![
            services.metrics_text(),
            services.datapath_text(),
            repairs_text(&services.repairs),
            certificates_text(&joined, &serving),
        ],
        ..kubelet_config(&config, &joined, &serving, network_ready)
    };
    let (client, kubelet_informers) = (joined.client.clone(), informers.clone());
    tasks.spawn("kubelet", {
        let stop = stop.clone();
        async move { xebec_kubelet::run(kubelet, client, kubelet_informers, stop).await.map_err(Into::into) }
    });
    tasks.spawn("certificate rotation", {
        let (joined, stop) = (Arc::clone(&joined), stop.clone());
        async move {
            joined.rotate(&serving, &addresses, &stop).await;
            Ok(())
        }
    });
    let start = tasks.until_failed(start_network(&config, &informers, services, &stop));
    let (running, reachable) = start.await??;
    tasks.adopt(running);
    tasks.until_failed(remotes_written(reachable)).await?;
    ready.send_replace(true);
    tasks.wait().await
}

/// Everything below the kubelet, in order. The second value becomes true when every other node can be reached.
async fn start_network(
    config: &Config,
    informers: &Informers,
    shared: ServicesShared,
    stop: &CancellationToken,
) -> Result<(Parts, watch::Receiver<bool>), Error> {
    let pod_cidrs = cidr::learn(&config.data_dir, informers, &config.node_name).await.map_err(Error::PodCidr)?;
    let network = network::open(config, &pod_cidrs).await.map_err(Error::Network)?;
    let gateways: Vec<IpAddr> = network.pods.node().networks.iter().map(xebec_podnet::Network::gateway).collect();
    tracing::info!(?pod_cidrs, ?gateways, "pod network ready");
    let (datapath, pods) = (network.datapath, network.pods);
    migration::tell(&shared.recorder, &config.node_name, datapath.migrated());
    // Set once: this runs once.
    let _ = shared.datapath.set(Arc::clone(&datapath));
    let server = network.server;
    let cni_stop = stop.clone();
    let mut parts = Parts::default();
    parts.add("CNI server", async move { server.run(cni_stop).await.map_err(Into::into) });
    let stale = udp::follow(informers.clone(), Arc::clone(&pods), shared.applied.subscribe());
    parts.add("UDP sockets", endless(stale));
    let reachable = parts.add_upkeep(config, informers, &shared, &pods, &datapath, network.attached);
    let chosen = config.load_balancer.nodeport_addresses.clone();
    let numbering = Numbering::new(pods.node().handle.clone(), datapath.config(), chosen);
    // Before the services: an address that they do not know of loses its ports.
    let read = numbering.read().await.map_err(|error| Error::Network(error.into()))?;
    let (told, addresses) = watch::channel(read);
    parts.add("node addresses", endless(numbering.follow(told)));
    let forwarding = match network::no_direct_return(pods.node()) {
        None => Ok(config.load_balancer.forwarding),
        Some(reason) => Err(reason),
    };
    let services =
        Services { informers: informers.clone(), node_name: config.node_name.clone(), addresses, forwarding, shared };
    parts.add("services", endless(services.follow(Arc::clone(&datapath), stop.clone())));
    let runtime = RuntimeClient::new(xebec_cri::connect(&config.container_runtime_endpoint));
    parts.add("address collection", endless(garbage::collect(runtime, pods)));
    parts.add("DNS", endless(dns::supervise(config.clone(), gateways)));
    parts.add("program reload", reload(Arc::clone(&datapath)));
    parts.add("garbage collection", endless(datapath.maintain(stop.clone())));
    Ok((parts, reachable))
}

/// A pod must find the other nodes from its first packet on. A route that the kernel goes on refusing holds the node up
/// no longer than [`ROUTES_PATIENCE`]: everything else on it works.
async fn remotes_written(mut written: watch::Receiver<bool>) {
    match tokio::time::timeout(ROUTES_PATIENCE, written.wait_for(|written| *written)).await {
        Ok(_) => {}
        Err(_) => tracing::warn!("the node gets ready without routes to every other node"),
    }
}

fn kubelet_config(
    config: &Config,
    joined: &Joined,
    serving: &Arc<Identity>,
    network_ready: watch::Receiver<bool>,
) -> xebec_kubelet::Config {
    let tls = xebec_kubelet::Tls {
        cert_resolver: Arc::clone(serving) as _,
        client_ca_pem: joined.ca_pem.clone().into_bytes(),
        clock: joined.clock.clone(),
    };
    let root_dir = config.data_dir.join("kubelet");
    xebec_kubelet::Config {
        container_runtime_endpoint: config.container_runtime_endpoint.clone(),
        cgroup_root: format!("{}/kubepods", config.cgroup_root.trim_end_matches('/')),
        cluster_dns: vec![config.cluster_dns],
        cluster_domain: config.cluster_domain.clone(),
        port: config.kubelet_port,
        max_pods: config.max_pods,
        eviction_hard: config.eviction_hard.clone(),
        image_gc_high_threshold: config.image_gc_high_threshold,
        image_gc_low_threshold: config.image_gc_low_threshold,
        sandbox_image: Some(pause::IMAGE.to_owned()),
        ..xebec_kubelet::Config::new(&config.node_name, config.node_ips.clone(), root_dir, tls, network_ready)
    }
}

/// What the services' controller tells others.
struct ServicesShared {
    applied: Arc<watch::Sender<u64>>,
    metrics: Arc<xebec_services::Metrics>,
    repairs: Repairs,
    recorder: EventRecorder,
    direct: Arc<watch::Sender<BTreeSet<ServiceKey>>>,
    /// What the Node's conditions say about the datapath.
    verdicts: watch::Sender<Vec<xebec_kubelet::NodeVerdict>>,
    /// Set when the datapath is open.
    datapath: Arc<OnceLock<Arc<Datapath>>>,
}

impl ServicesShared {
    fn new(repairs: Repairs, recorder: EventRecorder) -> Self {
        let (applied, metrics, direct, datapath) = Default::default();
        Self { applied, metrics, repairs, recorder, direct, verdicts: watch::Sender::default(), datapath }
    }

    /// Nothing before the datapath is open.
    fn datapath_text(&self) -> xebec_kubelet::MetricsText {
        let datapath = Arc::clone(&self.datapath);
        Arc::new(move || datapath.get().map(|datapath| datapath.metrics()).unwrap_or_default())
    }

    fn metrics_text(&self) -> xebec_kubelet::MetricsText {
        let metrics = Arc::clone(&self.metrics);
        Arc::new(move || metrics.render())
    }
}

struct Services {
    informers: Informers,
    node_name: String,
    addresses: watch::Receiver<NodeAddresses>,
    /// Of Services that do not say, or why none has another.
    forwarding: Result<Forwarding, &'static str>,
    shared: ServicesShared,
}

impl Services {
    async fn follow(self, datapath: Arc<Datapath>, stop: CancellationToken) {
        let addresses = self.addresses.borrow().clone();
        let forwarding = self.forwarding.ok();
        let node = xebec_services::Node { name: self.node_name.clone(), zone: None, addresses, forwarding };
        let repairs = self.shared.repairs;
        let repaired: xebec_services::Repaired = Arc::new(move |wrong| repairs.repaired("service", &wrong));
        let (recorder, node_name) = (self.shared.recorder.clone(), self.node_name.clone());
        let refused: xebec_services::Refused = Arc::new(move |service, why| {
            recorder.warning(service, "NotProgrammed", format!("node {node_name}: {why}"));
        });
        let (recorder, why) = (self.shared.recorder, self.forwarding.err().unwrap_or_default());
        let denied: xebec_services::Denied = Arc::new(move |service| {
            let message = format!("node {}: annotation {FORWARDING_MODE}: dsr has no effect: {why}", self.node_name);
            recorder.warning(service, "ForwardingModeIgnored", message);
        });
        let config = xebec_services::Config {
            addresses: Some(self.addresses),
            applied: self.shared.applied,
            repaired: Some(repaired),
            refused: Some(refused),
            direct: self.shared.direct,
            denied: Some(denied),
            ..xebec_services::Config::new(node)
        };
        let sink = Arc::new(services::DatapathSink::new(datapath));
        xebec_services::run(&self.informers, config, sink, self.shared.metrics, stop).await;
    }
}

/// At each SIGHUP. What fails leaves the programs that run: they are replaced one by one, each by one that was tested.
async fn reload(datapath: Arc<Datapath>) -> Result<(), AnyError> {
    let mut hangup = signal(SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        let datapath = Arc::clone(&datapath);
        match tokio::task::spawn_blocking(move || datapath.reload()).await? {
            Ok(()) => tracing::info!("datapath programs reloaded"),
            Err(error) => tracing::error!(error = xebec_client::chain(&error), "reload the datapath's programs"),
        }
    }
    Ok(())
}

fn certificates_text(joined: &Arc<Joined>, serving: &Arc<Identity>) -> xebec_kubelet::MetricsText {
    let (joined, serving) = (Arc::clone(joined), Arc::clone(serving));
    Arc::new(move || joined.metrics(&serving))
}

fn repairs_text(repairs: &Repairs) -> xebec_kubelet::MetricsText {
    let repairs = repairs.clone();
    Arc::new(move || repairs.metrics())
}

async fn endless(task: impl Future<Output = ()>) -> Result<(), AnyError> {
    task.await;
    Ok(())
}

type Part = std::pin::Pin<Box<dyn Future<Output = Result<(), AnyError>> + Send>>;

/// Tasks that are ready to be spawned.
#[derive(Default)]
struct Parts(Vec<(&'static str, Part)>);

impl Parts {
    fn add(&mut self, name: &'static str, part: impl Future<Output = Result<(), AnyError>> + Send + 'static) {
        self.0.push((name, Box::pin(part)));
    }

    /// What keeps the network as it should be, and tells how it is.
    fn add_upkeep(
        &mut self,
        config: &Config,
        informers: &Informers,
        shared: &ServicesShared,
        pods: &Arc<PodNetwork>,
        datapath: &Arc<Datapath>,
        attached: mpsc::UnboundedReceiver<String>,
    ) -> watch::Receiver<bool> {
        let name = || config.node_name.clone();
        let (repairs, looked) = (shared.repairs.clone(), watch::Sender::default());
        let (asked, peers) = watch::channel(BTreeSet::new());
        let (silent, unheard) = watch::channel(BTreeSet::new());
        self.add("peers", endless(peers::follow(peers, silent)));
        let upkeep = || drift::Upkeep { repairs: repairs.clone(), looked: looked.subscribe() };
        let neighbours = announce::Neighbours { asked, silent: unheard };
        let announced = announce::follow(informers.clone(), name(), Arc::clone(datapath), upkeep(), neighbours);
        self.add("announcements", endless(announced));
        let (written, reachable) = watch::channel(false);
        let (network, remotes) = (Arc::clone(pods), Arc::clone(datapath));
        let remotes = remotes::follow(informers.clone(), name(), network, remotes, written, upkeep());
        self.add("routes", endless(remotes));
        let recorder = shared.recorder.clone();
        let bandwidth = Bandwidth::new(informers, &name(), Arc::clone(pods), Arc::clone(datapath), recorder);
        self.add("bandwidth", endless(bandwidth.follow(attached, upkeep())));
        let outcomes = watch::Sender::default();
        let sources = status::Sources {
            node_name: name(),
            run_dir: config.run_dir.clone(),
            node: pods.node().clone(),
            datapath: Arc::clone(datapath),
            services: Arc::clone(&shared.metrics),
            forwarding: config.load_balancer.forwarding,
            no_direct_return: network::no_direct_return(pods.node()),
            direct: shared.direct.subscribe(),
            outcomes: outcomes.subscribe(),
            faults: repairs.faults(),
        };
        self.add("status", endless(status::follow(sources, shared.verdicts.clone())));
        self.add("canary", endless(canary::follow(Arc::clone(datapath), Arc::clone(pods), outcomes)));
        self.add("repairs", endless(drift::watch(Arc::clone(pods), Arc::clone(datapath), repairs, looked)));
        reachable
    }
}

struct Tasks {
    set: JoinSet<(&'static str, Result<(), AnyError>)>,
    stop: CancellationToken,
}

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = Result<(), AnyError>> + Send + 'static) {
        self.set.spawn(async move { (name, task.await) });
    }

    fn adopt(&mut self, parts: Parts) {
        for (name, part) in parts.0 {
            self.spawn(name, part);
        }
    }

    /// Drives `start` to its end, unless a task that runs already ends first.
    async fn until_failed<T>(&mut self, start: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            value = start => Ok(value),
            ended = self.wait() => Err(ended.err().unwrap_or(Error::Task { task: "agent", source: None })),
        }
    }

    /// Waits for the first task that ends; fine after `stop`, an error before.
    async fn wait(&mut self) -> Result<(), Error> {
        let ended = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            ended = self.set.join_next() => ended,
        };
        match ended {
            Some(Ok((task, outcome))) => Err(Error::Task { task, source: outcome.err() }),
            Some(Err(panic)) => Err(Error::Task { task: "a task", source: Some(panic.into()) }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_node_waits_for_its_routes_but_not_for_ever() {
        let check = async |written_after: u64, waits: Duration| {
            let (written, reachable) = watch::channel(false);
            let start = Instant::now();
            let write = async {
                tokio::time::sleep(Duration::from_secs(written_after)).await;
                written.send_replace(true);
            };
            tokio::join!(
                async {
                    remotes_written(reachable).await;
                    assert_eq!(start.elapsed(), waits)
                },
                write
            );
        };
        check(3, Duration::from_secs(3)).await;
        check(60, ROUTES_PATIENCE).await;
    }
}
