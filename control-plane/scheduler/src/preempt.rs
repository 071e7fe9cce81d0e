//! Preemption: which pods make way for one of a higher priority that fits nowhere (`DefaultPreemption`).
//!
//! A dry run on the cluster itself: pods are taken off a node, the filters asked, and all put back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xebec_types::LabelSelector;
use xebec_types::object;
use xebec_types::policy::PodDisruptionBudget;
use xebec_types::time::Timestamp;

use crate::cluster::{Cluster, NodeIndex, PodInfo};
use crate::decide::{fits, may_fit};

/// Nodes on which preemption is tried: upstream's `minCandidateNodesAbsolute` and `minCandidateNodesPercentage`.
const CANDIDATES_MIN: usize = 100;
const CANDIDATES_PERCENT: usize = 10;

/// Where the pod could go, and which pods have to go for it.
pub struct Preemption {
    pub node: Arc<str>,
    pub victims: Vec<Arc<PodInfo>>,
}

/// A disruption budget, as far as victims are concerned.
pub struct Budget {
    namespace: String,
    selector: Option<LabelSelector>,
    allowed: i32,
    disrupted: BTreeSet<String>,
}

impl Budget {
    pub fn new(budget: &PodDisruptionBudget) -> Self {
        let status = budget.status.as_ref();
        Self {
            namespace: object::namespace(&budget.metadata).to_owned(),
            selector: budget.spec.as_ref().and_then(|spec| spec.selector.clone()),
            allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
            disrupted: status
                .iter()
                .flat_map(|s| s.disrupted_pods.iter().flatten())
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }

    fn covers(&self, pod: &PodInfo) -> bool {
        self.namespace == pod.namespace
            && !self.disrupted.contains(&pod.name)
            && self.selector.as_ref().is_some_and(|selector| object::selects(selector, Some(&pod.labels)))
    }
}

/// `None` if nothing helps.
pub fn preempt(pod: &PodInfo, cluster: &mut Cluster, budgets: &[Budget]) -> Option<Preemption> {
    if pod.never_preempts {
        return None;
    }
    let mut lower = cluster.below(pod.priority);
    if is_awaited(pod, cluster, &lower) {
        return None;
    }
    let nodes: Vec<NodeIndex> = cluster.nodes().to_vec();
    let limit = CANDIDATES_MIN.max(nodes.len() * CANDIDATES_PERCENT / 100);
    let mut candidates = Vec::new();
    for node in nodes {
        let Some(pods) = lower.remove(&node).filter(|_| may_fit(pod, cluster, cluster.node(node))) else { continue };
        candidates.extend(dry_run(pod, cluster, node, pods, budgets));
        if candidates.len() >= limit {
            break;
        }
    }
    let best = candidates.into_iter().min_by_key(Candidate::cost)?;
    Some(Preemption { node: cluster.node(best.node).name().clone(), victims: best.victims })
}

/// Whether pods are going already where the pod was promised room.
fn is_awaited(
    pod: &PodInfo,
    cluster: &Cluster,
    lower: &std::collections::HashMap<NodeIndex, Vec<Arc<PodInfo>>>,
) -> bool {
    let pod = pod.pod();
    let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    let node = nominated.filter(|name| !name.is_empty()).and_then(|name| cluster.find_node(name));
    node.and_then(|node| lower.get(&node)).is_some_and(|pods| pods.iter().any(|pod| pod.terminating))
}

struct Candidate {
    node: NodeIndex,
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

impl Candidate {
    /// The least is preferred (`pickOneNodeForPreemption`): budgets kept, then victims of low priority, few of them, that
    /// started late.
    fn cost(&self) -> (usize, i32, i64, usize, Reverse<Option<Timestamp>>) {
        let highest = self.victims.iter().map(|v| v.priority).max().unwrap_or(i32::MIN);
        // Priorities are counted from the lowest, so that more victims never weigh less.
        let sum = self.victims.iter().map(|v| i64::from(v.priority) - i64::from(i32::MIN)).sum();
        let most_important = self.victims.iter().filter(|v| v.priority == highest);
        (self.violations, highest, sum, self.victims.len(), Reverse(most_important.filter_map(|v| started(v)).min()))
    }
}

fn started(pod: &PodInfo) -> Option<Timestamp> {
    pod.pod().status.as_ref()?.start_time.as_ref().map(|time| time.0)
}

/// Takes all of `lower` off the node and puts back as many as the pod leaves room for, the important ones first.
fn dry_run(
    pod: &PodInfo,
    cluster: &mut Cluster,
    node: NodeIndex,
    mut lower: Vec<Arc<PodInfo>>,
    budgets: &[Budget],
) -> Option<Candidate> {
    let name = cluster.node(node).name().clone();
    let assumed: BTreeMap<Arc<str>, bool> =
        lower.iter().map(|pod| (pod.uid.clone(), cluster.is_assumed(&pod.uid))).collect();
    let put_back = |cluster: &mut Cluster, pod: &Arc<PodInfo>| {
        cluster.put_pod(pod.clone(), &name, assumed.get(&pod.uid).copied().unwrap_or(false));
    };
    lower.iter().for_each(|pod| {
        cluster.remove_pod(&pod.uid);
    });
    if !fits(pod, cluster, node) {
        lower.iter().for_each(|pod| put_back(cluster, pod));
        return None;
    }
    // Equal pods stay in a fixed order, so that the same question has the same answer.
    lower.sort_by(|a, b| (Reverse(a.priority), started(a), &a.uid).cmp(&(Reverse(b.priority), started(b), &b.uid)));
    let violating = violating(&lower, budgets);
    let mut candidate = Candidate { node, victims: Vec::new(), violations: 0 };
    for first in [true, false] {
        for lower in lower.iter().filter(|pod| violating.contains(&pod.uid) == first) {
            put_back(cluster, lower);
            if !fits(pod, cluster, node) {
                cluster.remove_pod(&lower.uid);
                candidate.victims.push(lower.clone());
                candidate.violations += usize::from(first);
            }
        }
    }
    candidate.victims.iter().for_each(|pod| put_back(cluster, pod));
    (!candidate.victims.is_empty()).then_some(candidate)
}

/// The pods whose end a budget would not allow, counted in their order.
fn violating(pods: &[Arc<PodInfo>], budgets: &[Budget]) -> BTreeSet<Arc<str>> {
    let mut left: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    let mut violating = BTreeSet::new();
    for pod in pods {
        for (_, left) in budgets.iter().zip(&mut left).filter(|(budget, _)| budget.covers(pod)) {
            *left -= 1;
            if *left < 0 {
                violating.insert(pod.uid.clone());
            }
        }
    }
    violating
}

#[cfg(test)]
mod tests;
