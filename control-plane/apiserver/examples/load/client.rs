//! The least that a client can do.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use xebec_apiserver::Pki;

use crate::Failure;

/// How connections are made: with a client certificate of an administrator.
#[derive(Clone)]
pub struct Dial {
    address: std::net::SocketAddr,
    config: rustls::ClientConfig,
}

impl Dial {
    pub fn new(pki: &Pki, address: std::net::SocketAddr) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(pki.ca_der().clone())?;
        let key = pki.issue_client("load", &["system:masters"])?.certified_key("load")?;
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::new(key))));
        Ok(Self { address, config })
    }

    pub async fn http1(&self) -> Result<http1::SendRequest<Full<Bytes>>, Failure> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.tls(b"http/1.1").await?)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// As client-go: all watches of a client on one connection.
    pub async fn http2(&self) -> Result<http2::SendRequest<Full<Bytes>>, Failure> {
        let stream = TokioIo::new(self.tls(b"h2").await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    pub async fn tls(&self, protocol: &[u8]) -> Result<TlsStream<TcpStream>, Failure> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let mut config = self.config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        Ok(connector.connect(ServerName::try_from("localhost")?, tcp).await?)
    }
}

/// The code of the answer and how many bytes it had.
pub async fn call(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    body: String,
) -> Result<(u16, usize), Failure> {
    sender.ready().await?;
    let response = sender.send_request(request(method, path, body)?).await?;
    let code = response.status().as_u16();
    Ok((code, drain(response.into_body()).await?))
}

pub fn request(method: &str, path: &str, body: String) -> Result<Request<Full<Bytes>>, Failure> {
    let uri = format!("https://localhost{path}");
    Ok(Request::builder().method(method).uri(uri).header("host", "localhost").body(Full::new(body.into()))?)
}

async fn drain(mut body: Incoming) -> Result<usize, Failure> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.into_data().map_or(0, |data| data.len());
    }
    Ok(length)
}
