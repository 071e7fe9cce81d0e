//! A Deployment and its ReplicaSets, read once.

use crate::deployment::template;
use std::sync::Arc;
use xebec_types::apps::{Deployment, DeploymentSpec, ReplicaSet};
use xebec_types::{IntOrString, annotation, object};

/// What a step sees. `new` runs the current template, `old` are the others, oldest first.
pub struct View<'a> {
    pub deployment: &'a Deployment,
    pub new: Option<Arc<ReplicaSet>>,
    pub old: Vec<Arc<ReplicaSet>>,
}

impl<'a> View<'a> {
    #[must_use]
    pub fn new(deployment: &'a Deployment, sets: &[Arc<ReplicaSet>]) -> Self {
        let mut sets = sets.to_vec();
        sets.sort_by_cached_key(|set| {
            let created = set.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (created, object::name(&set.metadata).to_string())
        });
        // The oldest of several equal ones, so that every sync finds the same.
        let at = sets.iter().position(|set| template::is_current(deployment, set));
        let new = at.map(|at| sets.remove(at));
        Self { deployment, new, old: sets }
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    pub fn spec(&self) -> &DeploymentSpec {
        // `spec` is required, and a Deployment without one has all defaults.
        static EMPTY: std::sync::OnceLock<DeploymentSpec> = std::sync::OnceLock::new();
        let spec = self.deployment.spec.as_ref();
        spec.unwrap_or_else(|| EMPTY.get_or_init(DeploymentSpec::default))
    }

    pub fn replicas(&self) -> i32 {
        self.spec().replicas.unwrap_or(1)
    }

    pub fn is_paused(&self) -> bool {
        self.spec().paused.unwrap_or_default()
    }

    pub fn is_recreate(&self) -> bool {
        let strategy = self.spec().strategy.as_ref().and_then(|s| s.type_.as_deref());
        strategy == Some("Recreate")
    }

    /// Pods above and below the wanted number during a rolling update: surge rounds up,
    /// unavailable rounds down, and both zero would never move.
    fn fenceposts(&self) -> (i32, i32) {
        let rolling = self.spec().strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let replicas = self.replicas();
        let surge = rolling.and_then(|r| r.max_surge.as_ref());
        let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
        let surge = scaled(surge, replicas, Round::Up);
        match (surge, scaled(unavailable, replicas, Round::Down)) {
            (0, 0) => (0, 1),
            posts => posts,
        }
    }

    pub fn max_surge(&self) -> i32 {
        if self.is_recreate() { 0 } else { self.fenceposts().0 }
    }

    pub fn max_unavailable(&self) -> i32 {
        if self.is_recreate() || self.replicas() == 0 {
            return 0;
        }
        self.fenceposts().1.min(self.replicas())
    }

    pub fn max_replicas(&self) -> i32 {
        if self.replicas() == 0 { 0 } else { self.replicas() + self.max_surge() }
    }
}

pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |s| s.replicas)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or_default()
}

pub(super) fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or_default()
}

/// The revision annotation; a set without one is revision 0.
pub(super) fn revision(set: &ReplicaSet) -> i64 {
    let revision = object::annotation(&set.metadata, annotation::REVISION);
    revision.and_then(|r| r.parse().ok()).unwrap_or_default()
}

enum Round {
    Up,
    Down,
}

/// `25%` if the field is absent: the server's default.
fn scaled(value: Option<&IntOrString>, total: i32, round: Round) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(n)) => return *n,
        Some(IntOrString::String(text)) => {
            text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()).unwrap_or_default()
        }
        None => 25,
    };
    let hundredfold = i64::from(total) * percent;
    let scaled = match round {
        Round::Up => (hundredfold + 99).div_euclid(100),
        Round::Down => hundredfold.div_euclid(100),
    };
    i32::try_from(scaled).unwrap_or(i32::MAX)
}
