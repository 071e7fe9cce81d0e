use crate::cluster::{NodeInfo, PodInfo};
use crate::framework::{Filter, Verdict};

/// A pod that names its node goes nowhere else.
pub struct NodeName<'a> {
    name: &'a str,
}

pub fn pre_filter(pod: &PodInfo) -> Option<NodeName<'_>> {
    let name = pod.pod.spec.as_ref()?.node_name.as_deref()?;
    (!name.is_empty()).then_some(NodeName { name })
}

impl Filter for NodeName<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if **node.name() == *self.name { Ok(()) } else { Err("node(s) didn't match the requested node name".into()) }
    }
}
