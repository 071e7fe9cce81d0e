//! Takes connections, as many as there is room for, whatever happens to them.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::connection::{self, End};
use super::seats::Seats;
use crate::app::App;
use crate::authn::ClientCerts;

/// How long a failure to accept is waited out.
const RETRY: Duration = Duration::from_millis(50);
/// A failure that goes on is told once in so many times.
const TELL: u64 = 200;

pub async fn accept(
    app: Arc<App>,
    listener: TcpListener,
    tls: TlsAcceptor,
    clients: Arc<ClientCerts>,
    seats: Arc<Seats>,
    tasks: TaskTracker,
) {
    let mut failures = 0_u64;
    loop {
        let accepted = tokio::select! {
            () = app.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (tcp, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others must close first.
                app.metrics.connections.refused("accept");
                if failures.is_multiple_of(TELL) {
                    tracing::warn!(%error, failures, "accept");
                }
                failures += 1;
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let Some(seat) = seats.take(client.ip()) else {
            app.metrics.connections.refused("limit");
            continue;
        };
        let (app, tls, clients) = (app.clone(), tls.clone(), clients.clone());
        tasks.spawn(async move {
            let _open = app.metrics.connections.open();
            let ended = tokio::select! {
                ended = connection::serve(app.clone(), tcp, tls, clients, &seat) => ended,
                () = seat.displaced() => Err(End::Displaced),
            };
            if let Err(end) = ended {
                app.metrics.connections.ended(end.reason());
                tracing::debug!(%end, "connection ended");
            }
        });
    }
}

/// What the store, kubelets and the rest need.
const FILES_KEPT: usize = 1_024;

/// How many connections there may be: as configured, and so that other files can still be opened. Takes the files that the
/// process may have for the asking (getrlimit(2): the soft limit is for programs that use select(2)).
pub fn seats(limit: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return limit };
    let files = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    limit.min(files - (files / 4).min(FILES_KEPT)).max(1)
}
