//! How clients outside reach a backend on another node.

use xebec_types::ObjectMeta;
use xebec_types::annotation::FORWARDING_MODE;
use xebec_types::object::annotation;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Forwarding {
    /// From the address of the node that they dialled, which gets the answers.
    #[default]
    Snat,
    /// From their own address; the backend's node answers them itself (direct server return).
    Dsr,
}

impl Forwarding {
    /// Of a Service; `default` is that of one that says nothing. The API server warns about values that are none.
    pub fn of(service: &ObjectMeta, default: Self) -> Self {
        match annotation(service, FORWARDING_MODE) {
            None => default,
            Some("dsr") => Self::Dsr,
            Some(_) => Self::Snat,
        }
    }
}
