//! The kubelet: pods of one node, from the API to containerd and back.
//!
//! Parts carry upstream's names: pod workers, PLEG, status manager, probe manager, image manager. Decisions are pure (`actions`, `status`, `qos`,
//! `sandbox`, `container`); workers apply them.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod actions;
mod authority;
mod backoff;
mod cgroup;
pub mod config;
mod container;
mod ended;
mod env;
pub mod eviction;
mod field;
mod gc;
mod image_gc;
mod images;
mod keyring;
mod kubelet;
mod lifecycle;
mod logs;
pub mod machine;
mod node;
mod objects;
mod observed;
mod oom;
mod pleg;
pub mod pod;
mod probe;
mod qos;
mod recorder;
pub mod reset;
mod reviews;
pub mod runtime;
mod sandbox;
mod server;
mod status;
mod status_manager;
#[cfg(test)]
mod testing;
mod tls;
mod volume;
mod worker;

pub use config::{Config, MetricsText, NodeVerdict, Tls, Withdraw, Withdrawal};
pub use kubelet::{RunError, run, run_with};
pub use pod::PodRef;
pub use server::decoders;
