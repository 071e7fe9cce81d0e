use std::collections::BTreeMap;

use super::{node_affinity, taint_toleration};
use crate::cluster::{Cluster, NodeIndex, NodeInfo, PodInfo, SpreadConstraint, TopologyId};
use crate::framework::{Filter, MAX_SCORE, Score, Verdict};

const MISMATCH: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// Hard constraints: no domain may get ahead of the emptiest by more than `maxSkew`.
pub struct Spread {
    constraints: Vec<Hard>,
}

struct Hard {
    topology: TopologyId,
    /// Pods that the constraint selects, by domain.
    counts: Vec<i64>,
    min: i64,
    max_skew: i64,
    /// Whether the pod itself counts.
    itself: i64,
}

pub fn pre_filter(pod: &PodInfo, cluster: &mut Cluster) -> Option<Spread> {
    let hard: Vec<&SpreadConstraint> = pod.spread.iter().filter(|constraint| constraint.hard).collect();
    if hard.is_empty() {
        return None;
    }
    let topologies: Vec<_> = hard.iter().map(|constraint| cluster.topology(&constraint.topology_key)).collect();
    let compile = |(constraint, topology): (&&SpreadConstraint, &TopologyId)| {
        let eligible = |node: &NodeInfo| {
            topologies.iter().all(|topology| node.domain(*topology).is_some()) && is_eligible(constraint, pod, node)
        };
        let counts = count(pod, cluster, *topology, |labels| constraint.selects(labels), &eligible);
        let known: Vec<i64> = domains(cluster, *topology, &eligible)
            .into_iter()
            .zip(&counts)
            .filter_map(|(present, count)| present.then_some(*count))
            .collect();
        let enough = known.len() as i64 >= constraint.min_domains;
        let min = if enough { known.iter().copied().min().unwrap_or(0) } else { 0 };
        let itself = i64::from(constraint.selects(&pod.labels));
        Hard { topology: *topology, counts, min, max_skew: constraint.max_skew, itself }
    };
    Some(Spread { constraints: hard.iter().zip(&topologies).map(compile).collect() })
}

impl Filter for Spread {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        for constraint in &self.constraints {
            let Some(domain) = node.domain(constraint.topology) else { return Err(NO_LABEL.into()) };
            let count = constraint.counts.get(domain.0 as usize).copied().unwrap_or(0);
            if count + constraint.itself - constraint.min > constraint.max_skew {
                return Err(MISMATCH.into());
            }
        }
        Ok(())
    }
}

/// Soft constraints: the pod's own, or the cluster's default for pods of a service or a workload.
pub struct Soft {
    constraints: Vec<SoftConstraint>,
    /// Nodes without the labels that the pod's own constraints name come last.
    need_labels: bool,
}

struct SoftConstraint {
    topology: TopologyId,
    counts: Vec<i64>,
    weight: f64,
    max_skew: i64,
}

/// `default_selector`: the labels by which services and the pod's controller select it; the cluster's default constraints
/// (3 per host, 5 per zone) apply to it if the pod has no constraint.
pub fn pre_score(
    pod: &PodInfo,
    cluster: &mut Cluster,
    feasible: &[NodeIndex],
    default_selector: Option<&BTreeMap<String, String>>,
) -> Option<Soft> {
    let need_labels = !pod.spread.is_empty();
    let soft: Vec<(String, i64, Option<&SpreadConstraint>)> = if need_labels {
        let own = pod.spread.iter().filter(|constraint| !constraint.hard);
        own.map(|constraint| (constraint.topology_key.clone(), constraint.max_skew, Some(constraint))).collect()
    } else {
        default_selector.filter(|selector| !selector.is_empty())?;
        vec![
            (xebec_types::label::HOSTNAME.to_owned(), 3, None),
            (xebec_types::label::TOPOLOGY_ZONE.to_owned(), 5, None),
        ]
    };
    let mut constraints = Vec::new();
    for (key, max_skew, own) in soft {
        let topology = cluster.topology(&key);
        let cluster = &*cluster;
        let selects = |labels: &BTreeMap<String, String>| match (own, default_selector) {
            (Some(constraint), _) => constraint.selects(labels),
            (None, Some(selector)) => selector.iter().all(|(key, value)| labels.get(key) == Some(value)),
            (None, None) => false,
        };
        let eligible = |node: &NodeInfo| own.is_none_or(|constraint| is_eligible(constraint, pod, node));
        let counts = count(pod, cluster, topology, selects, &eligible);
        let mut present = vec![false; cluster.domains(topology)];
        for domain in feasible.iter().filter_map(|index| cluster.node(*index).domain(topology)) {
            present[domain.0 as usize] = true;
        }
        let size = present.iter().filter(|present| **present).count();
        if size > 0 {
            // More domains mean smaller differences: upstream's topologyNormalizingWeight.
            let weight = ((size + 2) as f64).ln();
            constraints.push(SoftConstraint { topology, counts, weight, max_skew });
        }
    }
    (!constraints.is_empty()).then_some(Soft { constraints, need_labels })
}

/// Of a node that lacks a label.
const IGNORED: i64 = -1;

impl Score for Soft {
    fn score(&self, node: &NodeInfo) -> i64 {
        let mut score = 0.0;
        for constraint in &self.constraints {
            match node.domain(constraint.topology) {
                Some(domain) => {
                    let count = constraint.counts.get(domain.0 as usize).copied().unwrap_or(0);
                    score += count as f64 * constraint.weight + (constraint.max_skew - 1) as f64;
                }
                None if self.need_labels => return IGNORED,
                None => {}
            }
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let valid = || scores.iter().copied().filter(|score| *score != IGNORED);
        let (min, max) = (valid().min().unwrap_or(0), valid().max().unwrap_or(0));
        for score in scores {
            *score = match *score {
                IGNORED => 0,
                _ if max == 0 => MAX_SCORE,
                score => MAX_SCORE * (max + min - score) / max,
            };
        }
    }
}

/// Whether pods on the node, and the node's domain, count.
fn is_eligible(constraint: &SpreadConstraint, pod: &PodInfo, node: &NodeInfo) -> bool {
    (!constraint.honor_affinity || node_affinity::matches(pod, node))
        && (!constraint.honor_taints || taint_toleration::prepare(pod).filter(node).is_ok())
}

/// Pods in the pod's namespace that `selects` chooses, by domain; those that are being deleted do not count.
fn count(
    pod: &PodInfo,
    cluster: &Cluster,
    topology: TopologyId,
    selects: impl Fn(&BTreeMap<String, String>) -> bool,
    eligible: &dyn Fn(&NodeInfo) -> bool,
) -> Vec<i64> {
    let mut counts = vec![0; cluster.domains(topology)];
    let classes = cluster.classes.in_namespace(&pod.namespace);
    for class in classes.filter(|class| !class.sample.terminating && selects(class.labels())) {
        for (node, count) in &class.nodes {
            let node = cluster.node(*node);
            if let Some(domain) = node.domain(topology).filter(|_| node.exists() && eligible(node)) {
                counts[domain.0 as usize] += i64::from(*count);
            }
        }
    }
    counts
}

/// The domains that have an eligible node.
fn domains(cluster: &Cluster, topology: TopologyId, eligible: &dyn Fn(&NodeInfo) -> bool) -> Vec<bool> {
    let mut present = vec![false; cluster.domains(topology)];
    for index in cluster.nodes() {
        let node = cluster.node(*index);
        if let Some(domain) = node.domain(topology) {
            let known = &mut present[domain.0 as usize];
            *known = *known || eligible(node);
        }
    }
    present
}
