use crate::cluster::{NodeInfo, PodInfo};
use crate::framework::{Filter, Verdict};

/// A pod that names its node goes nowhere else.
pub struct NodeName {
    name: String,
}

pub fn pre_filter(pod: &PodInfo) -> Option<NodeName> {
    let name = pod.pod().spec.as_ref()?.node_name.clone()?;
    (!name.is_empty()).then_some(NodeName { name })
}

impl Filter for NodeName {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if **node.name() == *self.name { Ok(()) } else { Err("node(s) didn't match the requested node name".into()) }
    }
}
