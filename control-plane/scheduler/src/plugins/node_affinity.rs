use std::collections::BTreeSet;

use xebec_types::core::{NodeSelectorTerm, PreferredSchedulingTerm};
use xebec_types::node;

use crate::cluster::{NodeInfo, PodInfo};
use crate::framework::{Filter, Score, Verdict, scale};

/// `nodeSelector` and required node affinity.
pub struct NodeAffinity<'a> {
    pod: &'a PodInfo,
}

pub fn pre_filter(pod: &PodInfo) -> Option<NodeAffinity<'_>> {
    let asks = !pod.node_selector.is_empty() || required(pod).is_some();
    asks.then_some(NodeAffinity { pod })
}

/// The only nodes that the pod can go to, if its affinity names them (as a DaemonSet's pods do).
pub fn named_nodes(pod: &PodInfo) -> Option<BTreeSet<&str>> {
    let mut names = BTreeSet::new();
    for term in required(pod)? {
        let fields = term.match_fields.as_deref().unwrap_or_default();
        let by_name = fields.iter().find(|field| field.key == "metadata.name" && field.operator == "In")?;
        names.extend(by_name.values.iter().flatten().map(String::as_str));
    }
    Some(names)
}

/// Whether the pod's required node affinity lets it go to the node.
pub fn matches(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.node_selector.iter().all(|(key, value)| node.label(key) == Some(value))
        && required(pod).is_none_or(|terms| terms.iter().any(|term| term_matches(term, node)))
}

impl Filter for NodeAffinity<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if matches(self.pod, node) { Ok(()) } else { Err("node(s) didn't match Pod's node affinity/selector".into()) }
    }
}

/// Preferred node affinity.
pub struct Preferred<'a> {
    terms: &'a [PreferredSchedulingTerm],
}

pub fn pre_score(pod: &PodInfo) -> Option<Preferred<'_>> {
    let affinity = pod.node_affinity.as_ref()?;
    let terms = affinity.preferred_during_scheduling_ignored_during_execution.as_deref()?;
    (!terms.is_empty()).then_some(Preferred { terms })
}

impl Score for Preferred<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let matching = self.terms.iter().filter(|term| term_matches(&term.preference, node));
        matching.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, false);
    }
}

fn required(pod: &PodInfo) -> Option<&[NodeSelectorTerm]> {
    let affinity = pod.node_affinity.as_ref()?;
    let selector = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    Some(&selector.node_selector_terms)
}

fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    node::term_selects(term, node.name(), |key| node.label(key))
}
