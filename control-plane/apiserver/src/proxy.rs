//! Requests that a node answers: logs, exec, attach, port-forward; and those that go on to what runs there.
//!
//! The API server dials the kubelet over TLS with its own client certificate, forwards the request, and
//! for an upgrade copies bytes both ways: it neither reads nor frames what kubectl and the kubelet say.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use xebec_machinery::object;
use xebec_machinery::status::Status;

use crate::body;

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

/// What the kubelet calls a connection to one of its pods (node/kubelet, `server::dial`).
const DIAL: &str = "xebec-dial";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Headers that are about one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Who asks is between them and the API server.
const SECRET: [&str; 1] = ["authorization"];

/// Where a node's kubelet listens.
#[derive(Clone, Copy, Debug)]
pub struct Kubelet {
    pub address: IpAddr,
    pub port: u16,
}

impl From<Kubelet> for SocketAddr {
    fn from(kubelet: Kubelet) -> Self {
        Self::new(kubelet.address, kubelet.port)
    }
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

    /// Sends `request` without its body to `path_and_query` of a kubelet. For an upgrade the bytes are copied from the
    /// moment both sides have agreed until either closes.
    ///
    /// # Errors
    /// An internal error that names the node's address when it cannot be reached.
    pub async fn forward<B>(
        &self,
        kubelet: Kubelet,
        path_and_query: &str,
        request: Request<B>,
    ) -> Result<Response<Incoming>, Status> {
        let outgoing = outgoing(&kubelet, path_and_query, &request).map_err(Status::internal)?;
        exchange(self.connect(kubelet).await?, request, outgoing).await.map_err(|e| unreachable(kubelet.into(), &e))
    }

    /// As [`forward`](Self::forward), with the whole request.
    ///
    /// # Errors
    /// As `forward`.
    pub async fn relay_to_kubelet(
        &self,
        kubelet: Kubelet,
        target: &Target<'_>,
        request: Request<body::Incoming>,
    ) -> Result<Response<Incoming>, Status> {
        relay(self.connect(kubelet).await?, target, request).await.map_err(|e| unreachable(kubelet.into(), &e))
    }

    /// Hands a request on to a pod of the kubelet's node, over a connection that the kubelet makes.
    ///
    /// # Errors
    /// 503 with the address that cannot be reached.
    pub async fn relay_through(
        &self,
        kubelet: Kubelet,
        address: SocketAddr,
        target: &Target<'_>,
        request: Request<body::Incoming>,
    ) -> Result<Response<Incoming>, Status> {
        let path = format!("/xebec/v1/dial?address={}&port={}", address.ip(), address.port());
        let dial = Request::get(path)
            .header(header::HOST, SocketAddr::from(kubelet).to_string())
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, DIAL)
            .body(Empty::<Bytes>::new())
            .map_err(Status::internal)?;
        let mut sender = open(self.connect(kubelet).await?).await.map_err(|e| unreachable(kubelet.into(), &e))?;
        let answer = sender.send_request(dial).await.map_err(|e| unreachable(kubelet.into(), &e))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(unreachable(address, &refusal(answer).await));
        }
        let stream = hyper::upgrade::on(answer).await.map_err(|e| unreachable(address, &e))?;
        relay_over(TokioIo::new(stream), address, target, request).await
    }

    /// Hands a request on to an address that the API server reaches by itself.
    ///
    /// # Errors
    /// As [`relay_through`](Self::relay_through).
    pub async fn relay_directly(
        &self,
        address: SocketAddr,
        target: &Target<'_>,
        request: Request<body::Incoming>,
    ) -> Result<Response<Incoming>, Status> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| unreachable(address, &"i/o timeout"))?;
        relay_over(stream.map_err(|e| unreachable(address, &e))?, address, target, request).await
    }

    async fn connect(&self, kubelet: Kubelet) -> Result<TlsStream<TcpStream>, Status> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Status::internal(format!("error dialing backend: {what} {}:{}: {error}", kubelet.address, kubelet.port))
        };
        let tcp = TcpStream::connect((kubelet.address, kubelet.port)).await.map_err(|e| failed("dial tcp", &e))?;
        // Interactive shells send single bytes.
        tcp.set_nodelay(true).map_err(|e| failed("set TCP_NODELAY on", &e))?;
        let name = ServerName::IpAddress(kubelet.address.into());
        self.tls.connect(name, tcp).await.map_err(|e| failed("TLS with", &e))
    }
}

/// What a proxied request asks for.
pub struct Target<'a> {
    /// With the query.
    pub path: &'a str,
    /// The path of the proxy itself, for `X-Forwarded-Uri`.
    pub prefix: &'a str,
    /// Certificates are not verified, as upstream has it: nobody vouches for the names of pods.
    pub tls: bool,
}

fn unreachable(address: SocketAddr, error: &dyn std::fmt::Display) -> Status {
    Status::service_unavailable(format!("error trying to reach service: {address}: {error}"))
}

/// The message of a Status, or the code alone.
async fn refusal(answer: Response<Incoming>) -> String {
    let code = answer.status();
    let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let status = body.ok().and_then(|body| serde_json::from_slice::<Value>(&body.to_bytes()).ok());
    status.and_then(|s| s["message"].as_str().map(str::to_owned)).unwrap_or_else(|| format!("the node answered {code}"))
}

async fn relay_over<I>(
    stream: I,
    address: SocketAddr,
    target: &Target<'_>,
    request: Request<body::Incoming>,
) -> Result<Response<Incoming>, Status>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if !target.tls {
        return relay(stream, target, request).await.map_err(|e| unreachable(address, &e));
    }
    let name = ServerName::IpAddress(address.ip().into());
    let tls = TlsConnector::from(Arc::new(xebec_tls::unverified().map_err(Status::internal)?));
    let stream = tls.connect(name, stream).await.map_err(|e| unreachable(address, &e))?;
    relay(stream, target, request).await.map_err(|e| unreachable(address, &e))
}

async fn relay<I>(
    stream: I,
    target: &Target<'_>,
    request: Request<body::Incoming>,
) -> Result<Response<Incoming>, hyper::Error>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (parts, body) = request.into_parts();
    let upgrade = parts.headers.contains_key(header::UPGRADE);
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = parts.method.clone();
    // A path that was in a URI is one again.
    *outgoing.uri_mut() = target.path.parse().unwrap_or_else(|_| http::Uri::from_static("/"));
    for (name, value) in &parts.headers {
        let own =
            HOP_BY_HOP.contains(&name.as_str()) && !(upgrade && ["connection", "upgrade"].contains(&name.as_str()));
        if !own && !SECRET.contains(&name.as_str()) && !name.as_str().starts_with("impersonate-") {
            outgoing.headers_mut().append(name, value.clone());
        }
    }
    let authority = parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    let host = authority.or_else(|| parts.headers.get(header::HOST).cloned());
    let host = host.unwrap_or_else(|| HeaderValue::from_static("localhost"));
    outgoing.headers_mut().insert(header::HOST, host.clone());
    outgoing.headers_mut().insert("x-forwarded-host", host);
    outgoing.headers_mut().insert("x-forwarded-proto", HeaderValue::from_static("https"));
    let path = target.path.split('?').next().unwrap_or_default();
    if let Ok(uri) = HeaderValue::from_str(&format!("{}{path}", target.prefix)) {
        outgoing.headers_mut().insert("x-forwarded-uri", uri);
    }
    exchange(stream, Request::from_parts(parts, ()), outgoing).await
}

/// An HTTP/1.1 connection over a stream.
async fn open<I, B>(stream: I) -> Result<SendRequest<B>, hyper::Error>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<body::BoxError>,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend ended");
        }
    });
    Ok(sender)
}

/// Sends `outgoing`; when it leads to an upgrade, the client's connection is spliced with this one.
async fn exchange<I, A, B>(
    stream: I,
    mut client: Request<A>,
    outgoing: Request<B>,
) -> Result<Response<Incoming>, hyper::Error>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<body::BoxError>,
{
    let mut answer = open(stream).await?.send_request(outgoing).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (client, node) = (hyper::upgrade::on(&mut client), hyper::upgrade::on(&mut answer));
        tokio::spawn(splice(client, node));
    }
    Ok(answer)
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
