use crate::cluster::{NodeInfo, PodInfo, Resources};
use crate::framework::{MAX_SCORE, Score};

/// Prefers nodes whose CPU and memory would be used to the same share.
pub struct BalancedAllocation<'a> {
    pod: &'a Resources,
}

/// Pods without requests do not change the balance.
pub fn pre_score(pod: &PodInfo) -> Option<BalancedAllocation<'_>> {
    let requests = &pod.requests;
    (requests.milli_cpu > 0 || requests.memory > 0).then_some(BalancedAllocation { pod: requests })
}

impl Score for BalancedAllocation<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let share = |used: i64, total: i64| if total == 0 { 0.0 } else { (used as f64 / total as f64).min(1.0) };
        let cpu = share(node.requested.milli_cpu + self.pod.milli_cpu, node.allocatable.milli_cpu);
        let memory = share(node.requested.memory + self.pod.memory, node.allocatable.memory);
        // The standard deviation of two numbers is half their distance.
        ((1.0 - (cpu - memory).abs() / 2.0) * MAX_SCORE as f64) as i64
    }
}
