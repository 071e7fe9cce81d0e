//! The status of a ReplicaSet.

use super::step;
use std::sync::Arc;
use xebec_types::apps::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use xebec_types::core::Pod;
use xebec_types::time::{self, Timestamp};
use xebec_types::{condition, pod};

/// A set's pods, counted.
#[derive(PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    pub active: i32,
    pub fully_labeled: i32,
    pub ready: i32,
    pub available: i32,
    pub terminating: i32,
}

impl Counts {
    pub(crate) fn of(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Self {
        let template = set.spec.as_ref().and_then(|s| s.template.as_ref());
        let labels = template.and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.as_ref());
        let mut counts = Self::default();
        for pod in pods {
            if pod::is_terminating(pod) && !pod::is_terminal(pod) {
                counts.terminating += 1;
            }
            if !pod::is_active(pod) {
                continue;
            }
            let has = |(k, v): (&String, &String)| pod.metadata.labels.as_ref().and_then(|l| l.get(k)) == Some(v);
            counts.active += 1;
            counts.fully_labeled += i32::from(labels.into_iter().flatten().all(has));
            counts.ready += i32::from(pod::is_ready(pod));
            let available = pod::is_available(pod, step::min_ready_seconds(set), now);
            counts.available += i32::from(available);
        }
        counts
    }
}

/// The status to write; `None` if the set has it already. `failure` is the reason and message of a
/// create or delete that the server refused. A kind whose status has no field for terminating pods
/// must not be told of them: they would look like a change for ever.
pub(super) fn status(
    set: &ReplicaSet,
    counts: &Counts,
    tells_terminating: bool,
    failure: Option<&(&'static str, String)>,
    now: Timestamp,
) -> Option<ReplicaSetStatus> {
    let old = set.status.clone().unwrap_or_default();
    // Zero and absent are the same on the wire.
    let count = |n: i32, old: Option<i32>| Some(n).filter(|n| *n != 0 || old.is_some());
    let mut new = ReplicaSetStatus {
        replicas: counts.active,
        fully_labeled_replicas: count(counts.fully_labeled, old.fully_labeled_replicas),
        ready_replicas: count(counts.ready, old.ready_replicas),
        available_replicas: count(counts.available, old.available_replicas),
        terminating_replicas: Some(counts.terminating),
        observed_generation: set.metadata.generation,
        conditions: conditions(&old, failure, now),
    };
    if !tells_terminating {
        new.terminating_replicas = None;
    }
    (new != old).then_some(new)
}

fn conditions(
    old: &ReplicaSetStatus,
    failure: Option<&(&'static str, String)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let known = conditions.iter().any(|c| c.type_ == condition::REPLICA_FAILURE);
    match failure {
        Some((reason, message)) if !known => conditions.push(ReplicaSetCondition {
            type_: condition::REPLICA_FAILURE.into(),
            status: condition::TRUE.into(),
            reason: Some((*reason).into()),
            message: Some(message.clone()),
            last_transition_time: Some(time::time(now)),
        }),
        None if known => conditions.retain(|c| c.type_ != condition::REPLICA_FAILURE),
        _ => {}
    }
    Some(conditions).filter(|c| !c.is_empty() || old.conditions.is_some())
}
