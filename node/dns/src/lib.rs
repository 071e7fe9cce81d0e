//! Cluster DNS of one node, run as a process of its own so that it outlives the agent.
//!
//! It answers for the cluster domain and for the reverse names of services and endpoints out of memory, and forwards
//! the rest. The records follow <https://github.com/kubernetes/dns/blob/master/docs/specification.md> (schema 1.1.0);
//! where the specification is silent, CoreDNS' behaviour. It goes on answering from what it knows while the API is
//! away, and a snapshot on disk lets it do so after a restart too.

mod answer;
mod cache;
mod compile;
pub mod decoders;
mod error;
mod follow;
mod forward;
mod metrics;
mod resolv;
mod server;
mod snapshot;
pub mod wire;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use xebec_client::Informers;

pub use answer::{Answer, TTL, answer};
pub use compile::compile;
pub use error::{Error, Result};
pub use metrics::Metrics;
pub use resolv::upstreams;
pub use zone::{Endpoint, Kind, Port, ServiceRecord, Zone};

use forward::Forwarder;
use server::Server;
use zone::SharedZone;

#[derive(Clone, Debug)]
pub struct Config {
    /// UDP and TCP. An address that does not exist yet is waited for.
    pub listen: Vec<SocketAddr>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// Resolvers for all other names, in order of preference; see [`upstreams`].
    pub upstreams: Vec<SocketAddr>,
    /// Where the records are kept for a restart without the API.
    pub snapshot: Option<PathBuf>,
}

/// Runs until `stop`.
pub async fn run(config: Config, informers: &Informers, metrics: Arc<Metrics>, stop: CancellationToken) -> Result<()> {
    let zone = SharedZone::default();
    if let Some(path) = &config.snapshot {
        snapshot::load(path, &zone);
    }
    let server = Server {
        domain: wire::domain(&config.cluster_domain)?,
        own: config.listen.first().map(SocketAddr::ip).filter(|ip: &IpAddr| !ip.is_unspecified()),
        zone: zone.clone(),
        forwarder: Forwarder::new(config.upstreams.clone(), metrics.clone()),
        metrics: metrics.clone(),
    };
    tokio::select! {
        served = server::serve(Arc::new(server), config.listen, stop.clone()) => served,
        () = follow::follow(informers, &zone, &metrics, config.snapshot) => Ok(()),
        () = stop.cancelled() => Ok(()),
    }
}

#[cfg(test)]
mod tests;
