//! How clients outside reach a backend on another node.

use xebec_types::ObjectMeta;
use xebec_types::annotation::FORWARDING_MODE;
use xebec_types::object::annotation;

use crate::{Node, Scope, ServicePort, TrafficPolicy};

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

    /// Is this what a Service with these ports asks for by its annotation, on a node that cannot do it?
    pub(crate) fn is_denied(service: &ObjectMeta, ports: &[ServicePort], node: &Node) -> bool {
        let goes_on = |port: &ServicePort| {
            let outside = port.frontends.iter().any(|frontend| frontend.key.scope == Scope::External);
            outside && port.id.policy == TrafficPolicy::Cluster
        };
        node.forwarding.is_none() && Self::of(service, Self::Snat) == Self::Dsr && ports.iter().any(goes_on)
    }
}
