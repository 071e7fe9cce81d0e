//! What to create and delete.

use super::rank;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;
use xebec_types::apps::ReplicaSet;
use xebec_types::core::Pod;
use xebec_types::time::Timestamp;
use xebec_types::{object, pod};

#[derive(Debug, Default)]
pub struct Step {
    pub create: usize,
    /// In the order in which they go.
    pub delete: Vec<Arc<Pod>>,
    /// When the next ready pod becomes available.
    pub recheck: Option<Duration>,
}

/// `pods` are the set's own; `related` those of every set of the same owner.
#[must_use]
pub fn step(set: &ReplicaSet, pods: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Step {
    let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod::is_active(pod)).cloned().collect();
    let want = replicas(set);
    let recheck = recheck(set, &active, now);
    match active.len().cmp(&want) {
        Ordering::Equal => Step { recheck, ..Step::default() },
        Ordering::Less => Step { create: want - active.len(), recheck, ..Step::default() },
        Ordering::Greater => {
            let surplus = active.len() - want;
            let delete = rank::first_to_delete(active, related, surplus, now);
            Step { delete, recheck, ..Step::default() }
        }
    }
}

pub(super) fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    let selector = set.spec.as_ref().map(|s| &s.selector);
    selector.is_some_and(|s| !object::is_empty_selector(s) && object::selects(s, pod.metadata.labels.as_ref()))
}

pub(super) fn replicas(set: &ReplicaSet) -> usize {
    let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    usize::try_from(replicas).unwrap_or_default()
}

pub(super) fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or_default()
}

fn recheck(set: &ReplicaSet, active: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let wait = |pod: &Arc<Pod>| pod::available_in(pod, min_ready_seconds(set), now);
    active.iter().filter_map(wait).filter(|wait| !wait.is_zero()).min()
}

#[cfg(test)]
mod tests;
