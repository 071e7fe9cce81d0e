//! TLS: the server's configuration, and a client that trusts anyone (HTTPS probes verify nothing, as upstream's).

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Tls;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("parse the client CA")]
    ClientCa(#[source] rustls::pki_types::pem::Error),
    #[error("use the client CA")]
    Trust(#[source] rustls::Error),
    #[error("verify clients by the client CA")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    #[error("choose TLS versions")]
    Versions(#[source] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A client that shows a certificate shows one of the cluster's CA; one without needs a token.
pub fn server(tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&tls.client_ca_pem) {
        roots.add(certificate.map_err(TlsError::ClientCa)?).map_err(TlsError::Trust)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(TlsError::Verifier)?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(tls.clock.clone()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&tls.cert_resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

pub async fn connect_unverified(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, String> {
    let config = xebec_tls::unverified().map_err(|e| e.to_string())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| e.to_string())
}
