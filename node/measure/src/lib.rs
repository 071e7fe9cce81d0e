//! What the datapath costs on this host, beside its peers in the same run, in namespaces that a run makes and removes.
//!
//! Every group of figures is a function that adds to a [`Report`]. `xebec bench` and `cargo xtask bench` call the same
//! ones. They block, and start runtimes of their own: not to be called from asynchronous code.

mod api_server;
mod awake;
pub mod comparison;
mod cost;
mod figure;
mod host;
mod live;
mod netns;
mod outside;
mod over_direct;
mod packet_filter;
mod pair;
mod peer;
mod pods;
mod programming;
mod run;
pub mod stats;
mod svg;
mod target;
mod traffic;

use std::path::Path;

use anyhow::Result;

pub use api_server::{ApiServer, free_port};
pub use awake::Awake;
pub use figure::{Figure, Report};
pub use host::Host;
pub use run::{Directory, prepare};

pub use cost::run as per_packet;

/// A part of the datapath's figures.
pub type Group = fn(&mut Report, smoke: bool) -> Result<()>;

/// The parts that need nothing but this host, by name.
pub const GROUPS: [(&str, Group); 5] = [
    ("programming", programming::run),
    ("connect", over_direct::run),
    ("packets", per_packet),
    ("pods", pods::run),
    ("outside", outside::run),
];

/// From a write to the API to a service that is live, with the `xebec` binary as API server.
///
/// # Errors
/// When the server does not come up, or a change does not become live.
pub fn api_to_live(report: &mut Report, xebec: &Path, smoke: bool) -> Result<()> {
    live::run(report, xebec, smoke)
}
