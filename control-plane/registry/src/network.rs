//! Services, the endpoints behind them, and what else says who reaches whom.

pub mod endpoint_slice;
pub mod endpoints;
pub mod ingress;
pub mod ingress_class;
pub mod ip_address;
pub mod network_policy;
pub mod service;

#[cfg(test)]
mod tests;
