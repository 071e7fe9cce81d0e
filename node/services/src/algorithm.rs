//! How a Service wants its clients outside the cluster to be spread, by annotations.

use xebec_types::ObjectMeta;
use xebec_types::annotation::{LOAD_BALANCING_ALGORITHM, LOAD_BALANCING_WEIGHT};
use xebec_types::object::annotation;

/// How the backend of a new flow from outside is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Algorithm {
    /// Each with equal chances.
    #[default]
    Random,
    /// By a table that every node computes alike, with shares by weight.
    Maglev,
}

impl Algorithm {
    /// Of a Service. The API server warns about values that are none; they mean nothing.
    pub fn of(service: &ObjectMeta) -> Self {
        match annotation(service, LOAD_BALANCING_ALGORITHM) {
            Some("maglev") => Self::Maglev,
            _ => Self::Random,
        }
    }
}

/// The weight of an EndpointSlice's endpoints, 0 if it says none.
pub fn weight(slice: &ObjectMeta) -> u8 {
    annotation(slice, LOAD_BALANCING_WEIGHT).and_then(|weight| weight.parse().ok()).unwrap_or(0)
}
