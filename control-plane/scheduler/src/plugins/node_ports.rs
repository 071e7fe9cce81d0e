use crate::cluster::{HostPort, NodeInfo, PodInfo};
use crate::framework::{Filter, Verdict};

/// A host port can be taken once per node.
pub struct NodePorts<'a> {
    ports: &'a [HostPort],
}

pub fn pre_filter(pod: &PodInfo) -> Option<NodePorts<'_>> {
    (!pod.ports.is_empty()).then_some(NodePorts { ports: &pod.ports })
}

impl Filter for NodePorts<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if self.ports.iter().any(|port| node.port_is_taken(port)) {
            return Err("node(s) didn't have free ports for the requested pod ports".into());
        }
        Ok(())
    }
}
