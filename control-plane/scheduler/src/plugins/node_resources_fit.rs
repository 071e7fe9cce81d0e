use std::borrow::Cow;

use crate::cluster::{NodeInfo, PodInfo, Resources};
use crate::framework::{Filter, MAX_SCORE, Reason, Rejection, Score, Verdict};

/// What the pod requests must be free.
pub struct NodeResourcesFit<'a> {
    requests: &'a Resources,
}

pub fn pre_filter(pod: &PodInfo) -> NodeResourcesFit<'_> {
    NodeResourcesFit { requests: &pod.requests }
}

impl Filter for NodeResourcesFit<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let (wanted, used, total) = (self.requests, &node.requested, &node.allocatable);
        // A request of nothing fits also on a node that is overcommitted.
        let lacks = |wanted: i64, used: i64, total: i64| wanted > 0 && wanted > total - used;
        let pods = node.pods + 1 > node.pods_max;
        let cpu = lacks(wanted.milli_cpu, used.milli_cpu, total.milli_cpu);
        let memory = lacks(wanted.memory, used.memory, total.memory);
        let storage = lacks(wanted.ephemeral_storage, used.ephemeral_storage, total.ephemeral_storage);
        let scalar = |name: &str, wanted| lacks(wanted, used.scalar(name), total.scalar(name));
        let scalars = wanted.scalars.iter().any(|(name, wanted)| scalar(name, *wanted));
        if !(pods || cpu || memory || storage || scalars) {
            return Ok(());
        }
        let fixed: [(bool, &'static str); 4] = [
            (pods, "Too many pods"),
            (cpu, "Insufficient cpu"),
            (memory, "Insufficient memory"),
            (storage, "Insufficient ephemeral-storage"),
        ];
        let mut reasons: Vec<Reason> =
            fixed.into_iter().filter(|(lacking, _)| *lacking).map(|(_, text)| text.into()).collect();
        let lacking = wanted.scalars.iter().filter(|(name, wanted)| scalar(name, *wanted));
        reasons.extend(lacking.map(|(name, _)| Reason(Cow::Owned(format!("Insufficient {name}")))));
        Err(Rejection { reasons })
    }
}

/// The share that stays free (`LeastAllocated`), of CPU and memory alike.
pub struct LeastAllocated<'a> {
    pod: &'a Resources,
}

pub fn pre_score(pod: &PodInfo) -> LeastAllocated<'_> {
    LeastAllocated { pod: &pod.nonzero }
}

impl Score for LeastAllocated<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let free = |used: i64, total: i64| match total {
            0 => None,
            _ if used > total => Some(0),
            _ => Some((total - used) * MAX_SCORE / total),
        };
        let cpu = free(node.nonzero.milli_cpu + self.pod.milli_cpu, node.allocatable.milli_cpu);
        let memory = free(node.nonzero.memory + self.pod.memory, node.allocatable.memory);
        let (mut sum, mut count) = (0, 0);
        for score in [cpu, memory].into_iter().flatten() {
            sum += score;
            count += 1;
        }
        if count == 0 { 0 } else { sum / count }
    }
}
