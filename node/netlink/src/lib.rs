//! Links, addresses, routes, neighbours, sysctls and network namespaces, typed.
//!
//! A [`Handle`] is a netlink socket; a socket belongs for life to the namespace it was made in, so one thread may hold
//! handles of many namespaces. Everything else that depends on the namespace (`/proc/sys/net`, new sockets, BPF
//! attachment) follows the *thread*: use [`Netns::run`], [`Netns::run_async`] or [`Netns::spawn`].
//!
//! `ensure_*` methods are idempotent: they compare first and write only what differs.

mod address;
mod changes;
mod clsact;
mod cookie;
mod error;
mod handle;
mod link;
mod loopback;
mod mac;
mod neighbour;
mod netns;
mod offload;
mod route;
mod shape;
mod sock_diag;
mod sysctl;

pub use changes::Changes;
pub use error::{Error, Result};
pub use handle::Handle;
pub use link::{Link, LinkKind, LinkSpec, Peer, Vxlan};
pub use mac::MacAddr;
pub use neighbour::Neighbour;
pub use netns::{NETNS_DIR, Netns};
pub use offload::compute_checksums;
pub use route::{Route, RouteScope};
pub use shape::Shape;

#[cfg(test)]
mod tests;
