//! Services and EndpointSlices as load-balancing tables.
//!
//! Pure: [`compile`] turns one Service and its slices into [`ServicePort`]s, [`diff`] turns what is programmed into what
//! should be, [`Table`] does the same incrementally. Only [`run`] touches anything, through a [`Sink`].
//!
//! Words: a *frontend* is what clients dial, a *backend* is what serves them, a *service port* is one port of a Service
//! under one traffic policy, with the frontends that share its backends.

mod address;
mod algorithm;
pub mod announce;
mod candidates;
mod compile;
mod controller;
mod diff;
mod forwarding;
mod health;
mod hostport;
mod metrics;
mod model;
mod table;
mod version;

pub use address::{Addresses, InvalidNodePortAddresses, NodeAddresses, NodePortAddresses};
pub use algorithm::Algorithm;
pub use compile::{compile, compile_all};
pub use controller::{Config, Denied, Refused, Repaired, Sink, SinkError, run};
pub use diff::diff;
pub use forwarding::Forwarding;
pub use health::{HealthCheck, health_check};
pub use hostport::compile_host_ports;
pub use metrics::Metrics;
pub use model::{
    Backend, Change, Frontend, FrontendKey, FrontendKind, Node, PortId, Programmed, Protocol, Scope, ServiceKey,
    ServicePort, TrafficPolicy,
};
pub use table::Table;
pub use version::SliceVersion;

#[cfg(test)]
mod tests;
