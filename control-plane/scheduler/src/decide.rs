//! One decision: which node a pod goes to, or why it fits none. Pure but for the order in which nodes are tried.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{Cluster, NodeIndex, NodeInfo, PodInfo};
use crate::diagnosis::Diagnosis;
use crate::framework::{Filter, Plugin, Reason, Score};
use crate::plugins::{
    dynamic_resources, image_locality, inter_pod_affinity, node_affinity, node_name, node_ports,
    node_resources_balanced_allocation, node_resources_fit, node_unschedulable, node_volume_limits,
    pod_topology_spread, taint_toleration, volume_binding, volume_restrictions, volume_zone,
};

/// Fewer feasible nodes than this are all scored, as upstream's `minFeasibleNodesToFind`.
const FEASIBLE_MIN: usize = 100;
/// The smallest share of a large cluster that is scored, in percent.
const PERCENTAGE_MIN: usize = 5;

/// What decisions share beside the cluster: it spreads the search and breaks ties.
pub struct Search {
    /// Where in the order of nodes the next search starts.
    start: usize,
    random: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    pub node: NodeIndex,
    /// Nodes that were tried.
    pub evaluated: usize,
    /// Of those the ones that the pod fits.
    pub feasible: usize,
}

impl Search {
    pub fn new(seed: u64) -> Self {
        Self { start: 0, random: seed | 1 }
    }

    /// `default_selector`: see [`pod_topology_spread::pre_score`].
    pub fn decide(
        &mut self,
        pod: &PodInfo,
        cluster: &mut Cluster,
        default_selector: Option<&BTreeMap<String, String>>,
    ) -> Result<Decision, Diagnosis> {
        let (feasible, evaluated) = self.feasible(pod, cluster)?;
        let node = match feasible[..] {
            [only] => only,
            _ => self.best(pod, cluster, &feasible, default_selector),
        };
        Ok(Decision { node, evaluated, feasible: feasible.len() })
    }

    fn feasible(&mut self, pod: &PodInfo, cluster: &mut Cluster) -> Result<(Vec<NodeIndex>, usize), Diagnosis> {
        let mut diagnosis = Diagnosis::new(cluster.nodes().len());
        let filters = match filters(pod, cluster) {
            Ok(filters) => filters,
            Err((plugin, reason)) => {
                diagnosis.refuse(plugin, reason);
                return Err(diagnosis);
            }
        };
        let cluster = &*cluster;
        let all = cluster.nodes();
        let named = node_affinity::named_nodes(pod);
        let candidates: Vec<NodeIndex> = match &named {
            Some(names) => find(cluster, names, &mut diagnosis),
            None => {
                let (late, early) = all.split_at(self.start.min(all.len()));
                early.iter().chain(late).copied().collect()
            }
        };
        let enough = enough(all.len());
        let mut feasible = Vec::new();
        let mut evaluated = 0;
        for index in candidates {
            let node = cluster.node(index);
            evaluated += 1;
            let rejected =
                filters.iter().find_map(|(plugin, filter)| filter.filter(node).err().map(|why| (*plugin, why)));
            match rejected {
                Some((plugin, rejection)) => diagnosis.add(plugin, rejection),
                None => feasible.push(index),
            }
            if feasible.len() == enough {
                break;
            }
        }
        if named.is_none() && !all.is_empty() {
            self.start = (self.start + evaluated) % all.len();
        }
        if feasible.is_empty() { Err(diagnosis) } else { Ok((feasible, evaluated)) }
    }

    fn best(
        &mut self,
        pod: &PodInfo,
        cluster: &mut Cluster,
        feasible: &[NodeIndex],
        default_selector: Option<&BTreeMap<String, String>>,
    ) -> NodeIndex {
        let scorers = scorers(pod, cluster, feasible, default_selector);
        let mut totals = vec![0i64; feasible.len()];
        let mut scores = vec![0i64; feasible.len()];
        for (plugin, scorer) in scorers {
            for (score, index) in scores.iter_mut().zip(feasible) {
                *score = scorer.score(cluster.node(*index));
            }
            scorer.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += score * plugin.weight();
            }
        }
        let max = totals.iter().copied().max().unwrap_or(0);
        let best: Vec<NodeIndex> = feasible.iter().zip(&totals).filter(|(_, t)| **t == max).map(|(n, _)| *n).collect();
        best[self.below(best.len())]
    }

    /// xorshift64: which of equal nodes is taken need not be secret, only fair.
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % limit.max(1) as u64) as usize
    }
}

type Named<T> = (Plugin, T);

/// Whether the pod fits the node as the cluster is.
pub(crate) fn fits(pod: &PodInfo, cluster: &mut Cluster, node: NodeIndex) -> bool {
    let Ok(filters) = filters(pod, cluster) else { return false };
    let node = cluster.node(node);
    filters.iter().all(|(_, filter)| filter.filter(node).is_ok())
}

/// Whether the node would take the pod if it were empty: what no other pod's end can change.
pub(crate) fn may_fit(pod: &PodInfo, cluster: &Cluster, node: &NodeInfo) -> bool {
    let bindable = volume_binding::pre_filter(pod, cluster);
    let has_volumes = bindable.is_ok_and(|state| state.is_none_or(|state| state.filter(node).is_ok()))
        && volume_zone::pre_filter(pod, cluster).is_none_or(|state| state.filter(node).is_ok());
    let named = node_name::pre_filter(pod).is_none_or(|state| state.filter(node).is_ok());
    named
        && has_volumes
        && node_unschedulable::pre_filter(pod).filter(node).is_ok()
        && taint_toleration::prepare(pod).filter(node).is_ok()
        && node_affinity::pre_filter(pod).is_none_or(|state| state.filter(node).is_ok())
}

type Filters<'a> = Vec<Named<Box<dyn Filter + 'a>>>;

/// In upstream's order: cheap ones that rule out much come first. An error rules out every node.
fn filters<'a>(pod: &'a PodInfo, cluster: &mut Cluster) -> Result<Filters<'a>, Named<Reason>> {
    let mut filters: Filters<'a> = vec![(Plugin::NodeUnschedulable, Box::new(node_unschedulable::pre_filter(pod)))];
    if let Some(state) = node_name::pre_filter(pod) {
        filters.push((Plugin::NodeName, Box::new(state)));
    }
    filters.push((Plugin::TaintToleration, Box::new(taint_toleration::prepare(pod))));
    if let Some(state) = node_affinity::pre_filter(pod) {
        filters.push((Plugin::NodeAffinity, Box::new(state)));
    }
    if let Some(state) = node_ports::pre_filter(pod) {
        filters.push((Plugin::NodePorts, Box::new(state)));
    }
    filters.push((Plugin::NodeResourcesFit, Box::new(node_resources_fit::pre_filter(pod))));
    if let Some(state) = volume_restrictions::pre_filter(pod, cluster) {
        filters.push((Plugin::VolumeRestrictions, Box::new(state)));
    }
    if let Some(state) = node_volume_limits::pre_filter(pod, cluster) {
        filters.push((Plugin::NodeVolumeLimits, Box::new(state)));
    }
    // Before what asks for much: it says of a pod what no node can change.
    let claimed = dynamic_resources::pre_filter(pod, cluster);
    let claimed = claimed.map_err(|reason| (Plugin::DynamicResources, reason))?;
    let bindable = volume_binding::pre_filter(pod, cluster).map_err(|reason| (Plugin::VolumeBinding, reason))?;
    if let Some(state) = bindable {
        filters.push((Plugin::VolumeBinding, Box::new(state)));
    }
    if let Some(state) = volume_zone::pre_filter(pod, cluster) {
        filters.push((Plugin::VolumeZone, Box::new(state)));
    }
    if let Some(state) = pod_topology_spread::pre_filter(pod, cluster) {
        filters.push((Plugin::PodTopologySpread, Box::new(state)));
    }
    if let Some(state) = inter_pod_affinity::pre_filter(pod, cluster) {
        filters.push((Plugin::InterPodAffinity, Box::new(state)));
    }
    if let Some(state) = claimed {
        filters.push((Plugin::DynamicResources, Box::new(state)));
    }
    Ok(filters)
}

fn scorers<'a>(
    pod: &'a PodInfo,
    cluster: &mut Cluster,
    feasible: &[NodeIndex],
    default_selector: Option<&BTreeMap<String, String>>,
) -> Vec<Named<Box<dyn Score + 'a>>> {
    let mut scorers: Vec<Named<Box<dyn Score + 'a>>> = vec![
        (Plugin::TaintToleration, Box::new(taint_toleration::prepare(pod))),
        (Plugin::NodeResourcesFit, Box::new(node_resources_fit::pre_score(pod))),
    ];
    if let Some(state) = node_affinity::pre_score(pod) {
        scorers.push((Plugin::NodeAffinity, Box::new(state)));
    }
    if let Some(state) = node_resources_balanced_allocation::pre_score(pod) {
        scorers.push((Plugin::NodeResourcesBalancedAllocation, Box::new(state)));
    }
    if let Some(state) = image_locality::pre_score(pod, cluster) {
        scorers.push((Plugin::ImageLocality, Box::new(state)));
    }
    if let Some(state) = pod_topology_spread::pre_score(pod, cluster, feasible, default_selector) {
        scorers.push((Plugin::PodTopologySpread, Box::new(state)));
    }
    if let Some(state) = inter_pod_affinity::pre_score(pod, cluster) {
        scorers.push((Plugin::InterPodAffinity, Box::new(state)));
    }
    scorers
}

/// How many feasible nodes end the search: upstream's `numFeasibleNodesToFind` with the adaptive percentage.
fn enough(nodes: usize) -> usize {
    if nodes < FEASIBLE_MIN {
        return nodes;
    }
    let percentage = 50usize.saturating_sub(nodes / 125).max(PERCENTAGE_MIN);
    (nodes * percentage / 100).max(FEASIBLE_MIN)
}

fn find(cluster: &Cluster, names: &BTreeSet<&str>, diagnosis: &mut Diagnosis) -> Vec<NodeIndex> {
    let found: Vec<_> = names.iter().filter_map(|name| cluster.find_node(name)).collect();
    diagnosis.exclude(Plugin::NodeAffinity, cluster.nodes().len() - found.len());
    found
}
