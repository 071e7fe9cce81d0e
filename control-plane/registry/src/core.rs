//! The small kinds of the core group, and leases.

pub mod config_map;
pub mod event;
pub mod lease;
pub mod namespace;
pub mod node;
pub mod secret;
pub mod service_account;

#[cfg(test)]
mod tests;
