use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use xebec_apiserver::{Config, Pki, Server, UserInfo};
use xebec_clock::Clock;

/// A server with a store of its own, which goes with it.
pub struct Cluster {
    pub server: Server,
    pub pki: Arc<Pki>,
    pub store: Arc<dyn xebec_store::Store>,
    dir: tempfile::TempDir,
}

/// What a request led to.
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Cluster {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::in_dir(dir).await
    }

    async fn in_dir(dir: tempfile::TempDir) -> Self {
        let pki = Arc::new(Pki::load_or_create(dir.path().join("pki"), &[]).unwrap());
        let store = Arc::new(open_store(&dir.path().join("store")).await);
        Self::over(store, pki, dir, |_| {}).await
    }

    /// With options of its own.
    pub async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Arc::new(Pki::load_or_create(dir.path().join("pki"), &[]).unwrap());
        let store = Arc::new(open_store(&dir.path().join("store")).await);
        Self::over(store, pki, dir, configure).await
    }

    /// With a store that is made of its own one.
    pub async fn over_store<S: xebec_store::Store>(wrap: impl FnOnce(Arc<dyn xebec_store::Store>) -> Arc<S>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Arc::new(Pki::load_or_create(dir.path().join("pki"), &[]).unwrap());
        let store = wrap(Arc::new(open_store(&dir.path().join("store")).await));
        Self::over(store, pki, dir, |_| {}).await
    }

    /// By a clock of its own.
    pub async fn by_clock(clock: Clock, configure: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Arc::new(Pki::by_clock(dir.path().join("pki"), &[], clock).unwrap());
        let store = Arc::new(open_store(&dir.path().join("store")).await);
        Self::over(store, pki, dir, configure).await
    }

    /// Moves the clock of [`Cluster::by_clock`], until the server has the certificate that it is to have by then.
    pub async fn advance(&self, clock: &Clock, by: Duration) {
        clock.advance(by);
        let renewed = async {
            while self.pki.serving().validity().renew_at() <= clock.now() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("a renewed serving certificate");
    }

    /// Another server on the same store, with the same certificates.
    pub async fn beside(&self, configure: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::over(self.store.clone(), self.pki.clone(), dir, configure).await
    }

    async fn over(
        store: Arc<dyn xebec_store::Store>,
        pki: Arc<Pki>,
        dir: tempfile::TempDir,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::new(pki.clone(), vec![listener]);
        config.bootstrap_token = Some("abcdef.0123456789abcdef".into());
        configure(&mut config);
        let server = Server::start(config, store.clone()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), server.ready()).await.unwrap();
        let cluster = Self { server, pki, store, dir };
        let account = json!({ "metadata": { "name": "default" } });
        let path = "/api/v1/namespaces/default/serviceaccounts";
        if cluster.get(&format!("{path}/default")).await.code == 404 {
            cluster.post(path, &account).await.expect(201);
        }
        cluster
    }

    /// Stops the server and starts it again over the same files.
    pub async fn restart(self) -> Self {
        let Self { server, store, dir, .. } = self;
        server.shutdown().await;
        drop((server, store));
        Self::in_dir(dir).await
    }

    pub fn pki_file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("pki").join(name)
    }

    /// A new connection with a client certificate, or without one.
    pub async fn connect(&self, user: Option<(&str, &[&str])>) -> SendRequest<Full<Bytes>> {
        let tcp = TcpStream::connect(self.server.addresses()[0]).await.unwrap();
        self.connect_over(tcp, user).await
    }

    /// As [`connect`](Self::connect), over a connection that the caller made.
    pub async fn connect_over(&self, tcp: TcpStream, user: Option<(&str, &[&str])>) -> SendRequest<Full<Bytes>> {
        speak(self.handshake(tcp, user.map(|(name, groups)| self.key(name, groups)), &[]).await).await
    }

    /// As whoever a certificate says, whoever signed it.
    pub async fn connect_as(&self, key: CertifiedKey) -> SendRequest<Full<Bytes>> {
        let tcp = TcpStream::connect(self.server.addresses()[0]).await.unwrap();
        speak(self.handshake(tcp, Some(key), &[]).await).await
    }

    /// A connection on which the caller speaks; an administrator's with a name.
    pub async fn raw(&self, name: Option<&str>) -> TlsStream<TcpStream> {
        let groups: &[&str] = &["system:masters"];
        self.tls(name.map(|name| (name, groups))).await
    }

    /// A connection on which an administrator speaks HTTP/2, frame by frame.
    pub async fn raw_http2(&self) -> TlsStream<TcpStream> {
        self.tls_over(Some(("admin", &["system:masters"])), &[b"h2"]).await
    }

    async fn tls(&self, user: Option<(&str, &[&str])>) -> TlsStream<TcpStream> {
        self.tls_over(user, &[]).await
    }

    async fn tls_over(&self, user: Option<(&str, &[&str])>, protocols: &[&[u8]]) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.server.addresses()[0]).await.unwrap();
        self.handshake(tcp, user.map(|(name, groups)| self.key(name, groups)), protocols).await
    }

    /// A certificate of the cluster's.
    fn key(&self, name: &str, groups: &[&str]) -> CertifiedKey {
        self.pki.issue_client(name, groups).unwrap().certified_key(name).unwrap()
    }

    async fn handshake(&self, tcp: TcpStream, key: Option<CertifiedKey>, protocols: &[&[u8]]) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_details(provider, Arc::new(self.pki.clock().clone()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(self.pki.roots()));
        let mut config = match key {
            None => builder.with_no_client_auth(),
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::new(key)))),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    /// Sends a request as an administrator and leaves the body to the caller.
    pub async fn open(&self, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        let mut sender = self.connect(Some(("admin", &["system:masters"]))).await;
        let response = sender.send_request(request).await.unwrap();
        // The connection ends with the last sender; a watch must outlive this call.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(sender);
        });
        response
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut sender = self.connect(Some(("admin", &["system:masters"]))).await;
        answer(sender.send_request(request(method, path, headers, body)).await.unwrap()).await
    }

    /// As somebody with these credentials: a token, or nothing.
    pub async fn with_token(&self, token: Option<&str>, method: &str, path: &str, body: &Value) -> Answer {
        let mut sender = self.connect(None).await;
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        answer(sender.send_request(request(method, path, &headers, text(body))).await.unwrap()).await
    }

    /// Through the in-process service.
    pub async fn as_local(&self, user: UserInfo, method: &str, path: &str, body: &Value) -> Answer {
        let service = self.server.local_client_service(user);
        let Ok(response) = tower::ServiceExt::oneshot(service, request(method, path, &[], text(body))).await;
        answer(response).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// What `/metrics` says under a name and its labels.
    pub async fn metric(&self, series: &str) -> i64 {
        // Not over a connection: those may be what is short.
        let text = self.as_local(UserInfo::loopback(), "GET", "/metrics", &Value::Null).await.text;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse::<f64>().ok());
        value.unwrap_or(0.0) as i64
    }

    pub async fn post(&self, path: &str, object: &Value) -> Answer {
        self.send("POST", path, &[], object.to_string()).await
    }

    pub async fn put(&self, path: &str, object: &Value) -> Answer {
        self.send("PUT", path, &[], object.to_string()).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Answer {
        self.send("DELETE", path, &[], text(options)).await
    }

    /// `kind`: json, merge, strategic or apply.
    pub async fn patch(&self, kind: &str, path: &str, patch: &Value) -> Answer {
        let media_type = match kind {
            "json" => "application/json-patch+json",
            "merge" => "application/merge-patch+json",
            "strategic" => "application/strategic-merge-patch+json",
            _ => "application/apply-patch+yaml",
        };
        self.send("PATCH", path, &[("content-type", media_type)], patch.to_string()).await
    }
}

impl Answer {
    /// The body, if the code is the expected one.
    #[track_caller]
    pub fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.text);
        self.body
    }

    /// A failure with this code, reason and part of the message.
    #[track_caller]
    pub fn refused(self, code: u16, reason: &str, message: &str) {
        assert_eq!((self.code, self.body["reason"].as_str().unwrap_or("")), (code, reason), "{}", self.text);
        let said = self.body["message"].as_str().unwrap_or("");
        assert!(said.contains(message), "{said:?} does not say {message:?}");
    }
}

/// Opens the store once the tasks of a server that was stopped have let go of it.
async fn open_store(dir: &std::path::Path) -> xebec_store::embedded::Embedded {
    let opened = async {
        loop {
            match xebec_store::embedded::open(dir).await {
                Err(xebec_store::Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                opened => return opened.unwrap(),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), opened).await.expect("the store is let go")
}

async fn speak(tls: TlsStream<TcpStream>) -> SendRequest<Full<Bytes>> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body.into())).unwrap()
}

pub async fn answer<B>(response: http::Response<B>) -> Answer
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    Answer { code: parts.status.as_u16(), headers: parts.headers, body, text }
}

fn text(body: &Value) -> String {
    if body.is_null() { String::new() } else { body.to_string() }
}

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub const SERVICES: &str = "/api/v1/namespaces/default/services";

pub fn config_map(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "data": { "a": "1" } })
}

pub fn pod(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "busybox" }] } })
}

pub fn deployment(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": {
        "selector": { "matchLabels": { "app": name } },
        "template": {
            "metadata": { "labels": { "app": name } },
            "spec": { "containers": [{ "name": "c", "image": "busybox" }] },
        },
    } })
}
