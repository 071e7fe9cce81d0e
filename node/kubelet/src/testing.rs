//! What unit tests share.

pub mod world;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use xebec_clock::Clock;

use crate::config::{Config, Tls};

#[derive(Debug)]
struct NoCertificate;

impl rustls::server::ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
}

/// A node `n1` whose files lie in `dir`.
pub fn config(dir: &Path) -> Config {
    let (_, network_ready) = watch::channel(true);
    let tls = Tls { cert_resolver: Arc::new(NoCertificate), client_ca_pem: Vec::new(), clock: Clock::default() };
    Config::new("n1", vec![[172, 30, 0, 11].into()], dir.to_owned(), tls, network_ready)
}
