//! The conditions and taints that a node should have.

use xebec_types::core::{Node, NodeCondition, Taint};
use xebec_types::time::{self, Timestamp};
use xebec_types::{condition, taint};

/// Above this share of silent nodes it is more likely that we are cut off than that they are dead.
const UNHEALTHY_SHARE: f64 = 0.55;

/// The nodes, counted.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    pub nodes: usize,
    pub ready: usize,
}

impl Cluster {
    /// Whether pods may be evicted from nodes that are not ready. Upstream's rule for clusters of up
    /// to 50 nodes: not when all are down, and not when more than two and 55 % are.
    fn may_evict(self) -> bool {
        let down = self.nodes.saturating_sub(self.ready);
        // Node counts are far below 2^52.
        #[allow(clippy::cast_precision_loss)]
        let share = down as f64 / self.nodes.max(1) as f64;
        self.ready > 0 && !(down > 2 && share >= UNHEALTHY_SHARE)
    }
}

#[derive(Debug)]
pub struct Plan {
    /// The conditions to write.
    pub conditions: Option<Vec<NodeCondition>>,
    /// The complete list of taints to write.
    pub taints: Option<Vec<Taint>>,
    pub is_silent: bool,
}

/// `is_silent`: neither lease nor status moved for the grace period.
#[must_use]
pub fn step(node: &Node, is_silent: bool, cluster: &Cluster, now: Timestamp) -> Plan {
    let conditions = if is_silent { unknown_conditions(node, now) } else { Vec::new() };
    let status = |kind: &str| {
        let posted = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let mut all = conditions.iter().chain(posted);
        all.find(|c| c.type_ == kind).map(|c| c.status.as_str())
    };
    let wanted = wanted_taints(node, status, cluster.may_evict());
    let taints = merge_taints(node, &wanted, now);
    Plan { conditions: Some(conditions).filter(|c| !c.is_empty()), taints, is_silent }
}

pub(super) fn ready_status(node: &Node) -> Option<&str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == condition::READY).map(|c| c.status.as_str())
}

/// What a silent node's conditions become; empty if they are so already.
fn unknown_conditions(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let posted = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let kinds = [condition::READY, condition::MEMORY_PRESSURE, condition::DISK_PRESSURE, condition::PID_PRESSURE];
    let known = |kind: &str| posted.iter().find(|c| c.type_ == kind);
    let unknown = |kind: &&str| known(kind).is_none_or(|c| c.status != condition::UNKNOWN);
    let now = Some(time::time(now));
    let make = |kind: &str| {
        let (reason, message) = match known(kind) {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        let created = node.metadata.creation_timestamp.clone();
        NodeCondition {
            type_: kind.into(),
            status: condition::UNKNOWN.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: known(kind).map_or(created, |c| c.last_heartbeat_time.clone()),
            last_transition_time: now.clone(),
        }
    };
    kinds.into_iter().filter(unknown).map(make).collect()
}

type Wanted = Vec<(&'static str, &'static str)>;

fn wanted_taints<'a>(node: &Node, status: impl Fn(&str) -> Option<&'a str>, may_evict: bool) -> Wanted {
    let mut wanted = Vec::new();
    let down = match status(condition::READY) {
        Some(condition::TRUE) => None,
        Some(condition::UNKNOWN) => Some(taint::UNREACHABLE),
        // A node that has not said anything yet is not ready.
        _ => Some(taint::NOT_READY),
    };
    if let Some(key) = down {
        wanted.push((key, taint::NO_SCHEDULE));
        if may_evict || has_taint(node, key, taint::NO_EXECUTE) {
            wanted.push((key, taint::NO_EXECUTE));
        }
    }
    let pressures = [
        (condition::MEMORY_PRESSURE, taint::MEMORY_PRESSURE),
        (condition::DISK_PRESSURE, taint::DISK_PRESSURE),
        (condition::PID_PRESSURE, taint::PID_PRESSURE),
        (condition::NETWORK_UNAVAILABLE, taint::NETWORK_UNAVAILABLE),
    ];
    for (kind, key) in pressures {
        if status(kind) == Some(condition::TRUE) {
            wanted.push((key, taint::NO_SCHEDULE));
        }
    }
    if node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true)) {
        wanted.push((taint::UNSCHEDULABLE, taint::NO_SCHEDULE));
    }
    wanted
}

fn has_taint(node: &Node, key: &str, effect: &str) -> bool {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.into_iter().any(|t| t.key == key && t.effect == effect)
}

/// Our taints as wanted, everybody else's as they are; `None` if that is what the node has.
fn merge_taints(node: &Node, wanted: &Wanted, now: Timestamp) -> Option<Vec<Taint>> {
    let known = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let managed = |t: &Taint| {
        let down = [taint::NOT_READY, taint::UNREACHABLE].contains(&t.key.as_str());
        let scheduling = [
            taint::MEMORY_PRESSURE,
            taint::DISK_PRESSURE,
            taint::PID_PRESSURE,
            taint::NETWORK_UNAVAILABLE,
            taint::UNSCHEDULABLE,
        ];
        match t.effect.as_str() {
            taint::NO_SCHEDULE => down || scheduling.contains(&t.key.as_str()),
            taint::NO_EXECUTE => down,
            _ => false,
        }
    };
    let is_wanted = |t: &Taint| wanted.iter().any(|(k, e)| t.key == *k && t.effect == *e);
    let mut taints: Vec<Taint> = known.iter().filter(|t| !managed(t) || is_wanted(t)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|t| t.key == *key && t.effect == *effect) {
            taints.push(Taint {
                key: (*key).into(),
                effect: (*effect).into(),
                time_added: Some(time::time(now)),
                value: None,
            });
        }
    }
    (taints != known).then_some(taints)
}

#[cfg(test)]
mod tests;
