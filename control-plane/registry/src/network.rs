//! Services, and the endpoints behind them.

pub mod endpoint_slice;
pub mod endpoints;
pub mod service;

#[cfg(test)]
mod tests;
