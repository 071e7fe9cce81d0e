//! containerd, seen from a kubelet.
//!
//! CRI v1 for sandboxes, containers and images; containerd's own services for what CRI 1.6 lacks: events, image import and exec with half-close.
//! Every client shares one lazy channel that dials the unix socket again after containerd was killed.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod channel;
mod error;
pub mod event;
pub mod exec;
mod image;
pub mod import;
pub mod reference;
mod runtime;
#[cfg(feature = "testing")]
pub mod testing;

pub use channel::connect;
pub use error::{Error, Result, chain};
pub use image::ImageClient;
pub use runtime::RuntimeClient;
pub use tonic::transport::Channel;

/// CRI v1 messages.
pub use xebec_proto::cri as v1;

/// The containerd namespace in which its CRI plugin looks for images, containers and tasks.
pub const NAMESPACE: &str = "k8s.io";

/// A request as containerd wants it: it reads its namespace (and lease) from metadata.
fn request<T>(message: T, lease: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("containerd-namespace", tonic::metadata::MetadataValue::from_static(NAMESPACE));
    if let Some(Ok(lease)) = lease.map(str::parse) {
        metadata.insert("containerd-lease", lease);
    }
    request
}
