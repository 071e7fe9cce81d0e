//! Why a pod fits no node, in the words that `kubectl describe pod` shows.

use std::collections::BTreeMap;

use crate::framework::{Plugin, Plugins, Reason, Rejection};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    nodes: usize,
    /// How many nodes have each reason.
    reasons: BTreeMap<Reason, usize>,
    /// The plugins that ruled nodes out: a change that concerns none of them cannot help.
    plugins: Plugins,
    /// What is wrong with the pod, whatever the node.
    of_pod: Option<Reason>,
}

impl Diagnosis {
    pub fn new(nodes: usize) -> Self {
        Self { nodes, reasons: BTreeMap::new(), plugins: Plugins::default(), of_pod: None }
    }

    pub fn add(&mut self, plugin: Plugin, rejection: Rejection) {
        self.plugins.insert(plugin);
        for reason in rejection.reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    /// Nodes that were not even tried.
    pub fn exclude(&mut self, plugin: Plugin, nodes: usize) {
        self.plugins.insert(plugin);
        if nodes > 0 {
            let text = format!("node(s) didn't satisfy plugin(s) [{plugin:?}]");
            self.reasons.insert(Reason(text.into()), nodes);
        }
    }

    /// Something about the pod itself rules every node out.
    pub fn refuse(&mut self, plugin: Plugin, reason: Reason) {
        self.plugins.insert(plugin);
        self.of_pod = Some(reason);
    }

    /// Whether no other pod's end can help.
    pub fn is_of_pod(&self) -> bool {
        self.of_pod.is_some()
    }

    /// An empty set means that only a node helps, and any node might.
    pub fn plugins(&self) -> Plugins {
        if self.nodes == 0 { Plugins::all() } else { self.plugins }
    }

    /// As upstream's `FitError.Error`: reasons with their numbers of nodes, sorted.
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        if let Some(Reason(reason)) = &self.of_pod {
            return format!("0/{} nodes are available: {reason}.", self.nodes);
        }
        let mut reasons: Vec<String> =
            self.reasons.iter().map(|(reason, nodes)| format!("{nodes} {}", reason.0)).collect();
        reasons.sort();
        format!("0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_sorted() {
        let mut diagnosis = Diagnosis::new(3);
        diagnosis.add(Plugin::NodeResourcesFit, "Insufficient cpu".into());
        diagnosis.add(Plugin::TaintToleration, "node(s) had untolerated taint(s)".into());
        diagnosis.add(Plugin::NodeResourcesFit, "Insufficient cpu".into());
        let expected = "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu.";
        assert_eq!(diagnosis.message(), expected);
        assert!(diagnosis.plugins().intersects([Plugin::TaintToleration].into()));
        assert!(!diagnosis.plugins().intersects([Plugin::NodePorts].into()));
        assert_eq!(Diagnosis::new(0).message(), "no nodes available to schedule pods");
    }
}
