//! TLS connections: HTTP/1.1 and HTTP/2, bounded in time and number.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::authn::{ClientCerts, PeerCert};
use crate::config::Config;
use crate::pipeline::{self, Origin};

/// A client that does not finish its handshake or its request head is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(32);
const CONNECTIONS_MAX: usize = 20_000;
/// As Go's http2 server.
const STREAMS_MAX: u32 = 250;
const HEADER_BYTES_MAX: usize = 64 << 10;
const KEEPALIVE_SECONDS: u32 = 30;
const SILENCE_MS_MAX: u32 = 120_000;
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How soon a change of the wall clock is noticed.
const LOOK: Duration = Duration::from_secs(600);

pub fn tls(config: &Config, clients: Arc<ClientCerts>) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
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

pub async fn accept(
    app: Arc<App>,
    listener: TcpListener,
    tls: TlsAcceptor,
    clients: Arc<ClientCerts>,
    tasks: TaskTracker,
) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = app.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                // Out of file descriptors, most likely: others must close first.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(seat) = seats.clone().try_acquire_owned() else { continue };
        let (app, tls, clients) = (app.clone(), tls.clone(), clients.clone());
        tasks.spawn(async move {
            let _seat = seat;
            if let Err(error) = serve(app, tcp, tls, clients).await {
                tracing::debug!(error, "connection ended");
            }
        });
    }
}

async fn serve(app: Arc<App>, tcp: TcpStream, tls: TlsAcceptor, clients: Arc<ClientCerts>) -> Result<(), String> {
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    let_go_of_the_silent(&tcp).map_err(|e| e.to_string())?;
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(tcp)).await;
    let stream = handshake.map_err(|_| "TLS handshake timed out".to_owned())?.map_err(|e| e.to_string())?;
    let peer = stream.get_ref().1.peer_certificates().and_then(|chain| clients.peer(chain));
    let expiry = peer.as_ref().and_then(PeerCert::expiry);
    let origin = Origin::Remote(peer.map(Arc::new));
    let stop = app.stop.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (app, origin) = (app.clone(), origin.clone());
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        async move { Ok::<_, Infallible>(pipeline::handle(app, origin, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES_MAX * 8);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => return outcome.map_err(|e| e.to_string()),
        () = stop.cancelled() => {}
        // From here on its requests are refused. A client that has renewed its certificate shows it when it connects
        // again, which one that keeps its connection busy would never do by itself.
        () = passed(expiry) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(|e| e.to_string())
}

/// Returns when the time has come, if there is one. By the wall clock, which may be set.
async fn passed(at: Option<OffsetDateTime>) {
    let Some(at) = at else { return std::future::pending().await };
    loop {
        let left = Duration::try_from(at - OffsetDateTime::now_utc()).unwrap_or_default();
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
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
