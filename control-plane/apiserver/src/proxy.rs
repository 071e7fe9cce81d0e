//! Requests that a node answers: logs, exec, attach, port-forward.
//!
//! The API server dials the kubelet over TLS with its own client certificate, forwards the request, and
//! for an upgrade copies bytes both ways: it neither reads nor frames what kubectl and the kubelet say.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use xebec_machinery::object;
use xebec_machinery::status::Status;

/// Headers of an upgrade that both sides must see unchanged (RFC 6455, section 4; SPDY as kubectl uses it).
const FORWARDED: [&str; 9] = [
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-accept",
    "x-stream-protocol-version",
    "content-type",
];

/// Where a node's kubelet listens.
#[derive(Clone, Copy, Debug)]
pub struct Kubelet {
    pub address: IpAddr,
    pub port: u16,
}

/// Where a node says that its kubelet is.
///
/// # Errors
/// An internal error that names the node without an address.
pub fn kubelet_of(node: &Value) -> Result<Kubelet, Status> {
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
    let address = addresses.into_iter().flatten().find_map(|a| {
        (a.get("type")?.as_str()? == "InternalIP").then(|| a.get("address")?.as_str()?.parse::<IpAddr>().ok())?
    });
    let address = address.ok_or_else(|| {
        let name = object::name(node);
        Status::internal(format!("no preferred addresses found; known addresses of node {name}: none"))
    })?;
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    Ok(Kubelet { address, port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(10250) })
}

/// Dials kubelets.
#[derive(Clone)]
pub struct KubeletProxy {
    tls: TlsConnector,
}

impl KubeletProxy {
    /// `config` trusts the cluster's CA and presents the API server's kubelet client certificate.
    pub fn new(mut config: rustls::ClientConfig) -> Self {
        // Upgrades exist in HTTP/1.1 only.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { tls: TlsConnector::from(Arc::new(config)) }
    }

    /// Sends `request` to `path_and_query` of a kubelet. For an upgrade the bytes are copied from the
    /// moment both sides have agreed until either closes.
    ///
    /// # Errors
    /// An internal error that names the node's address when it cannot be reached.
    pub async fn forward<B>(
        &self,
        kubelet: Kubelet,
        path_and_query: &str,
        mut request: Request<B>,
    ) -> Result<Response<Incoming>, Status> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Status::internal(format!("error dialing backend: {what} {}:{}: {error}", kubelet.address, kubelet.port))
        };
        let tcp = TcpStream::connect((kubelet.address, kubelet.port)).await.map_err(|e| failed("dial tcp", &e))?;
        // Interactive shells send single bytes.
        tcp.set_nodelay(true).map_err(|e| failed("set TCP_NODELAY on", &e))?;
        let name = ServerName::IpAddress(kubelet.address.into());
        let tls = self.tls.connect(name, tcp).await.map_err(|e| failed("TLS with", &e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|e| failed("HTTP with", &e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to a kubelet ended");
            }
        });
        let outgoing = outgoing(&kubelet, path_and_query, &request).map_err(|e| failed("ask", &e))?;
        let mut answer = sender.send_request(outgoing).await.map_err(|e| failed("ask", &e))?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (client, node) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut answer));
            tokio::spawn(splice(client, node));
        }
        Ok(answer)
    }
}

fn outgoing<B>(kubelet: &Kubelet, path_and_query: &str, request: &Request<B>) -> http::Result<Request<Empty<Bytes>>> {
    let mut builder = Request::builder().method(request.method()).uri(path_and_query);
    builder = builder.header(header::HOST, format!("{}:{}", kubelet.address, kubelet.port));
    for name in FORWARDED {
        for value in request.headers().get_all(name) {
            builder = builder.header(name, value);
        }
    }
    builder.body(Empty::new())
}

async fn splice(client: hyper::upgrade::OnUpgrade, node: hyper::upgrade::OnUpgrade) {
    let copied = async {
        let (client, node) = tokio::try_join!(client, node)?;
        tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(node)).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    if let Err(error) = copied.await {
        tracing::debug!(%error, "stream between a client and a kubelet ended");
    }
}
