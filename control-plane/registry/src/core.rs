//! The small kinds of the core group, and leases.

pub mod config_map;
pub mod event;
pub mod lease;
pub mod namespace;
pub mod node;
pub mod persistent_volume_claim;
pub mod pod_template;
pub mod replication_controller;
pub mod secret;
pub mod service_account;

mod volume_modes;

#[cfg(test)]
mod tests;
