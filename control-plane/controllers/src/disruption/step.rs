//! The status of a budget (`pkg/controller/disruption`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use xebec_types::core::Pod;
use xebec_types::policy::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use xebec_types::time::{self, Timestamp};
use xebec_types::{Condition, IntOrString, Time, object, pod};

/// An eviction that led to no deletion by then is forgotten (`DeletionTimeout`).
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

/// How many pods there should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected(pub i32);

pub struct Observed<'a> {
    pub budget: &'a PodDisruptionBudget,
    /// Those that the budget covers.
    pub pods: &'a [Arc<Pod>],
    /// Or why it is not known.
    pub expected: &'a Result<Expected, String>,
    pub now: Timestamp,
}

#[derive(Debug)]
pub struct Status {
    pub wanted: PodDisruptionBudgetStatus,
    /// Pods whose eviction led to nothing.
    pub not_deleted: Vec<String>,
    pub recheck: Option<Duration>,
}

/// Whether the budget is a share of what the pods' owners ask for.
pub(super) fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let Some(spec) = &budget.spec else { return false };
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

#[must_use]
pub fn step(observed: &Observed<'_>) -> Status {
    let Observed { budget, pods, expected, now } = observed;
    let generation = budget.metadata.generation;
    let known = budget.status.clone().unwrap_or_default();
    let Ok(Expected(expected)) = expected else {
        let why = expected.as_ref().err().map_or("", String::as_str);
        let conditions = conditions(&known, ("False", "SyncFailed", why), generation, *now);
        let wanted = PodDisruptionBudgetStatus { disruptions_allowed: Some(0), conditions: Some(conditions), ..known };
        return Status { wanted, not_deleted: Vec::new(), recheck: None };
    };
    let desired = desired(budget, *expected);
    let (disrupted, not_deleted, recheck) = disrupted(&known, pods, *now);
    let is_healthy = |pod: &&Arc<Pod>| {
        pod::is_ready(pod) && !pod::is_terminating(pod) && !disrupted.contains_key(object::name(&pod.metadata))
    };
    let healthy = i32::try_from(pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    let allowed = if *expected <= 0 { 0 } else { healthy.saturating_sub(desired).max(0) };
    let answer = if allowed > 0 { ("True", "SufficientPods", "") } else { ("False", "InsufficientPods", "") };
    let wanted = PodDisruptionBudgetStatus {
        conditions: Some(conditions(&known, answer, generation, *now)),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(*expected),
        observed_generation: generation,
    };
    Status { wanted, not_deleted, recheck }
}

fn desired(budget: &PodDisruptionBudget, expected: i32) -> i32 {
    let Some(spec) = &budget.spec else { return 0 };
    if let Some(max) = &spec.max_unavailable {
        return expected.saturating_sub(scaled(max, expected)).max(0);
    }
    spec.min_available.as_ref().map_or(0, |min| scaled(min, expected))
}

/// A share is rounded up (`GetScaledValueFromIntOrPercent`).
fn scaled(value: &IntOrString, total: i32) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|p| p.parse().ok()).unwrap_or(0);
            let share =
                (percent * i64::from(total)).div_euclid(100) + i64::from((percent * i64::from(total)) % 100 > 0);
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}

type Disrupted = BTreeMap<String, Time>;

/// Pods that were evicted and are not being deleted yet; those for which that takes too long; when to look again.
fn disrupted(
    known: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (Disrupted, Vec<String>, Option<Duration>) {
    let (mut stay, mut late, mut recheck) = (Disrupted::new(), Vec::new(), None::<Duration>);
    for (name, at) in known.disrupted_pods.iter().flatten() {
        let pod = pods.iter().find(|pod| object::name(&pod.metadata) == name);
        let Some(_) = pod.filter(|pod| !pod::is_terminating(pod)) else { continue };
        let left = time::until(time::after(at.0, DELETION_TIMEOUT), now);
        if left.is_zero() {
            late.push(name.clone());
            continue;
        }
        recheck = Some(recheck.map_or(left, |known| known.min(left)));
        stay.insert(name.clone(), at.clone());
    }
    (stay, late, recheck)
}

fn conditions(
    known: &PodDisruptionBudgetStatus,
    (status, reason, message): (&str, &str, &str),
    observed_generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    const KIND: &str = "DisruptionAllowed";
    let mut conditions = known.conditions.clone().unwrap_or_default();
    let before = conditions.iter().find(|c| c.type_ == KIND && c.status == status);
    let since = before.map_or_else(|| time::time(now), |c| c.last_transition_time.clone());
    conditions.retain(|c| c.type_ != KIND);
    conditions.push(Condition {
        type_: KIND.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: since,
        observed_generation,
    });
    conditions
}

#[cfg(test)]
mod tests;
