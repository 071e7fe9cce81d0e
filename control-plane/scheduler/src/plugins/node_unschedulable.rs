use xebec_types::taint;

use super::taint_toleration::tolerates;
use crate::cluster::{NodeInfo, PodInfo};
use crate::framework::{Filter, Verdict};

/// A cordoned node takes only pods that tolerate its taint.
pub struct NodeUnschedulable {
    tolerated: bool,
}

pub fn pre_filter(pod: &PodInfo) -> NodeUnschedulable {
    let tolerated = pod.tolerations.iter().any(|t| tolerates(t, taint::UNSCHEDULABLE, "", taint::NO_SCHEDULE));
    NodeUnschedulable { tolerated }
}

impl Filter for NodeUnschedulable {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if node.unschedulable && !self.tolerated {
            return Err("node(s) were unschedulable".into());
        }
        Ok(())
    }
}
