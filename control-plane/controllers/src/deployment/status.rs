//! The status of a Deployment: counts, and how its rollout goes.

use crate::deployment::step::is_complete;
use crate::deployment::view::{View, actual, available, ready, wanted};
use std::time::Duration;
use xebec_types::apps::{DeploymentCondition, DeploymentStatus, ReplicaSet};
use xebec_types::time::{self, Timestamp};
use xebec_types::{condition, object};

const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";
const NO_DEADLINE: i32 = i32::MAX;

/// What this step did that a condition tells.
#[derive(Debug)]
pub enum Progress {
    None,
    Created { set: String },
    CreateFailed { message: String },
}

/// The status as it should be.
#[must_use]
pub fn status(view: &View<'_>, progress: &Progress, now: Timestamp) -> DeploymentStatus {
    let old = view.deployment.status.clone().unwrap_or_default();
    let mut new = counts(view, &old);
    let mut conditions = Conditions::of(&old, now);
    let availability = if new.available_replicas.unwrap_or_default() >= view.replicas() - view.max_unavailable() {
        (condition::TRUE, "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        let message = "Deployment does not have minimum availability.";
        (condition::FALSE, "MinimumReplicasUnavailable", message)
    };
    let (state, reason, message) = availability;
    conditions.set(condition::AVAILABLE, state, reason, message);
    progressing(view, progress, &old, &new, &mut conditions);
    failures(view, &mut conditions);
    new.conditions = Some(conditions.list).filter(|c| !c.is_empty() || old.conditions.is_some());
    new
}

/// When the deadline of a rollout that stands still is due.
#[must_use]
pub fn deadline_in(view: &View<'_>, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = deadline(view)?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let condition = conditions.iter().find(|c| c.type_ == condition::PROGRESSING)?;
    let reason = condition.reason.as_deref().unwrap_or_default();
    if view.is_paused() || [NEW_AVAILABLE, TIMED_OUT, PAUSED].contains(&reason) {
        return None;
    }
    let since = condition.last_update_time.as_ref()?.0;
    Some(time::until(time::after(since, deadline), now) + Duration::from_secs(1))
}

fn counts(view: &View<'_>, old: &DeploymentStatus) -> DeploymentStatus {
    let sum = |count: fn(&ReplicaSet) -> i32| view.all().map(|set| count(set)).sum::<i32>();
    let terminating = sum(|set| set.status.as_ref().and_then(|s| s.terminating_replicas).unwrap_or_default());
    let unavailable = (sum(wanted) - sum(available)).max(0);
    // Zero and absent are the same on the wire.
    let count = |n: i32, old: Option<i32>| Some(n).filter(|n| *n != 0 || old.is_some());
    DeploymentStatus {
        observed_generation: view.deployment.metadata.generation,
        replicas: count(sum(actual), old.replicas),
        updated_replicas: count(view.new.as_ref().map_or(0, |s| actual(s)), old.updated_replicas),
        ready_replicas: count(sum(ready), old.ready_replicas),
        available_replicas: count(sum(available), old.available_replicas),
        unavailable_replicas: count(unavailable, old.unavailable_replicas),
        terminating_replicas: Some(terminating),
        collision_count: old.collision_count,
        conditions: None,
    }
}

fn progressing(
    view: &View<'_>,
    progress: &Progress,
    old: &DeploymentStatus,
    new: &DeploymentStatus,
    conditions: &mut Conditions,
) {
    let set = |reason: &str, state: &str, message: String, conditions: &mut Conditions| {
        conditions.set(condition::PROGRESSING, state, reason, &message);
    };
    if deadline(view).is_none() {
        return conditions.remove(condition::PROGRESSING);
    }
    let known = conditions.find(condition::PROGRESSING).cloned();
    let reason = known.as_ref().and_then(|c| c.reason.clone()).unwrap_or_default();
    if view.is_paused() {
        if reason != PAUSED && reason != TIMED_OUT {
            set(PAUSED, condition::UNKNOWN, "Deployment is paused".into(), conditions);
        }
        return;
    }
    match progress {
        Progress::Created { set: name } => {
            let message = format!("Created new replica set \"{name}\"");
            return set("NewReplicaSetCreated", condition::TRUE, message, conditions);
        }
        Progress::CreateFailed { message } => {
            let message = message.clone();
            return set("ReplicaSetCreateError", condition::FALSE, message, conditions);
        }
        Progress::None => {}
    }
    if reason == PAUSED {
        let message = "Deployment is resumed".into();
        return set(RESUMED, condition::UNKNOWN, message, conditions);
    }
    let updated = new.updated_replicas.unwrap_or_default();
    let is_settled = new.replicas.unwrap_or_default() == updated && reason == NEW_AVAILABLE;
    let subject = subject(view);
    if is_settled {
        return;
    }
    if is_complete(view) {
        let message = format!("{subject} has successfully progressed.");
        set(NEW_AVAILABLE, condition::TRUE, message, conditions);
    } else if has_progressed(old, new) {
        // Every step forward restarts the clock of the deadline.
        let message = format!("{subject} is progressing.");
        conditions.touch(condition::PROGRESSING, condition::TRUE, "ReplicaSetUpdated", &message);
    } else if known.as_ref().is_some_and(|c| is_late(view, c, conditions.now)) {
        let message = format!("{subject} has timed out progressing.");
        set(TIMED_OUT, condition::FALSE, message, conditions);
    } else if known.is_none()
        && let Some(new) = &view.new
    {
        let message = format!("Found new replica set \"{}\"", object::name(&new.metadata));
        set("FoundNewReplicaSet", condition::TRUE, message, conditions);
    }
}

/// A set that cannot make its pods is a Deployment that cannot.
fn failures(view: &View<'_>, conditions: &mut Conditions) {
    let failing = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|c| c.type_ == condition::REPLICA_FAILURE).cloned()
    };
    let new = view.new.iter().find_map(|set| failing(set));
    match new.or_else(|| view.old.iter().find_map(|set| failing(set))) {
        Some(failure) => conditions.set(
            condition::REPLICA_FAILURE,
            &failure.status,
            failure.reason.as_deref().unwrap_or_default(),
            failure.message.as_deref().unwrap_or_default(),
        ),
        None => conditions.remove(condition::REPLICA_FAILURE),
    }
}

fn subject(view: &View<'_>) -> String {
    match &view.new {
        Some(set) => format!("ReplicaSet \"{}\"", object::name(&set.metadata)),
        None => format!("Deployment \"{}\"", object::name(&view.deployment.metadata)),
    }
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let updated = |s: &DeploymentStatus| s.updated_replicas.unwrap_or_default();
    let outdated = |s: &DeploymentStatus| s.replicas.unwrap_or_default() - updated(s);
    let ready = |s: &DeploymentStatus| s.ready_replicas.unwrap_or_default();
    let available = |s: &DeploymentStatus| s.available_replicas.unwrap_or_default();
    updated(new) > updated(old)
        || outdated(new) < outdated(old)
        || ready(new) > ready(old)
        || available(new) > available(old)
}

fn is_late(view: &View<'_>, condition: &DeploymentCondition, now: Timestamp) -> bool {
    let reason = condition.reason.as_deref().unwrap_or_default();
    if reason == NEW_AVAILABLE {
        return false;
    }
    let since = condition.last_update_time.as_ref().map(|t| t.0);
    let late = |since| deadline(view).is_some_and(|d| time::since(since, now) > d);
    reason == TIMED_OUT || since.is_some_and(late)
}

fn deadline(view: &View<'_>) -> Option<Duration> {
    let seconds = view.spec().progress_deadline_seconds.unwrap_or(600);
    (seconds != NO_DEADLINE).then(|| Duration::from_secs(seconds.max(0).unsigned_abs().into()))
}

struct Conditions {
    list: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    fn of(status: &DeploymentStatus, now: Timestamp) -> Self {
        Self { list: status.conditions.clone().unwrap_or_default(), now }
    }

    fn find(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|c| c.type_ == kind)
    }

    fn remove(&mut self, kind: &str) {
        self.list.retain(|c| c.type_ != kind);
    }

    /// Writes a condition; one with the same status and reason stays as it is.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let same = |c: &DeploymentCondition| c.status == status && c.reason.as_deref() == Some(reason);
        if !self.find(kind).is_some_and(same) {
            self.touch(kind, status, reason, message);
        }
    }

    /// Writes a condition and its update time; the transition time moves with the status only.
    fn touch(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = Some(time::time(self.now));
        let known = self.find(kind).filter(|c| c.status == status);
        let since = known.and_then(|c| c.last_transition_time.clone());
        let condition = DeploymentCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_update_time: now.clone(),
            last_transition_time: since.or(now),
        };
        match self.list.iter_mut().find(|c| c.type_ == kind) {
            Some(known) => *known = condition,
            None => self.list.push(condition),
        }
    }
}

#[cfg(test)]
mod tests;
