//! A DaemonSet, the nodes, and its pods on each, read once.

use crate::daemonset::template::{self, Fit, Judge};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use xebec_types::apps::DaemonSet;
use xebec_types::core::{Node, Pod};
use xebec_types::time::Timestamp;
use xebec_types::{IntOrString, label, object, pod};

/// What a step sees.
pub struct View<'a> {
    pub set: &'a DaemonSet,
    /// The hash of the present template, as its pods carry it.
    pub hash: &'a str,
    pub nodes: Vec<OnNode>,
    /// Pods of nodes that are gone, or of none.
    pub stray: Vec<Arc<Pod>>,
    now: Timestamp,
}

/// One node and the set's pods there, oldest first.
#[derive(Debug)]
pub struct OnNode {
    pub name: String,
    pub(super) fit: Fit,
    pub pods: Vec<Arc<Pod>>,
}

impl<'a> View<'a> {
    #[must_use]
    pub fn new(set: &'a DaemonSet, hash: &'a str, nodes: &[Arc<Node>], pods: &[Arc<Pod>], now: Timestamp) -> Self {
        let mut by_node: BTreeMap<&str, Vec<Arc<Pod>>> = BTreeMap::new();
        let mut stray = Vec::new();
        for pod in pods {
            match template::target(pod) {
                Some(node) => by_node.entry(node).or_default().push(Arc::clone(pod)),
                None => stray.push(Arc::clone(pod)),
            }
        }
        let judge = Judge::of(set);
        let on_node = |node: &Arc<Node>| {
            let name = object::name(&node.metadata);
            let mut pods = by_node.remove(name).unwrap_or_default();
            pods.sort_by_cached_key(age);
            OnNode { name: name.into(), fit: judge.fit(node), pods }
        };
        let nodes = nodes.iter().map(on_node).collect();
        stray.extend(by_node.into_values().flatten());
        Self { set, hash, nodes, stray, now }
    }

    pub fn is_rolling(&self) -> bool {
        self.strategy(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    pub fn desired(&self) -> usize {
        self.nodes.iter().filter(|node| node.fit == Fit::Runs).count()
    }

    /// Pods of the new template that may run beside the old one.
    pub fn max_surge(&self) -> usize {
        let surge = self.strategy(|s| s.rolling_update.as_ref()?.max_surge.as_ref());
        if self.is_rolling() { scaled(surge, self.desired(), 0) } else { 0 }
    }

    /// Never zero unless a surge takes its place.
    pub fn max_unavailable(&self) -> usize {
        let unavailable = self.strategy(|s| s.rolling_update.as_ref()?.max_unavailable.as_ref());
        scaled(unavailable, self.desired(), 1)
    }

    fn strategy<'s, T>(
        &'s self,
        field: impl FnOnce(&'s xebec_types::apps::DaemonSetUpdateStrategy) -> Option<T>,
    ) -> Option<T> {
        self.set.spec.as_ref()?.update_strategy.as_ref().and_then(field)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or_default()
    }

    pub fn is_available(&self, pod: &Pod) -> bool {
        pod::is_available(pod, self.min_ready_seconds(), self.now)
    }

    pub fn is_updated(&self, pod: &Pod) -> bool {
        object::label(&pod.metadata, label::CONTROLLER_REVISION_HASH) == Some(self.hash)
    }

    /// When the next ready pod becomes available.
    #[must_use]
    pub fn recheck(&self) -> Option<Duration> {
        let pods = self.nodes.iter().flat_map(|node| &node.pods);
        let wait = |pod: &Arc<Pod>| pod::available_in(pod, self.min_ready_seconds(), self.now);
        pods.filter_map(wait).filter(|wait| !wait.is_zero()).min()
    }
}

impl OnNode {
    /// Pods that are not on their way out.
    pub fn staying(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| !pod::is_terminating(pod))
    }
}

/// Upstream's `podByCreationTimestampAndPhase`: what is bound comes first, then what is older.
fn age(pod: &Arc<Pod>) -> (bool, Option<Timestamp>, String) {
    let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    (pod::node_name(pod).is_empty(), created, object::name(&pod.metadata).into())
}

fn scaled(value: Option<&IntOrString>, total: usize, default: usize) -> usize {
    match value {
        None => default,
        Some(IntOrString::Int(count)) => usize::try_from(*count).unwrap_or_default(),
        Some(IntOrString::String(text)) => {
            let percent: usize = text.strip_suffix('%').and_then(|p| p.parse().ok()).unwrap_or_default();
            (total * percent).div_ceil(100)
        }
    }
}
