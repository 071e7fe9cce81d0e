//! The channel to containerd's unix socket.

use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// A channel that dials on first use and again after the peer went away. `path` may carry upstream's `unix://` prefix.
pub fn connect(path: impl Into<PathBuf>) -> Channel {
    let path = path.into();
    let path = path.to_str().and_then(|p| p.strip_prefix("unix://")).map(PathBuf::from).unwrap_or(path);
    // A unix socket needs no authority: the URI only satisfies the type.
    Endpoint::from_static("http://containerd.invalid").connect_with_connector_lazy(tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }))
}
