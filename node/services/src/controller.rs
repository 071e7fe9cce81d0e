//! Follows Services, EndpointSlices and the node's pods, and keeps the datapath in line.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xebec_client::informer::{Informer, Informers, Key, Selection};
use xebec_types::core::{Node as ApiNode, Pod, Service};
use xebec_types::discovery::EndpointSlice;
use xebec_types::object;

use crate::compile::service_of;
use crate::{
    Change, Forwarding, HealthCheck, Metrics, Node, NodeAddresses, Programmed, ServiceKey, ServicePort, SliceVersion,
    Table, compile, compile_host_ports, health_check, hostport,
};

pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// The datapath, as this crate sees it.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Every frontend that is programmed, read back from the kernel.
    async fn programmed(&self) -> Result<Vec<Programmed>, SinkError>;

    /// Applies a batch whose changes touch different frontends. Returns what failed, by index; the rest is live.
    async fn apply(&self, changes: &[Change]) -> Vec<(usize, SinkError)>;

    /// What load balancers may ask this node about, all of it, and at which of its addresses, whenever that may have
    /// changed.
    async fn health_checks(&self, checks: Vec<HealthCheck>, addresses: &[IpAddr]);
}

#[derive(Clone)]
pub struct Config {
    pub node: Node,
    /// The node's addresses, as they come and go; `None` of a node that keeps those it has.
    pub addresses: Option<watch::Receiver<NodeAddresses>>,
    /// How long a change waits for others to join it.
    pub coalesce: Duration,
    /// How often the datapath is compared with what was written to it; less often where that takes more than a
    /// hundredth of the time.
    pub compare: Duration,
    /// Told the version of the EndpointSlices that the datapath has, whenever it has all of them.
    pub applied: Arc<watch::Sender<u64>>,
    /// Told of frontends that others took away or changed in the datapath, after they have been put back.
    pub repaired: Option<Repaired>,
    /// Told of Services that the datapath does not take, at each attempt.
    pub refused: Option<Refused>,
    /// The Services whose clients outside are answered by the backends' nodes.
    pub direct: Arc<watch::Sender<BTreeSet<ServiceKey>>>,
    /// Told of Services that ask for that by their annotation in vain, when they begin to.
    pub denied: Option<Denied>,
}

/// Called with what was wrong, for people.
pub type Repaired = Arc<dyn Fn(Vec<String>) + Send + Sync>;

/// Called with a Service and why the datapath does not take it, for people.
pub type Refused = Arc<dyn Fn(&Service, String) + Send + Sync>;

/// Called with a Service that asks for direct server return where there is none.
pub type Denied = Arc<dyn Fn(&Service) + Send + Sync>;

impl Config {
    pub fn new(node: Node) -> Self {
        Self {
            node,
            addresses: None,
            coalesce: Duration::from_millis(1),
            compare: Duration::from_secs(10),
            applied: Arc::default(),
            repaired: None,
            refused: None,
            direct: Arc::default(),
            denied: None,
        }
    }
}

/// The slices of a Service, by `namespace/name`.
const BY_SERVICE: &str = "service";

/// The label that names a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// At most one part of so many of the time goes into comparing.
const COMPARE_SHARE: u32 = 100;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Runs until `stop`. What an earlier run programmed keeps forwarding until all kinds have been listed; only then is
/// it compared and what no Service has removed.
pub async fn run(
    informers: &Informers,
    config: Config,
    sink: Arc<dyn Sink>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let services = informers.informer::<Service>();
    let slices = informers.informer::<EndpointSlice>();
    slices.add_index(BY_SERVICE, |slice| service_of(slice).map(|key| key.to_string()).into_iter().collect());
    let pods = informers.selected::<Pod>(&Selection::fields(&format!("spec.nodeName={}", config.node.name)));
    let nodes = informers.informer::<ApiNode>();
    let (table, checks, checked_at, denied) = Default::default();
    let controller =
        Controller { config, services, slices, pods, nodes, sink, metrics, table, checks, checked_at, denied };
    stop.run_until_cancelled(controller.run()).await;
}

struct Controller {
    config: Config,
    services: Arc<Informer<Service>>,
    slices: Arc<Informer<EndpointSlice>>,
    pods: Arc<Informer<Pod>>,
    nodes: Arc<Informer<ApiNode>>,
    sink: Arc<dyn Sink>,
    metrics: Arc<Metrics>,
    table: Table,
    checks: BTreeMap<ServiceKey, HealthCheck>,
    /// The addresses at which the sink answers them.
    checked_at: Vec<IpAddr>,
    /// Services that ask for direct server return in vain.
    denied: BTreeSet<ServiceKey>,
}

impl Controller {
    async fn run(mut self) {
        // Before the subscription: handlers run in order, so a key that it yields has its owners noted.
        let slice_owners = SliceOwners::follow(&self.slices);
        let mut changed_services = self.services.subscribe();
        let mut changed_slices = self.slices.subscribe();
        let mut changed_pods = self.pods.subscribe();
        let mut changed_nodes = self.nodes.subscribe();
        let seen = SliceVersion::follow(&self.slices);
        tokio::join!(self.services.synced(), self.slices.synced(), self.pods.synced());
        let mut version = seen.get();
        // What has arrived so far is in the lists that `start` compiles.
        let _ = (changed_services.changed().now_or_never(), changed_slices.changed().now_or_never());
        let _ = (changed_pods.changed().now_or_never(), self.zone_changed());
        self.addresses_changed();
        let mut failed = self.start().await;
        let mut retry = RETRY_FIRST;
        let mut compare_at = Instant::now() + self.config.compare;
        loop {
            if failed.is_empty() {
                self.config.applied.send_replace(version);
            }
            let (mut service_keys, mut slice_keys) = (BTreeSet::new(), BTreeSet::new());
            let mut pod_keys = BTreeSet::new();
            tokio::select! {
                keys = changed_pods.changed() => pod_keys = keys,
                _ = changed_nodes.changed() => {
                    if !self.zone_changed() {
                        continue;
                    }
                    // Hints may mean something else in another zone.
                    service_keys = self.services.list().iter().map(|service| Key::of(&service.metadata)).collect();
                }
                () = renumbered(&mut self.config.addresses) => {
                    if !self.addresses_changed() {
                        continue;
                    }
                    service_keys = self.services.list().iter().map(|service| Key::of(&service.metadata)).collect();
                    pod_keys = self.pods.list().iter().map(|pod| Key::of(&pod.metadata)).collect();
                }
                keys = changed_services.changed() => service_keys = keys,
                keys = changed_slices.changed() => slice_keys = keys,
                () = tokio::time::sleep_until(compare_at), if failed.is_empty() => {
                    let start = Instant::now();
                    failed = self.compare().await;
                    compare_at = Instant::now() + self.config.compare.max(start.elapsed() * COMPARE_SHARE);
                    continue;
                }
                () = tokio::time::sleep(retry), if !failed.is_empty() => {
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
            let arrived = Instant::now();
            tokio::time::sleep(self.config.coalesce).await;
            version = seen.get();
            service_keys.extend(changed_services.changed().now_or_never().unwrap_or_default());
            slice_keys.extend(changed_slices.changed().now_or_never().unwrap_or_default());

            let mut dirty = std::mem::take(&mut failed);
            dirty.extend(service_keys.iter().map(|key| ServiceKey::new(&key.namespace, &key.name)));
            dirty.extend(pod_keys.iter().map(|key| hostport::key_of(&key.namespace, &key.name)));
            dirty.extend(slice_keys.iter().flat_map(|key| slice_owners.of(key)));
            let mut changes: Vec<Change> = dirty.iter().flat_map(|key| self.update(key)).collect();
            if dirty.contains(&orphans()) {
                changes.extend(self.table.orphans());
            }
            failed = self.apply(changes, arrived).await;
            self.check(&dirty).await;
            if failed.is_empty() {
                retry = RETRY_FIRST;
            }
        }
    }

    /// Compares what is programmed with what should be, once.
    async fn start(&mut self) -> BTreeSet<ServiceKey> {
        let arrived = Instant::now();
        let mut retry = RETRY_FIRST;
        let programmed = loop {
            match self.sink.programmed().await {
                Ok(programmed) => break programmed,
                Err(error) => {
                    tracing::warn!(error, "read the programmed services back");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        };
        self.table = Table::new(programmed);
        let services = self.services.list();
        let mut compiled = Vec::with_capacity(services.len());
        for service in &services {
            let key = Key::of(&service.metadata);
            let (key, ports) = (ServiceKey { namespace: key.namespace, name: key.name }, self.compile(service));
            self.note_forwarding(&key, Some(service), &ports);
            compiled.push((key, ports));
        }
        let keys: BTreeSet<ServiceKey> = compiled.iter().map(|(key, _)| key.clone()).collect();
        compiled.extend(self.pods.list().iter().map(|pod| {
            let key = Key::of(&pod.metadata);
            (hostport::key_of(&key.namespace, &key.name), compile_host_ports(pod, &self.config.node))
        }));
        compiled.retain(|(key, ports)| hostport::pod_of(key).is_none() || !ports.is_empty());
        let changes = self.table.replace_all(compiled);
        let count = changes.len();
        let failed = self.apply(changes, arrived).await;
        self.check(&keys).await;
        tracing::info!(
            services = services.len(),
            changes = count,
            micros = arrived.elapsed().as_micros() as u64,
            "services synced"
        );
        failed
    }

    /// Reads back what is programmed and writes what is not as it should be. Returns the Services whose writes failed.
    async fn compare(&mut self) -> BTreeSet<ServiceKey> {
        let arrived = Instant::now();
        let programmed = match self.sink.programmed().await {
            Ok(programmed) => programmed,
            Err(error) => {
                tracing::warn!(error, "read the programmed services back");
                return BTreeSet::new();
            }
        };
        let changes = self.table.repair(programmed);
        if changes.is_empty() {
            return BTreeSet::new();
        }
        let wrong = changes.iter().map(|change| match change {
            Change::Put(port) => format!("service {}", port.id.service),
            Change::Remove(key) => format!("{}:{}, which is no Service's", key.addr, key.port),
        });
        let wrong = wrong.collect();
        let failed = self.apply(changes, arrived).await;
        if let Some(repaired) = &self.config.repaired {
            repaired(wrong);
        }
        failed
    }

    fn update(&mut self, key: &ServiceKey) -> Vec<Change> {
        let ports = match hostport::pod_of(key) {
            Some(name) => {
                let pod = self.pods.get(&key.namespace, name);
                pod.map(|pod| compile_host_ports(&pod, &self.config.node))
            }
            None => {
                let service = self.services.get(&key.namespace, &key.name);
                let ports = service.as_ref().map(|service| self.compile(service));
                self.note_forwarding(key, service.as_deref(), ports.as_deref().unwrap_or_default());
                ports
            }
        };
        self.table.update(key, ports.unwrap_or_default())
    }

    /// Keeps the lists of Services with direct server return, and of those that ask for it in vain.
    fn note_forwarding(&mut self, key: &ServiceKey, service: Option<&Service>, ports: &[ServicePort]) {
        let is_direct = ports.iter().any(|port| port.forwarding == Forwarding::Dsr);
        self.config.direct.send_if_modified(|direct| match is_direct {
            true => direct.insert(key.clone()),
            false => direct.remove(key),
        });
        match service.filter(|service| Forwarding::is_denied(&service.metadata, ports, &self.config.node)) {
            None => drop(self.denied.remove(key)),
            Some(service) => {
                if self.denied.insert(key.clone())
                    && let Some(denied) = &self.config.denied
                {
                    denied(service);
                }
            }
        }
    }

    /// Reads the node's zone; true if it is another one.
    fn zone_changed(&mut self) -> bool {
        let node = self.nodes.get("", &self.config.node.name);
        let zone = node.and_then(|node| object::label(&node.metadata, ZONE).map(str::to_owned));
        let changed = self.config.node.zone != zone;
        self.config.node.zone = zone;
        changed
    }

    /// Reads the node's addresses; true if there are others.
    fn addresses_changed(&mut self) -> bool {
        let Some(addresses) = &mut self.config.addresses else { return false };
        let addresses = addresses.borrow_and_update().clone();
        let changed = self.config.node.addresses != addresses;
        self.config.node.addresses = addresses;
        changed
    }

    /// Tells the sink what load balancers may ask, if that has changed.
    async fn check(&mut self, keys: &BTreeSet<ServiceKey>) {
        let mut changed = false;
        for key in keys {
            let check = self.services.get(&key.namespace, &key.name).and_then(|service| {
                let slices = self.slices.read();
                let slices: Vec<_> = slices.by_index(BY_SERVICE, &key.to_string()).map(|slice| &**slice).collect();
                health_check(&service, &slices, &self.config.node)
            });
            changed |= self.checks.get(key) != check.as_ref();
            match check {
                Some(check) => drop(self.checks.insert(key.clone(), check)),
                None => drop(self.checks.remove(key)),
            }
        }
        let addresses = &self.config.node.addresses.node_ports.outside;
        if changed || (self.checked_at != *addresses && !self.checks.is_empty()) {
            self.sink.health_checks(self.checks.values().cloned().collect(), addresses).await;
            self.checked_at.clone_from(addresses);
        }
    }

    fn compile(&self, service: &Service) -> Vec<ServicePort> {
        let key = Key::of(&service.metadata);
        let slices = self.slices.read();
        let slices: Vec<&EndpointSlice> = slices.by_index(BY_SERVICE, &key.to_string()).map(|slice| &**slice).collect();
        compile(service, &slices, &self.config.node)
    }

    /// Returns the Services whose changes failed.
    async fn apply(&mut self, changes: Vec<Change>, arrived: Instant) -> BTreeSet<ServiceKey> {
        let mut again = BTreeSet::new();
        if changes.is_empty() {
            return again;
        }
        for (index, error) in self.sink.apply(&changes).await {
            let Some(change) = changes.get(index) else { continue };
            self.metrics.failures.fetch_add(1, Relaxed);
            self.table.forget(change);
            let key = match change {
                Change::Put(port) => port.id.service.clone(),
                Change::Remove(_) => orphans(),
            };
            let why = xebec_client::chain(error.as_ref());
            tracing::warn!(service = %key, error = why, "program a service");
            if let (Some(refused), Some(service)) = (&self.config.refused, self.services.get(&key.namespace, &key.name))
            {
                refused(&service, why);
            }
            again.insert(key);
        }
        let puts = changes.iter().filter(|change| matches!(change, Change::Put(_))).count() as u64;
        self.metrics.puts.fetch_add(puts, Relaxed);
        self.metrics.removes.fetch_add(changes.len() as u64 - puts, Relaxed);
        self.metrics.services.store(self.table.len() as u64, Relaxed);
        self.metrics.frontends.store(self.table.programmed().len() as u64, Relaxed);
        self.metrics.observe(arrived.elapsed());
        again
    }
}

/// Waits for other addresses of the node.
async fn renumbered(addresses: &mut Option<watch::Receiver<NodeAddresses>>) {
    let told = match addresses {
        Some(addresses) => addresses.changed().await.is_ok(),
        None => false,
    };
    if !told {
        // Nobody tells of any more.
        std::future::pending().await
    }
}

/// Stands for frontends without a Service among those to try again; no Service has this name.
fn orphans() -> ServiceKey {
    ServiceKey::new("", "")
}

/// Which Services a changed slice concerned and concerns: a deleted slice is not in the store any more.
struct SliceOwners(Arc<std::sync::Mutex<HashMap<Key, BTreeSet<ServiceKey>>>>);

impl SliceOwners {
    fn follow(slices: &Informer<EndpointSlice>) -> Self {
        let owners = Arc::new(std::sync::Mutex::new(HashMap::<Key, BTreeSet<ServiceKey>>::new()));
        let sink = Arc::downgrade(&owners);
        slices.on_change(move |change| {
            let Some(owners) = sink.upgrade() else { return };
            let services = change.old.iter().chain(&change.new).filter_map(|slice| service_of(slice));
            let mut owners = owners.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            owners.entry(change.key()).or_default().extend(services);
        });
        Self(owners)
    }

    fn of(&self, slice: &Key) -> BTreeSet<ServiceKey> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(slice).unwrap_or_default()
    }
}
