//! What a DaemonSet needs next.

use crate::daemonset::template::Fit;
use crate::daemonset::view::{OnNode, View};
use std::sync::Arc;
use xebec_types::core::Pod;
use xebec_types::pod;

#[derive(Default, Debug)]
pub struct Plan {
    /// Nodes that need a pod.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// Pods that ended where one should run, with their nodes: deleted once the node's back-off allows.
    pub ended: Vec<(String, Arc<Pod>)>,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.create.is_empty() && self.delete.is_empty() && self.ended.is_empty()
    }
}

/// Every node its pod first; only then the rollout moves.
#[must_use]
pub fn step(view: &View<'_>) -> Plan {
    let mut plan = Plan::default();
    for node in &view.nodes {
        manage(view, node, &mut plan);
    }
    let stray = view.stray.iter().filter(|pod| !pod::is_terminating(pod));
    plan.delete.extend(stray.cloned());
    if plan.is_empty() && view.is_rolling() {
        if view.max_surge() > 0 { surge(view, &mut plan) } else { replace(view, &mut plan) }
    }
    plan
}

fn manage(view: &View<'_>, node: &OnNode, plan: &mut Plan) {
    match node.fit {
        Fit::Refuses => plan.delete.extend(node.staying().cloned()),
        Fit::Runs if node.pods.is_empty() => plan.create.push(node.name.clone()),
        Fit::Runs | Fit::Keeps => {
            let (ended, running): (Vec<_>, Vec<_>) = node.staying().cloned().partition(|pod| pod::is_terminal(pod));
            plan.ended.extend(ended.iter().map(|pod| (node.name.clone(), Arc::clone(pod))));
            if view.max_surge() == 0 {
                plan.delete.extend(running.into_iter().skip(1));
                return;
            }
            // A surge does not wait for the old pod to be gone.
            if running.is_empty() && ended.is_empty() && node.fit == Fit::Runs {
                plan.create.push(node.name.clone());
            }
            plan.delete.extend(surplus(view, running));
        }
    }
}

/// While surging, a node has one pod; or two as long as the old one works and the new one does not.
fn surplus(view: &View<'_>, running: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
    if running.len() < 2 {
        return Vec::new();
    }
    let new = running.iter().find(|pod| view.is_updated(pod)).cloned();
    let old = running.iter().find(|pod| !view.is_updated(pod)).cloned();
    let is_kept = |pod: &Arc<Pod>| match (&new, &old) {
        (Some(new), Some(old)) if Arc::ptr_eq(pod, old) => pod::is_ready(old) && !view.is_available(new),
        (Some(new), _) => Arc::ptr_eq(pod, new),
        (None, Some(old)) => Arc::ptr_eq(pod, old),
        (None, None) => true,
    };
    running.iter().filter(|pod| !is_kept(pod)).cloned().collect()
}

type Pair<'n> = (Option<&'n Arc<Pod>>, Option<&'n Arc<Pod>>);

/// The new and the old pod of a node; `None` if there are several of one, which `manage` mends.
fn pair<'n>(view: &View<'_>, node: &'n OnNode) -> Option<Pair<'n>> {
    let (new, old): (Vec<_>, Vec<_>) = node.staying().partition(|pod| view.is_updated(pod));
    (new.len() < 2 && old.len() < 2).then(|| (new.first().copied(), old.first().copied()))
}

/// Deletes old pods as long as no more than `maxUnavailable` nodes are without a working one. An old
/// pod that does not work costs nothing.
fn replace(view: &View<'_>, plan: &mut Plan) {
    let mut unavailable = 0;
    let mut candidates = Vec::new();
    for node in view.nodes.iter().filter(|node| node.fit != Fit::Refuses && !node.pods.is_empty()) {
        match pair(view, node) {
            Some((Some(new), None)) => unavailable += usize::from(!view.is_available(new)),
            Some((None, Some(old))) if view.is_available(old) => candidates.push(Arc::clone(old)),
            Some((None, Some(old))) => {
                unavailable += 1;
                plan.delete.push(Arc::clone(old));
            }
            _ => unavailable += 1,
        }
    }
    let budget = view.max_unavailable().saturating_sub(unavailable);
    plan.delete.extend(candidates.into_iter().take(budget));
}

/// Puts new pods beside old ones, `maxSurge` at a time, and deletes an old pod once its new one works.
fn surge(view: &View<'_>, plan: &mut Plan) {
    let mut surging = 0;
    let mut candidates = Vec::new();
    for node in view.nodes.iter().filter(|node| node.fit == Fit::Runs) {
        match pair(view, node) {
            None => surging += 1,
            Some((None, Some(old))) if view.is_available(old) => candidates.push(node.name.clone()),
            Some((None, Some(_))) => plan.create.push(node.name.clone()),
            Some((Some(new), Some(old))) if view.is_available(new) => plan.delete.push(Arc::clone(old)),
            Some((Some(_), Some(_))) => surging += 1,
            Some((_, None)) => {}
        }
    }
    let budget = view.max_surge().saturating_sub(surging);
    plan.create.extend(candidates.into_iter().take(budget));
}

#[cfg(test)]
mod tests;
