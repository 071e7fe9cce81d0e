//! The pod that a DaemonSet makes for a node, and whether a node is for it.

use crate::control;
use xebec_types::apps::DaemonSet;
use xebec_types::core::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint,
    Toleration,
};
use xebec_types::{annotation, label, node, object, pod, taint};

/// What a node is to a DaemonSet: upstream's `NodeShouldRunDaemonPod`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    Runs,
    /// A pod that is there may stay, but none is made.
    Keeps,
    Refuses,
}

/// The pod for `node`. The scheduler binds it: only the affinity names the node.
pub(super) fn new_pod(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = set.spec.as_ref().map(|s| &s.template).cloned().unwrap_or_default();
    let mut pod = control::pod_from_template(&template, object::name(&set.metadata), control::controller_ref(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(label::CONTROLLER_REVISION_HASH.into(), hash.into());
    if let Some(generation) = object::annotation(&set.metadata, annotation::DAEMONSET_TEMPLATE_GENERATION) {
        labels.insert(label::POD_TEMPLATE_GENERATION.into(), generation.into());
    }
    let spec = pod.spec.get_or_insert_default();
    let node_affinity = spec.affinity.get_or_insert_with(Affinity::default).node_affinity.get_or_insert_default();
    bind(node_affinity, node);
    tolerate(spec);
    pod
}

/// The node that a pod is on or is meant for: as `GetTargetNodeName` reads it.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    if !pod::node_name(pod).is_empty() {
        return Some(pod::node_name(pod));
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let mut fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let named = fields.find(|f| f.key == "metadata.name" && f.operator == "In")?;
    named.values.as_ref()?.first().map(String::as_str)
}

/// Judges nodes for one DaemonSet.
pub(super) struct Judge {
    /// With the tolerations that its pods get.
    spec: PodSpec,
}

impl Judge {
    pub(super) fn of(set: &DaemonSet) -> Self {
        let mut spec = set.spec.as_ref().and_then(|s| s.template.spec.clone()).unwrap_or_default();
        tolerate(&mut spec);
        Self { spec }
    }

    pub(super) fn fit(&self, node: &Node) -> Fit {
        let named = self.spec.node_name.as_deref().filter(|wanted| !wanted.is_empty());
        if named.is_some_and(|wanted| wanted != object::name(&node.metadata)) || !is_selected(&self.spec, node) {
            return Fit::Refuses;
        }
        let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
        let untolerated: Vec<&str> = taints.filter(|t| !tolerates(&self.spec, t)).map(|t| t.effect.as_str()).collect();
        if untolerated.contains(&taint::NO_EXECUTE) {
            Fit::Refuses
        } else if untolerated.contains(&taint::NO_SCHEDULE) {
            Fit::Keeps
        } else {
            Fit::Runs
        }
    }
}

/// Whatever the template's terms say was judged when the node was chosen.
fn bind(affinity: &mut NodeAffinity, node: &str) {
    let field =
        NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: Some(vec![node.into()]) };
    let term = NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None };
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// A daemon stays on a node in trouble: upstream's `AddOrUpdateDaemonPodTolerations`.
fn tolerate(spec: &mut PodSpec) {
    let mut added = vec![
        (taint::NOT_READY, taint::NO_EXECUTE),
        (taint::UNREACHABLE, taint::NO_EXECUTE),
        (taint::DISK_PRESSURE, taint::NO_SCHEDULE),
        (taint::MEMORY_PRESSURE, taint::NO_SCHEDULE),
        (taint::PID_PRESSURE, taint::NO_SCHEDULE),
        (taint::UNSCHEDULABLE, taint::NO_SCHEDULE),
    ];
    if spec.host_network == Some(true) {
        added.push((taint::NETWORK_UNAVAILABLE, taint::NO_SCHEDULE));
    }
    let known = spec.tolerations.get_or_insert_default();
    for (key, effect) in added {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        if !known.contains(&toleration) {
            known.push(toleration);
        }
    }
}

fn is_selected(spec: &PodSpec, node: &Node) -> bool {
    let has = |(key, value): (&String, &String)| object::label(&node.metadata, key) == Some(value);
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    spec.node_selector.iter().flatten().all(has)
        && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

fn term_matches(term: &NodeSelectorTerm, on: &Node) -> bool {
    node::term_selects(term, object::name(&on.metadata), |key| object::label(&on.metadata, key))
}

fn tolerates(spec: &PodSpec, taint: &Taint) -> bool {
    let value = taint.value.as_deref().unwrap_or_default();
    let tolerations = spec.tolerations.iter().flatten();
    tolerations.into_iter().any(|t| node::tolerates(t, &taint.key, value, &taint.effect))
}
