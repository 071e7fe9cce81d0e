//! Readers over pods.

use crate::core::{Pod, PodCondition};
use crate::time::{self, Timestamp};
use crate::{condition, object};
use std::time::Duration;

#[must_use]
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

/// The phase; a pod that has none is Pending.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).filter(|p| !p.is_empty()).unwrap_or("Pending")
}

/// Succeeded or Failed: its containers never start again.
#[must_use]
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

#[must_use]
pub fn is_terminating(pod: &Pod) -> bool {
    object::is_being_deleted(&pod.metadata)
}

/// Neither terminal nor being deleted.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

#[must_use]
pub fn find_condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    find_condition(pod, condition::READY).is_some_and(|c| c.status == condition::TRUE)
}

/// Ready for at least `min_ready_seconds`.
#[must_use]
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_in(pod, min_ready_seconds, now) == Some(Duration::ZERO)
}

/// How long until a ready pod counts as available; `None` while it is not ready.
#[must_use]
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let ready = find_condition(pod, condition::READY).filter(|c| c.status == condition::TRUE)?;
    let wait = Duration::from_secs(min_ready_seconds.max(0).unsigned_abs().into());
    if wait.is_zero() {
        return Some(Duration::ZERO);
    }
    let since = ready.last_transition_time.as_ref()?.0;
    Some(time::until(time::after(since, wait), now))
}
