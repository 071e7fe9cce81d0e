//! Follows Services and EndpointSlices and keeps the datapath in line.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xebec_client::informer::{Informer, Informers, Key};
use xebec_types::core::Service;
use xebec_types::discovery::EndpointSlice;

use crate::compile::service_of;
use crate::{Change, Metrics, Node, Programmed, ServiceKey, ServicePort, SliceVersion, Table, compile};

pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// The datapath, as this crate sees it.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Every frontend that is programmed, read back from the kernel.
    async fn programmed(&self) -> Result<Vec<Programmed>, SinkError>;

    /// Applies a batch whose changes touch different frontends. Returns what failed, by index; the rest is live.
    async fn apply(&self, changes: &[Change]) -> Vec<(usize, SinkError)>;
}

#[derive(Clone, Debug)]
pub struct Config {
    pub node: Node,
    /// How long a change waits for others to join it.
    pub coalesce: Duration,
    /// Told the version of the EndpointSlices that the datapath has, whenever it has all of them.
    pub applied: Arc<watch::Sender<u64>>,
}

impl Config {
    pub fn new(node: Node) -> Self {
        Self { node, coalesce: Duration::from_millis(1), applied: Arc::default() }
    }
}

/// The slices of a Service, by `namespace/name`.
const BY_SERVICE: &str = "service";

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Runs until `stop`. What an earlier run programmed keeps forwarding until both kinds have been listed; only then is
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
    let controller = Controller { config, services, slices, sink, metrics, table: Table::default() };
    stop.run_until_cancelled(controller.run()).await;
}

struct Controller {
    config: Config,
    services: Arc<Informer<Service>>,
    slices: Arc<Informer<EndpointSlice>>,
    sink: Arc<dyn Sink>,
    metrics: Arc<Metrics>,
    table: Table,
}

impl Controller {
    async fn run(mut self) {
        // Before the subscription: handlers run in order, so a key that it yields has its owners noted.
        let slice_owners = SliceOwners::follow(&self.slices);
        let mut changed_services = self.services.subscribe();
        let mut changed_slices = self.slices.subscribe();
        let seen = SliceVersion::follow(&self.slices);
        tokio::join!(self.services.synced(), self.slices.synced());
        let mut version = seen.get();
        // What has arrived so far is in the lists that `start` compiles.
        let _ = (changed_services.changed().now_or_never(), changed_slices.changed().now_or_never());
        let mut failed = self.start().await;
        let mut retry = RETRY_FIRST;
        loop {
            if failed.is_empty() {
                self.config.applied.send_replace(version);
            }
            let (mut service_keys, mut slice_keys) = (BTreeSet::new(), BTreeSet::new());
            tokio::select! {
                keys = changed_services.changed() => service_keys = keys,
                keys = changed_slices.changed() => slice_keys = keys,
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
            dirty.extend(slice_keys.iter().flat_map(|key| slice_owners.of(key)));
            let mut changes: Vec<Change> = dirty.iter().flat_map(|key| self.update(key)).collect();
            if dirty.contains(&orphans()) {
                changes.extend(self.table.orphans());
            }
            failed = self.apply(changes, arrived).await;
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
        let compiled: Vec<(ServiceKey, Vec<ServicePort>)> = services
            .iter()
            .map(|service| {
                let key = Key::of(&service.metadata);
                (ServiceKey { namespace: key.namespace, name: key.name }, self.compile(service))
            })
            .collect();
        let changes = self.table.replace_all(compiled);
        let count = changes.len();
        let failed = self.apply(changes, arrived).await;
        tracing::info!(
            services = services.len(),
            changes = count,
            micros = arrived.elapsed().as_micros() as u64,
            "services synced"
        );
        failed
    }

    fn update(&mut self, key: &ServiceKey) -> Vec<Change> {
        let service = self.services.get(&key.namespace, &key.name);
        let ports = service.map(|service| self.compile(&service)).unwrap_or_default();
        self.table.update(key, ports)
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
            tracing::warn!(service = %key, error, "program a service");
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
