//! Which pods to delete.

use std::collections::HashSet;
use std::sync::Arc;
use xebec_types::core::{Node, Pod};
use xebec_types::{condition, object, pod, taint};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Its node is gone.
    Orphaned,
    /// It is being deleted and was never placed: no kubelet will end it.
    UnscheduledTerminating,
    /// It is being deleted on a node that an operator declared out of service.
    OutOfService,
    /// One of too many that have terminated.
    Terminated,
}

pub struct Observed<'a> {
    /// Terminated pods to keep; 0 keeps all.
    pub threshold: usize,
    pub gone_nodes: &'a HashSet<String>,
}

#[must_use]
pub fn step<'a>(
    observed: &Observed<'_>,
    pods: impl Iterator<Item = &'a Arc<Pod>>,
    node: impl Fn(&str) -> Option<Arc<Node>>,
) -> Vec<(Arc<Pod>, Reason)> {
    let mut victims = Vec::new();
    let mut terminated = Vec::new();
    for pod in pods {
        let name = pod::node_name(pod);
        let terminating = pod::is_terminating(pod);
        if observed.gone_nodes.contains(name) {
            victims.push((Arc::clone(pod), Reason::Orphaned));
        } else if terminating && name.is_empty() {
            victims.push((Arc::clone(pod), Reason::UnscheduledTerminating));
        } else if terminating && node(name).is_some_and(|n| is_out_of_service(&n)) {
            victims.push((Arc::clone(pod), Reason::OutOfService));
        } else if pod::is_terminal(pod) {
            terminated.push(pod);
        }
    }
    if observed.threshold > 0 && terminated.len() > observed.threshold {
        terminated.sort_by_cached_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (created, object::name(&pod.metadata).to_string())
        });
        let surplus = terminated.len() - observed.threshold;
        let oldest = terminated.into_iter().take(surplus);
        victims.extend(oldest.map(|pod| (Arc::clone(pod), Reason::Terminated)));
    }
    victims
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|c| c.type_ == condition::READY);
    taints.into_iter().any(|t| t.key == taint::OUT_OF_SERVICE) && ready.is_none_or(|c| c.status != condition::TRUE)
}

#[cfg(test)]
mod tests;
