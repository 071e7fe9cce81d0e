//! TLS connections: HTTP/1.1 and HTTP/2, bounded in time and number.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::task::JoinError;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::activity::{Activity, Overdue};
use super::outbox::Outbox;
use super::seats::Seat;
use super::streams::{Opened, Turns};
use crate::app::App;
use crate::authn::{ClientCerts, PeerCert};
use crate::config::{Config, Limits};
use crate::pipeline::{self, Origin};

/// As Go's http2 server.
const STREAMS_MAX: u32 = 250;
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Streams that a client opened and took back while nobody looked; more of them end the connection (CVE-2023-44487).
const RESETS_MAX: usize = 100;
/// What one stream holds for a client that does not read.
const UNSENT_BYTES_MAX: usize = 64 << 10;
const NODES: &str = "system:nodes";
const KEEPALIVE_SECONDS: u32 = 30;
const SILENCE_MS_MAX: u32 = 120_000;
const KEEPALIVE: Duration = Duration::from_secs(30);

pub fn tls(config: &Config, clients: Arc<ClientCerts>) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_details(provider, Arc::new(config.pki.clock().clone()))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(config.pki.serving());
    // A resumed session brings back the client's certificate of then: one that was renewed since would be judged by its
    // predecessor, and refused when that expires.
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

pub async fn serve(
    app: Arc<App>,
    tcp: TcpStream,
    tls: TlsAcceptor,
    clients: Arc<ClientCerts>,
    seat: &Seat,
) -> Result<(), End> {
    let limits = app.config.connections;
    tcp.set_nodelay(true).map_err(End::other)?;
    let_go_of_the_silent(&tcp).map_err(End::other)?;
    let handshake = tokio::time::timeout(limits.handshake, tls.accept(tcp)).await;
    let stream = handshake.map_err(|_| End::HandshakeTimeout)?.map_err(|error| End::Handshake(error.to_string()))?;
    let peer = stream.get_ref().1.peer_certificates().and_then(|chain| clients.peer(chain));
    // What speaks HTTP is large; those that never get here do not pay for it.
    Box::pin(speak(app, stream, peer, seat)).await
}

async fn speak(app: Arc<App>, stream: TlsStream<TcpStream>, peer: Option<PeerCert>, seat: &Seat) -> Result<(), End> {
    let limits = app.config.connections;
    let expiry = peer.as_ref().and_then(PeerCert::expiry);
    let user = peer.as_ref().and_then(|peer| peer.user(app.now()));
    let is_node = user.is_some_and(|(user, _)| user.groups.iter().any(|group| group == NODES));
    let origin = Origin::Remote(peer.map(Arc::new));
    let (stop, clock) = (app.stop.clone(), app.clock().clone());
    let activity = Arc::new(Activity::new(limits));
    seat.observe(activity.clone(), is_node);
    let seen = activity.clone();
    // What was agreed on is spoken: a client that says nothing is not waited for to find out.
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (app, origin, running) = (app.clone(), origin.clone(), seen.begin());
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        async move {
            let answer = pipeline::handle(app, origin, request);
            // In a task of its own: one that takes long holds up no other of its connection.
            let answer = if is_http2 { AbortOnDropHandle::new(tokio::spawn(answer)).await? } else { answer.await };
            Ok::<_, JoinError>(running.answered(answer))
        }
    });
    let opened = Opened::default();
    let builder = builder(opened.clone(), is_http2, &limits);
    let outbox = Outbox::new(stream, is_http2);
    let mut turns = Turns::new(opened, outbox.clone());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(outbox), service);
    tokio::pin!(connection);
    // From here on its requests are refused. A client that has renewed its certificate shows it when it connects
    // again, which one that keeps its connection busy would never do by itself.
    let expired = async {
        match expiry {
            Some(at) => clock.sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    };
    let parting = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = expired => {}
        }
    };
    tokio::pin!(parting);
    let mut is_parting = false;
    loop {
        tokio::select! {
            outcome = turns.drive(connection.as_mut()) => return outcome.map_err(|error| End::of(&*error)),
            () = parting.as_mut(), if !is_parting => {
                is_parting = true;
                connection.as_mut().graceful_shutdown();
            }
            overdue = activity.overdue() => match overdue {
                Overdue::Unread => return Err(End::Unread),
                Overdue::Idle => {
                    connection.as_mut().graceful_shutdown();
                    _ = tokio::time::timeout(limits.handshake, turns.drive(connection.as_mut())).await;
                    return Err(End::Idle);
                }
            }
        }
    }
}

fn builder(opened: Opened, is_http2: bool, limits: &Limits) -> auto::Builder<Opened> {
    let mut builder = auto::Builder::new(opened);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(HEADER_BYTES_MAX * 8);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_send_buf_size(UNSENT_BYTES_MAX)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    if is_http2 { builder.http2_only() } else { builder.http1_only() }
}

/// Why a connection ended otherwise than in order.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("TLS handshake timed out")]
    HandshakeTimeout,
    #[error("TLS handshake: {0}")]
    Handshake(String),
    #[error("nothing was asked for long")]
    Idle,
    #[error("a client of another address has got its place")]
    Displaced,
    #[error("an answer was not read in time")]
    Unread,
    #[error("a request head, or a sign of life, did not come in time")]
    Timeout,
    #[error("{0}")]
    Other(String),
}

impl End {
    fn other(error: impl std::fmt::Display) -> Self {
        Self::Other(error.to_string())
    }

    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        match error.downcast_ref::<hyper::Error>() {
            Some(error) if error.is_timeout() => Self::Timeout,
            _ => Self::Other(xebec_store::chain(error)),
        }
    }

    /// For metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Handshake(_) => "handshake_error",
            Self::Idle => "idle",
            Self::Unread => "unread",
            Self::Displaced => "displaced",
            Self::Timeout => "timeout",
            Self::Other(_) => "error",
        }
    }
}

/// Ends connections whose client is gone or has stopped reading: a watch or a list must not keep its objects for ever
/// (tcp(7), `TCP_USER_TIMEOUT` also counts while the peer's window is closed).
fn let_go_of_the_silent(tcp: &TcpStream) -> nix::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    setsockopt(tcp, sockopt::KeepAlive, &true)?;
    setsockopt(tcp, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS)?;
    setsockopt(tcp, sockopt::TcpKeepInterval, &KEEPALIVE_SECONDS)?;
    setsockopt(tcp, sockopt::TcpUserTimeout, &SILENCE_MS_MAX)
}
