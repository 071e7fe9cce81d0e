//! The server's life: load the cache, listen, run what must run after start, stop.

mod activity;
mod ca;
mod connection;
pub(crate) mod event;
mod event_ttl;
pub(crate) mod hooks;
mod listener;
mod local;
mod outbox;
mod peers;
mod renewal;
mod seats;
mod streams;

use std::sync::Arc;

use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xebec_store::Store;
use xebec_store::cache::{At, Cache, Filter, Query};

use crate::admission::{self, Chain};
use crate::app::App;
use crate::authn::{Authenticators, AuthnError, ClientCerts};
use crate::authz::Authorizer;
use crate::config::Config;
use crate::flow_control::FlowControl;
use crate::health::Health;
use crate::kinds::{Kinds, StrategyIndexer};
use crate::metrics::Metrics;
use crate::resource_metrics::{self, ResourceMetrics};
use crate::service_capacity::{self, ServiceCapacity};
use crate::service_ip::{self, ServiceAllocator};
use crate::user::UserInfo;

pub use local::LocalService;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("load the watch cache")]
    Cache(#[source] xebec_store::Error),
    #[error("set up authentication")]
    Authn(#[from] AuthnError),
    #[error("set up admission")]
    Admission(#[from] admission::ChainError),
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    #[error("issue certificates")]
    Pki(#[from] crate::pki::PkiError),
    #[error("listen")]
    Listen(#[source] std::io::Error),
    #[error("set up metrics")]
    Metrics(#[from] prometheus::Error),
}

/// As `--etcd-healthcheck-timeout`.
const STORE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// A running API server.
pub struct Server {
    app: Arc<App>,
    tasks: TaskTracker,
    addresses: Vec<std::net::SocketAddr>,
}

impl Server {
    /// Serves when this returns; `/readyz` says when the bootstrap objects are there.
    pub async fn start(mut config: Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        let kinds = Kinds::new();
        let indexer = Arc::new(StrategyIndexer::new(&kinds));
        let cache = Cache::new(store.clone(), indexer).await.map_err(StartError::Cache)?;
        let authz = Authorizer::new(&config.authorization_mode);
        let feeds = authz.load(&cache).map_err(StartError::Cache)?;
        let services = ServiceAllocator::new(&config);
        service_ip::load_ranges(&cache, &services, &config.service_cluster_ip_range)
            .await
            .map_err(StartError::Cache)?;
        let service_capacity = Arc::new(ServiceCapacity::new(config.service_limits, &config.service_cluster_ip_range));
        service_capacity.load(&cache).await.map_err(StartError::Cache)?;
        restore_services(&cache, &services).await?;
        let listeners = std::mem::take(&mut config.listeners);
        let client_certs = Arc::new(ClientCerts::new(&config)?);
        let tls = connection::tls(&config, client_certs.clone()).map_err(StartError::Tls)?;
        let app = Arc::new(App {
            authn: Authenticators::new(&config)?,
            admission: Chain::new(
                admission::plugins(&service_capacity),
                &config.enable_admission_plugins,
                &config.disable_admission_plugins,
            )?,
            flow: FlowControl::new(config.max_requests_inflight, config.max_mutating_requests_inflight),
            metrics: Metrics::new()?,
            resource_metrics: ResourceMetrics::new(),
            stop: CancellationToken::new(),
            pending_hooks: RwLock::new(hooks::NAMES.to_vec()),
            kubelets: RwLock::default(),
            authz,
            services,
            service_capacity,
            store,
            cache,
            kinds,
            config,
        });
        crate::crd::load(&app).await.map_err(StartError::Cache)?;
        let tasks = TaskTracker::new();
        for feed in feeds {
            let app = app.clone();
            tasks.spawn(async move { app.authz.follow(&app.cache, feed, app.stop.clone()).await });
        }
        let mut addresses = Vec::new();
        let seats = seats::Seats::new(listener::seats(app.config.connections.count));
        for listener in listeners {
            listener.set_nonblocking(true).map_err(StartError::Listen)?;
            // Of std 128, which a crowd overruns: who comes then waits a second for its SYN to be sent again.
            let backlog = nix::sys::socket::Backlog::MAXCONN;
            nix::sys::socket::listen(&listener, backlog).map_err(|errno| StartError::Listen(errno.into()))?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Listen)?;
            addresses.push(listener.local_addr().map_err(StartError::Listen)?);
            let (tls, clients, seats) = (tls.clone(), client_certs.clone(), seats.clone());
            tasks.spawn(listener::accept(app.clone(), listener, tls, clients, seats, tasks.clone()));
        }
        // The kubeconfig is written when somebody listens.
        let renewal = renewal::Renewal::start(app.clone())?;
        tasks.spawn(crate::crd::run(app.clone()));
        let started = app.clone();
        tasks.spawn(async move {
            hooks::run(started.clone()).await;
            // Its Events are in a namespace that the hooks make.
            ca::watch(started).await;
        });
        tasks.spawn(renewal.run());
        tasks.spawn(event_ttl::run(app.clone()));
        tasks.spawn(resource_metrics::run(app.clone()));
        tasks.spawn(service_ip::run(app.clone()));
        tasks.spawn(service_ip::follow_ranges(app.clone()));
        tasks.spawn(service_capacity::follow(app.clone()));
        if app.config.shared_store {
            tasks.spawn(peers::run(app.clone()));
        }
        for claims in [service_ip::ADDRESSES, service_ip::PORTS] {
            tasks.spawn(service_ip::follow(app.clone(), claims));
        }
        tasks.spawn(crate::openapi::forget_idle(app.clone()));
        Ok(Self { app, tasks, addresses })
    }

    /// A `tower` service whose requests are `user`'s, for clients in this process.
    pub fn local_client_service(&self, user: UserInfo) -> LocalService {
        LocalService::new(self.app.clone(), user)
    }

    /// Signs tokens that are kept in Secrets.
    pub fn secret_tokens(&self) -> SecretTokens {
        SecretTokens(self.app.clone())
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        &self.addresses
    }

    pub fn pki(&self) -> &Arc<crate::pki::Pki> {
        &self.app.config.pki
    }

    /// Whether `/readyz` says so.
    pub fn is_ready(&self) -> bool {
        self.app.pending_hooks.read().is_empty()
    }

    /// Returns when every start hook has run.
    pub async fn ready(&self) {
        while !self.is_ready() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Ends watches, lets requests finish for a while, and stops.
    pub async fn shutdown(&self) {
        self.app.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.app.config.shutdown_grace, self.tasks.wait()).await.is_err() {
            tracing::warn!("connections were still open at shutdown");
        }
    }
}

/// See [`Server::secret_tokens`].
#[derive(Clone)]
pub struct SecretTokens(Arc<App>);

impl SecretTokens {
    /// A token without end for a ServiceAccount, by name and UID; it is good as long as the Secret of this name holds it.
    ///
    /// # Errors
    /// Why it cannot be signed.
    pub fn sign(&self, namespace: &str, account: (&str, &str), secret: &str) -> Result<String, String> {
        let claims = crate::authn::service_account::legacy::Claims::new(namespace, account.0, account.1, secret);
        self.0.authn.service_accounts.sign(&claims).map_err(|status| status.message)
    }
}

/// Takes over what the stored Services have, before the first request for another one.
async fn restore_services(cache: &Cache, services: &ServiceAllocator) -> Result<(), StartError> {
    let query = Query { resource: "core/services", filter: Filter::all(), at: At::Any, ..Query::default() };
    let snapshot = cache.list(&query).await.map_err(StartError::Cache)?;
    for object in &snapshot.objects {
        let service = serde_json::from_slice(object.as_slice()).unwrap_or_default();
        if let Err(problem) = services.restore(&service) {
            tracing::warn!(service = %object.key(), problem, "service holds what it should not");
        }
    }
    Ok(())
}

/// The checks of a health endpoint, by upstream's names.
pub async fn health(app: &App, endpoint: &str) -> Health {
    let stored = match tokio::time::timeout(STORE_TIMEOUT, app.store.current_revision()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(xebec_store::chain(&error)),
        Err(_) => Err("the store does not answer".to_owned()),
    };
    let hooks = app.pending_hooks.read().clone();
    let mut health = Health::default().with("ping", || Ok(()));
    let etcd = move || stored.clone();
    health = health.with("log", || Ok(())).with("etcd", etcd.clone());
    if endpoint == "readyz" {
        health = health.with("etcd-readiness", etcd).with("informer-sync", || Ok(()));
    }
    for name in hooks::NAMES {
        let pending = hooks.contains(&name);
        health = health.with(name, move || if pending { Err("not finished".into()) } else { Ok(()) });
    }
    if endpoint == "readyz" {
        let stopping = app.stop.is_cancelled();
        health =
            health.with("shutdown", move || if stopping { Err("process is shutting down".into()) } else { Ok(()) });
    }
    health
}
