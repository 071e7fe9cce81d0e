//! A [`Client`] over TLS to one or several API servers.

use crate::Client;
use crate::identity::Identity;
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::Body;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use xebec_clock::Clock;

/// How a server that vanished without closing its connections is noticed: a ping after this much
/// silence, and as long again for the answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Many watches share one connection; the default of 64 KiB would make them wait for each other.
const CONNECTION_WINDOW: u32 = 4 << 20;
const STREAM_WINDOW: u32 = 1 << 20;

/// Where the API is and who asks.
#[derive(Clone)]
pub struct Connection {
    /// `https://host:port`, tried in order; the first that answers is used until it fails.
    pub servers: Vec<String>,
    pub ca_pem: Vec<u8>,
    pub auth: Auth,
    /// By which certificates are good.
    pub clock: Clock,
}

#[derive(Clone)]
pub enum Auth {
    Anonymous,
    Token(String),
    Certificate(Arc<Identity>),
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no API server given")]
    NoServer,
    #[error("API server URL {0:?}")]
    Url(String, #[source] http::uri::InvalidUri),
    #[error("API server URL {0:?} must look like https://host:port")]
    Scheme(String),
    #[error("read the cluster CA certificate")]
    Ca(#[source] rustls::pki_types::pem::Error),
    #[error("use the cluster CA certificate")]
    Tls(#[from] rustls::Error),
    #[error("the cluster CA file holds no certificate")]
    EmptyCa,
    #[error("bearer token has characters that HTTP forbids")]
    Token(#[source] header::InvalidHeaderValue),
    #[error("read kubeconfig {path}")]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: kube::config::KubeconfigError,
    },
    #[error("use kubeconfig {path}")]
    Client {
        path: PathBuf,
        #[source]
        source: kube::Error,
    },
}

impl Connection {
    /// Makes a client; connections are opened when needed and again when they break. Needs a tokio
    /// runtime.
    pub fn client(&self) -> Result<Client, ConnectError> {
        let servers = self.servers.iter().map(|s| server(s)).collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(ConnectError::NoServer);
        }
        let token = match &self.auth {
            Auth::Token(token) => {
                let value = HeaderValue::try_from(format!("Bearer {token}"));
                Some(value.map_err(ConnectError::Token)?)
            }
            Auth::Anonymous | Auth::Certificate(_) => None,
        };
        let service =
            Failover { http: http_client(self.tls()?), servers: servers.into(), current: Arc::default(), token };
        Ok(Client::new(service, xebec_types::namespace::DEFAULT))
    }

    pub(crate) fn tls(&self) -> Result<ClientConfig, ConnectError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.ca_pem) {
            roots.add(certificate.map_err(ConnectError::Ca)?)?;
        }
        if roots.is_empty() {
            return Err(ConnectError::EmptyCa);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_details(provider, Arc::new(self.clock.clone()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match &self.auth {
            Auth::Certificate(identity) => config.with_client_cert_resolver(Arc::clone(identity) as _),
            Auth::Anonymous | Auth::Token(_) => config.with_no_client_auth(),
        };
        // A resumed session is the old one: the server would go on seeing a certificate that was replaced since.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// A client for a kubeconfig's current context.
pub async fn from_kubeconfig(path: &Path) -> Result<Client, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig { path: path.into(), source };
    let file = kube::config::Kubeconfig::read_from(path).map_err(failed)?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options).await.map_err(failed)?;
    install_crypto();
    Client::try_from(config).map_err(|source| ConnectError::Client { path: path.into(), source })
}

/// Makes ring the process's TLS provider, for libraries that ask for the default one.
pub fn install_crypto() {
    // An error says that a provider is installed, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn server(url: &str) -> Result<Uri, ConnectError> {
    let uri: Uri = url.parse().map_err(|e| ConnectError::Url(url.into(), e))?;
    match uri.scheme_str() {
        Some("https") if uri.authority().is_some() => Ok(uri),
        _ => Err(ConnectError::Scheme(url.into())),
    }
}

type Http = legacy::Client<HttpsConnector<HttpConnector>, Body>;

fn http_client(tls: ClientConfig) -> Http {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(5)));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http2().wrap_connector(tcp);
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_only(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .http2_keep_alive_while_idle(true)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .build(connector)
}

/// Sends requests to the current server and moves to the next when that one cannot be reached.
#[derive(Clone)]
struct Failover {
    http: Http,
    servers: Arc<[Uri]>,
    current: Arc<AtomicUsize>,
    token: Option<HeaderValue>,
}

type Answer = Result<Response<Incoming>, legacy::Error>;

impl tower::Service<Request<Body>> for Failover {
    type Response = Response<Incoming>;
    type Error = legacy::Error;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        Box::pin(self.clone().send(request))
    }
}

impl Failover {
    async fn send(self, request: Request<Body>) -> Answer {
        let mut spare = self.clone_of(&request);
        let mut attempt = request;
        for tried in 1.. {
            let at = self.current.load(Ordering::Relaxed) % self.servers.len();
            *attempt.uri_mut() = join(&self.servers[at], attempt.uri());
            let error = match self.http.request(attempt).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if !error.is_connect() {
                return Err(error);
            }
            let next = (at + 1) % self.servers.len();
            let (same, new) = (Ordering::Relaxed, Ordering::Relaxed);
            let _ = self.current.compare_exchange(at, next, same, new);
            // A request that found no connection was not sent: it may be sent elsewhere.
            match spare.take() {
                Some(again) if tried < self.servers.len() => {
                    spare = self.clone_of(&again);
                    attempt = again;
                }
                _ => return Err(error),
            }
        }
        unreachable!("the loop has no end")
    }

    fn clone_of(&self, request: &Request<Body>) -> Option<Request<Body>> {
        if self.servers.len() < 2 {
            return None;
        }
        let mut clone = Request::new(request.body().try_clone()?);
        *clone.method_mut() = request.method().clone();
        *clone.uri_mut() = request.uri().clone();
        *clone.headers_mut() = request.headers().clone();
        Some(clone)
    }
}

fn join(server: &Uri, request: &Uri) -> Uri {
    let mut parts = request.clone().into_parts();
    parts.scheme = server.scheme().cloned();
    parts.authority = server.authority().cloned();
    Uri::from_parts(parts).unwrap_or_else(|_| server.clone())
}

#[cfg(test)]
mod tests;
