//! Serves the Kubernetes API: one request pipeline over one table-driven registry.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admission;
mod app;
mod authn;
mod authz;
mod body;
mod bootstrap;
pub mod config;
mod crd;
pub mod decoders;
mod discovery;
mod flow_control;
mod health;
mod kinds;
mod metrics;
mod negotiate;
mod openapi;
mod options;
mod pipeline;
pub mod pki;
mod proxy;
pub mod request_info;
mod resource_metrics;
mod rest;
mod server;
mod service_capacity;
mod service_ip;
pub mod user;
mod wire;

pub use body::Body;
pub use config::{AdminKubeconfig, AuthorizationMode, Config, Limits};
pub use options::Continue;
pub use pki::Pki;
pub use server::{LocalService, SecretTokens, Server, StartError};
pub use service_capacity::ServiceLimits;
pub use user::UserInfo;
