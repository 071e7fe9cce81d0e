//! The small kinds of the core group, and leases.

pub mod config_map;
pub mod event;
pub mod lease;
pub mod limit_range;
pub mod namespace;
pub mod node;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub mod pod_template;
pub mod replication_controller;
pub mod resource_quota;
pub mod secret;
pub mod service_account;

mod quota_names;
mod volume_modes;

#[cfg(test)]
mod tests;
