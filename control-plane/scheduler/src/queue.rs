//! Pods that wait for a node: active (to be tried now), backing off (tried a moment ago), unschedulable (waiting for a
//! change that may help).

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::PodInfo;
use crate::framework::Plugins;

/// Upstream's `podInitialBackoffSeconds` and `podMaxBackoffSeconds`.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// No pod waits longer than this for an event that helps: upstream's `podMaxInUnschedulablePodsDuration`.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);

type Uid = Arc<str>;

#[derive(Default)]
pub struct Queue {
    pods: HashMap<Uid, Queued>,
    /// Highest priority first, then the one that has waited longest. Entries whose number is outdated are skipped.
    active: BinaryHeap<(i32, Reverse<u64>, Uid)>,
    /// By when they are due; both hold pods of one state only.
    backoff: BTreeSet<(Instant, Uid)>,
    unschedulable: BTreeSet<(Instant, Uid)>,
    sequence: u64,
}

struct Queued {
    info: Arc<PodInfo>,
    state: State,
    attempts: u32,
    last_attempt: Option<Instant>,
    /// Order among equals: when the pod first came.
    sequence: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Active,
    /// A decision or binding is under way.
    InFlight,
    Backoff {
        until: Instant,
    },
    Unschedulable {
        until: Instant,
        plugins: Plugins,
    },
}

impl Queue {
    /// Adds a pod, or replaces what is known of it: a change of the pod itself may make it fit.
    pub fn put(&mut self, info: Arc<PodInfo>, now: Instant) {
        let uid = info.uid.clone();
        if let Some(known) = self.pods.get_mut(&uid) {
            known.info = info;
            if let State::Unschedulable { .. } = known.state {
                self.activate_or_back_off(&uid, now);
            }
            return;
        }
        self.sequence += 1;
        let sequence = self.sequence;
        let queued = Queued { info, state: State::InFlight, attempts: 0, last_attempt: None, sequence };
        self.pods.insert(uid.clone(), queued);
        self.set(&uid, State::Active);
    }

    /// The pod is gone, or has a node.
    pub fn remove(&mut self, uid: &str) {
        if let Some((uid, queued)) = self.pods.remove_entry(uid) {
            self.unlist(&uid, queued.state);
        }
    }

    /// The next pod to try. It stays in flight until it is removed or comes back.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        while let Some((_, Reverse(sequence), uid)) = self.active.pop() {
            if let Some(queued) = self.pods.get_mut(&uid)
                && queued.state == State::Active
                && queued.sequence == sequence
            {
                queued.state = State::InFlight;
                queued.attempts += 1;
                queued.last_attempt = Some(now);
                return Some(queued.info.clone());
            }
        }
        None
    }

    /// The pod fits no node: it waits for an event that concerns one of `plugins`.
    pub fn park(&mut self, uid: &Uid, plugins: Plugins, now: Instant) {
        self.set(uid, State::Unschedulable { until: now + UNSCHEDULABLE_MAX, plugins });
    }

    /// Something failed that may work a moment later.
    pub fn back_off(&mut self, uid: &Uid, now: Instant) {
        self.activate_or_back_off(uid, now);
    }

    /// Something happened that concerns `plugins`.
    pub fn wake(&mut self, plugins: Plugins, now: Instant) {
        let concerned: Vec<Uid> = self
            .unschedulable
            .iter()
            .map(|(_, uid)| uid)
            .filter(|uid| match self.pods.get(*uid).map(|queued| queued.state) {
                Some(State::Unschedulable { plugins: waits_for, .. }) => waits_for.intersects(plugins),
                _ => false,
            })
            .cloned()
            .collect();
        for uid in concerned {
            self.activate_or_back_off(&uid, now);
        }
    }

    /// Activates what is due and tells when something will be next.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        while let Some((_, uid)) = self.backoff.first().filter(|(until, _)| *until <= now).cloned() {
            self.set(&uid, State::Active);
        }
        while let Some((_, uid)) = self.unschedulable.first().filter(|(until, _)| *until <= now).cloned() {
            self.activate_or_back_off(&uid, now);
        }
        let next = [self.backoff.first(), self.unschedulable.first()];
        next.into_iter().flatten().map(|(until, _)| *until).min()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    fn activate_or_back_off(&mut self, uid: &Uid, now: Instant) {
        let Some(queued) = self.pods.get(uid) else { return };
        let until = queued.last_attempt.map_or(now, |last| last + backoff(queued.attempts));
        self.set(uid, if until <= now { State::Active } else { State::Backoff { until } });
    }

    fn set(&mut self, uid: &Uid, state: State) {
        let Some(queued) = self.pods.get_mut(uid) else { return };
        let before = std::mem::replace(&mut queued.state, state);
        let (priority, sequence) = (queued.info.priority, queued.sequence);
        self.unlist(uid, before);
        match state {
            State::Active => self.active.push((priority, Reverse(sequence), uid.clone())),
            State::InFlight => {}
            State::Backoff { until } => {
                self.backoff.insert((until, uid.clone()));
            }
            State::Unschedulable { until, .. } => {
                self.unschedulable.insert((until, uid.clone()));
            }
        }
    }

    fn unlist(&mut self, uid: &Uid, state: State) {
        match state {
            State::Active | State::InFlight => {}
            State::Backoff { until } => {
                self.backoff.remove(&(until, uid.clone()));
            }
            State::Unschedulable { until, .. } => {
                self.unschedulable.remove(&(until, uid.clone()));
            }
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests;
