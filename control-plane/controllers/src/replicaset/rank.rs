//! Which pods go first when there are too many: upstream's `ActivePodsWithRanks`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use xebec_types::core::Pod;
use xebec_types::time::{self, Timestamp};
use xebec_types::{annotation, condition, object, pod};

pub(super) fn first_to_delete(
    mut pods: Vec<Arc<Pod>>,
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    if count < pods.len() {
        let crowds = crowds(related);
        pods.sort_by_cached_key(|pod| Rank::of(pod, &crowds, now));
    }
    pods.truncate(count);
    pods
}

/// Smaller goes first; fields in the order in which they decide.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    assigned: bool,
    phase: u8,
    ready: bool,
    deletion_cost: i32,
    crowd: Reverse<usize>,
    ready_for: u32,
    restarts: Reverse<i32>,
    age: u32,
    /// Equal pods go in an order that has nothing to do with their nodes.
    uid: String,
}

impl Rank {
    fn of(pod: &Pod, crowds: &HashMap<String, usize>, now: Timestamp) -> Self {
        let node = pod::node_name(pod);
        Self {
            assigned: !node.is_empty(),
            phase: match pod::phase(pod) {
                "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            },
            ready: pod::is_ready(pod),
            deletion_cost: deletion_cost(pod),
            crowd: Reverse(crowds.get(node).copied().unwrap_or_default()),
            ready_for: log_age(ready_since(pod), now),
            restarts: Reverse(restarts(pod)),
            age: log_age(pod.metadata.creation_timestamp.as_ref().map(|t| t.0), now),
            uid: object::uid(&pod.metadata).into(),
        }
    }
}

/// How long something has lasted, in powers of two of nanoseconds, so that pods of about the same
/// age are equal. What never began is the youngest.
fn log_age(began: Option<Timestamp>, now: Timestamp) -> u32 {
    let age = began.map_or(0, |began| time::since(began, now).as_nanos());
    u128::BITS - age.leading_zeros()
}

/// Active pods on each node, related ones included.
fn crowds(related: &[Arc<Pod>]) -> HashMap<String, usize> {
    let mut crowds = HashMap::new();
    for pod in related.iter().filter(|pod| !pod::node_name(pod).is_empty()) {
        *crowds.entry(pod::node_name(pod).to_string()).or_default() += 1;
    }
    crowds
}

/// A value that is no number counts as zero; admission refuses such values.
fn deletion_cost(pod: &Pod) -> i32 {
    let cost = object::annotation(&pod.metadata, annotation::POD_DELETION_COST);
    cost.and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = pod::find_condition(pod, condition::READY)?;
    (ready.status == condition::TRUE).then(|| ready.last_transition_time.as_ref().map(|t| t.0))?
}

fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    containers.map(|c| c.restart_count).max().unwrap_or_default()
}
