//! The CA certificate as the server shows it, before it can be trusted.
//!
//! The server presents its CA after its own certificate; one that does not is asked for `/cacerts`.
//! Nothing here is believed until its hash was compared with one that came another way.

use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const TIMEOUT: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ServerCaError {
    #[error("API server URL {0:?} must look like https://host:port")]
    Url(String),
    #[error("connect to {server}")]
    Connect {
        server: String,
        #[source]
        source: io::Error,
    },
    #[error("{server} did not answer in time")]
    TimedOut { server: String },
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
}

impl ServerCaError {
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Tls(_))
    }
}

/// Every certificate that the server shows, as PEM. Unverified.
pub(super) async fn fetch(server: &str) -> Result<String, ServerCaError> {
    let invalid = || ServerCaError::Url(server.into());
    let uri: Uri = server.parse().map_err(|_| invalid())?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(invalid)?;
    let port = uri.port_u16().unwrap_or(443);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_string()).map_err(|_| invalid())?;
    let timed_out = || ServerCaError::TimedOut { server: server.into() };
    let connect = handshake(bare, port, name);
    let stream = tokio::time::timeout(TIMEOUT, connect).await.map_err(|_| timed_out())??;
    let stream = stream.map_err(|source| ServerCaError::Connect { server: server.into(), source })?;
    let presented = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let mut pem: String = presented.iter().map(|der| to_pem(der)).collect();
    let served = tokio::time::timeout(TIMEOUT, cacerts(stream, host)).await;
    if let Ok(Some(text)) = served {
        pem.push_str(&text);
    }
    Ok(pem)
}

/// The one certificate in `pem` whose DER has this SHA-256, as PEM.
pub(super) fn matching(pem: &str, hash: &[u8; 32]) -> Option<String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .find(|der| sha256(der) == *hash)
        .map(|der| to_pem(&der))
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).into()
}

fn to_pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|i| &text[i..text.len().min(i + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

async fn handshake(host: &str, port: u16, name: ServerName<'static>) -> Result<io::Result<Tls>, rustls::Error> {
    let config = xebec_tls::unverified()?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(match TcpStream::connect((host, port)).await {
        Ok(tcp) => connector.connect(name, tcp).await,
        Err(error) => Err(error),
    })
}

async fn cacerts(stream: Tls, host: &str) -> Option<String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get("/cacerts").header("host", host).body(Empty::<Bytes>::new()).ok()?;
    let ask = async {
        let response = sender.send_request(request).await.ok()?;
        let body = response.status().is_success().then(|| response.into_body())?;
        let bytes = Limited::new(body, MOST_BYTES).collect().await.ok()?.to_bytes();
        String::from_utf8(bytes.into()).ok()
    };
    let mut ask = std::pin::pin!(ask);
    tokio::select! { answer = &mut ask => answer, _ = connection => ask.await }
}
