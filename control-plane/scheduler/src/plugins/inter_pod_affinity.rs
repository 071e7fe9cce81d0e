use std::collections::{BTreeMap, HashMap};

use crate::cluster::{Class, Cluster, DomainId, NodeInfo, PodInfo, PodTerm, TopologyId};
use crate::framework::{Filter, MAX_SCORE, Score, Verdict};

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// The weight of a required affinity of pods that are there, as upstream's `hardPodAffinityWeight`.
const HARD_WEIGHT: i64 = 1;

/// Required affinity and anti-affinity, in both directions.
pub struct InterPodAffinity {
    /// Where pods that are there will not have the pod.
    existing: Vec<ByDomain>,
    /// Matching pods for each term of the pod's affinity.
    affinity: Vec<ByDomain>,
    anti_affinity: Vec<ByDomain>,
    /// No pod matches the affinity, but the pod itself does: it may be the first of its kind.
    first: bool,
}

/// Pods by domain of one topology.
struct ByDomain {
    topology: TopologyId,
    counts: Vec<i64>,
}

pub fn pre_filter(pod: &PodInfo, cluster: &mut Cluster) -> Option<InterPodAffinity> {
    let topologies = Topologies::new(pod, cluster);
    let cluster = &*cluster;
    let existing = existing_anti_affinity(pod, cluster);
    if existing.is_empty() && pod.affinity.is_empty() && pod.anti_affinity.is_empty() {
        return None;
    }
    let matches = |term: &PodTerm, class: &Class| term.matches(class.namespace(), class.labels(), &cluster.namespaces);
    // A pod counts for affinity only if it matches every term.
    let all = |class: &Class| pod.affinity.iter().all(|term| matches(term, class));
    let count = |term: &PodTerm, matching: &dyn Fn(&Class) -> bool| {
        let mut found = ByDomain::new(topologies.of(&term.topology_key), cluster);
        for class in candidates(term, cluster).filter(|class| matching(class)) {
            found.add(class, 1, cluster);
        }
        found
    };
    let affinity: Vec<ByDomain> = pod.affinity.iter().map(|term| count(term, &all)).collect();
    let anti_affinity = pod.anti_affinity.iter().map(|term| count(term, &|class| matches(term, class))).collect();
    let nobody = affinity.iter().all(|term| term.counts.iter().all(|count| *count == 0));
    let itself = || pod.affinity.iter().all(|term| term.matches(&pod.namespace, &pod.labels, &cluster.namespaces));
    Some(InterPodAffinity { existing, first: nobody && itself(), affinity, anti_affinity })
}

impl Filter for InterPodAffinity {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let on = |term: &ByDomain| node.domain(term.topology).map(|domain| term.count(domain));
        let satisfied = |term: &ByDomain| on(term).is_some_and(|count| count > 0 || self.first);
        if !self.affinity.iter().all(satisfied) {
            return Err(AFFINITY.into());
        }
        let violated = |term: &ByDomain| on(term).is_some_and(|count| count > 0);
        if self.anti_affinity.iter().any(violated) {
            return Err(ANTI_AFFINITY.into());
        }
        if self.existing.iter().any(violated) {
            return Err(EXISTING.into());
        }
        Ok(())
    }
}

/// Preferred affinity and anti-affinity of the pod, and of the pods that are there towards it.
pub struct Preferred {
    weights: Vec<ByDomain>,
}

pub fn pre_score(pod: &PodInfo, cluster: &mut Cluster) -> Option<Preferred> {
    let topologies = Topologies::new(pod, cluster);
    let cluster = &*cluster;
    let mut weights: BTreeMap<usize, ByDomain> = BTreeMap::new();
    let mut add = |topology: TopologyId, class: &Class, weight: i64| {
        weights.entry(topology.0).or_insert_with(|| ByDomain::new(topology, cluster)).add(class, weight, cluster);
    };
    let own = pod.preferred_affinity.iter().map(|term| (term, 1));
    for (weighted, sign) in own.chain(pod.preferred_anti_affinity.iter().map(|term| (term, -1))) {
        let term = &weighted.term;
        for class in candidates(term, cluster) {
            if term.matches(class.namespace(), class.labels(), &cluster.namespaces) {
                add(topologies.of(&term.topology_key), class, sign * weighted.weight);
            }
        }
    }
    for class in cluster.classes.with_affinity() {
        let there = &class.sample;
        let required = there.affinity.iter().map(|term| (term, HARD_WEIGHT));
        let preferred = there.preferred_affinity.iter().map(|term| (&term.term, term.weight));
        let avoided = there.preferred_anti_affinity.iter().map(|term| (&term.term, -term.weight));
        for (term, weight) in required.chain(preferred).chain(avoided) {
            if let Some(topology) = cluster.find_topology(&term.topology_key)
                && term.matches(&pod.namespace, &pod.labels, &cluster.namespaces)
            {
                add(topology, class, weight);
            }
        }
    }
    (!weights.is_empty()).then(|| Preferred { weights: weights.into_values().collect() })
}

impl Score for Preferred {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.weights.iter().filter_map(|term| node.domain(term.topology).map(|domain| term.count(domain))).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (min, max) = (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
        for score in scores {
            *score = if max > min { MAX_SCORE * (*score - min) / (max - min) } else { 0 };
        }
    }
}

/// Topology keys of the pod and of every pod with affinity, interned before the cluster is only read.
struct Topologies(HashMap<String, TopologyId>);

impl Topologies {
    fn new(pod: &PodInfo, cluster: &mut Cluster) -> Self {
        let preferred = pod.preferred_affinity.iter().chain(&pod.preferred_anti_affinity).map(|term| &term.term);
        let own = pod.affinity.iter().chain(&pod.anti_affinity).chain(preferred);
        let known = own.map(|term| (term.topology_key.clone(), cluster.topology(&term.topology_key))).collect();
        let missing: Vec<String> = cluster
            .classes
            .with_affinity()
            .flat_map(|class| terms(&class.sample))
            .filter(|term| cluster.find_topology(&term.topology_key).is_none())
            .map(|term| term.topology_key.clone())
            .collect();
        for key in missing {
            cluster.topology(&key);
        }
        Self(known)
    }

    fn of(&self, key: &str) -> TopologyId {
        self.0[key]
    }
}

fn terms(pod: &PodInfo) -> impl Iterator<Item = &PodTerm> {
    let preferred = pod.preferred_affinity.iter().chain(&pod.preferred_anti_affinity).map(|weighted| &weighted.term);
    pod.affinity.iter().chain(&pod.anti_affinity).chain(preferred)
}

fn existing_anti_affinity(pod: &PodInfo, cluster: &Cluster) -> Vec<ByDomain> {
    let mut found: BTreeMap<usize, ByDomain> = BTreeMap::new();
    for class in cluster.classes.with_affinity() {
        for term in &class.sample.anti_affinity {
            let Some(topology) = cluster.find_topology(&term.topology_key) else { continue };
            if term.matches(&pod.namespace, &pod.labels, &cluster.namespaces) {
                found.entry(topology.0).or_insert_with(|| ByDomain::new(topology, cluster)).add(class, 1, cluster);
            }
        }
    }
    found.into_values().collect()
}

/// Classes that the term may be about.
fn candidates<'a>(term: &PodTerm, cluster: &'a Cluster) -> Box<dyn Iterator<Item = &'a Class> + 'a> {
    match term.only_namespace() {
        Some(namespace) => Box::new(cluster.classes.in_namespace(namespace)),
        None => Box::new(cluster.classes.all()),
    }
}

impl ByDomain {
    fn new(topology: TopologyId, cluster: &Cluster) -> Self {
        Self { topology, counts: vec![0; cluster.domains(topology)] }
    }

    fn add(&mut self, class: &Class, weight: i64, cluster: &Cluster) {
        for (node, count) in &class.nodes {
            if let Some(domain) = cluster.node(*node).domain(self.topology) {
                self.counts[domain.0 as usize] += weight * i64::from(*count);
            }
        }
    }

    fn count(&self, domain: DomainId) -> i64 {
        self.counts.get(domain.0 as usize).copied().unwrap_or(0)
    }
}
