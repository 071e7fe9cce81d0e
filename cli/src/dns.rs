//! `xebec dns`: cluster DNS of a node, started by the agent with the node's own certificate.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tokio_util::sync::CancellationToken;
use xebec_client::Informers;
use xebec_client::bootstrap::{Join, Joined, join};
use xebec_clock::Clock;

use crate::signal;

/// How often new certificates are looked for: the agent's renewal of the node's, the administrator's change of the CA's.
const RELOAD_PERIOD: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct Dns {
    /// UDP and TCP; an address that does not exist yet is waited for
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
    #[arg(long)]
    node_name: String,
    /// API servers, separated by commas
    #[arg(long, value_delimiter = ',', required = true)]
    server: Vec<String>,
    /// Where the agent keeps the node's certificate
    #[arg(long)]
    identity_dir: PathBuf,
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Resolvers for other names [default: those of /etc/resolv.conf]
    #[arg(long = "upstream", value_name = "ADDRESS")]
    upstreams: Vec<String>,
    /// Keep the records here, for a restart while no API server answers
    #[arg(long)]
    snapshot: Option<PathBuf>,
}

impl Dns {
    /// # Errors
    /// No certificate in the directory, an upstream that is no address, or a socket that cannot be bound.
    pub async fn run(self) -> Result<()> {
        let stop = CancellationToken::new();
        signal::cancel_on_termination(stop.clone())?;
        let upstreams = match self.upstreams.as_slice() {
            [] => {
                let own: Vec<_> = self.listen.iter().map(SocketAddr::ip).collect();
                xebec_dns::upstreams(Path::new("/etc/resolv.conf"), &own)?
            }
            given => given.iter().map(|text| upstream(text)).collect::<Result<_>>()?,
        };
        let joined = join(&Join {
            servers: self.server,
            token: None,
            ca_file: None,
            dir: self.identity_dir.clone(),
            node_name: self.node_name,
            clock: Clock::default(),
        })
        .await?;
        let config = xebec_dns::Config {
            listen: self.listen,
            cluster_domain: self.cluster_domain,
            upstreams,
            snapshot: self.snapshot,
        };
        let informers = Informers::new(joined.client.clone());
        tokio::select! {
            served = xebec_dns::run(config, &informers, Arc::default(), stop) => Ok(served?),
            () = reload(&joined) => Err(start_again().into()),
        }
    }
}

/// Presents what the agent has renewed; the agent asks for certificates, this process only reads them. Until other CAs are
/// to be trusted.
async fn reload(joined: &Joined) {
    loop {
        tokio::time::sleep(RELOAD_PERIOD).await;
        let read = joined.reload().and_then(|()| joined.has_other_ca());
        match read {
            Ok(true) => return tracing::info!("the CA certificates were replaced: starting again with them"),
            Ok(false) => {}
            Err(error) => tracing::warn!(error = xebec_client::chain(&error), "certificates cannot be read again"),
        }
    }
}

/// In the same process, so that the agent goes on with it, and within milliseconds. Returns if that fails.
fn start_again() -> std::io::Error {
    std::process::Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec()
}

/// An address with or without a port.
fn upstream(text: &str) -> Result<SocketAddr> {
    let with_port = || text.parse().ok();
    let without = || Some(SocketAddr::new(text.parse().ok()?, 53));
    with_port().or_else(without).with_context(|| format!("--upstream must be an address, not {text}"))
}
