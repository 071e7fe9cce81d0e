//! Counting pods without loss: a pod that ended is first named in the status, then let go by
//! removing its finalizer, and only then counted. A controller that dies in between finds either the
//! finalizer or the name. As upstream's `trackJobStatusAndRemoveFinalizers`.

use crate::job::policy::Failure;
use crate::job::step::Finish;
use crate::job::view::{View, count, index, is_succeeded};
use std::collections::HashSet;
use std::sync::Arc;
use xebec_types::batch::{JobCondition, JobStatus, UncountedTerminatedPods};
use xebec_types::core::Pod;
use xebec_types::time::{self, Timestamp};
use xebec_types::{condition, object};

/// Pods that the status names at a time: upstream's `MaxUncountedPods`.
const UNCOUNTED: usize = 500;

/// What was done in this sync.
#[derive(Clone, Copy, Default, Debug)]
pub struct Done {
    pub created: i32,
    pub deleted: i32,
    pub deleted_ready: i32,
    /// Whether the number of pods was looked after, so that suspending took effect.
    pub managed: bool,
}

#[derive(Debug)]
pub struct Account {
    /// To be written first.
    pub status: JobStatus,
    /// Then let go.
    pub release: Vec<Arc<Pod>>,
    /// More pods wait for the next sync.
    pub is_partial: bool,
    /// `true`: suspended, `false`: resumed.
    pub suspended: Option<bool>,
}

#[must_use]
pub fn account(view: &View<'_>, finish: Option<&Finish>, done: Done) -> Account {
    let mut status = view.status.clone();
    let ready = view.active.iter().filter(|pod| xebec_types::pod::is_ready(pod)).count();
    status.active = Some(count(view.active.len()) + done.created - done.deleted).filter(|n| *n != 0);
    status.ready = Some(count(ready) - done.deleted_ready);
    status.terminating = Some(count(view.terminating.len()) + done.deleted);
    if status.start_time.is_none() && !view.is_suspended() {
        status.start_time = Some(time::time(view.now));
    }
    let tracked = view.pods.iter().filter(|pod| view.is_tracked(pod));
    settle(&mut status, &tracked.map(|pod| object::uid(&pod.metadata).to_string()).collect());
    let mut account = Account { status, release: Vec::new(), is_partial: false, suspended: None };
    name_ended(view, finish, &mut account);
    if let (None, true) = (finish, done.managed) {
        account.suspended = suspend(view, &mut account.status);
    }
    if let Some(finish) = finish {
        let kind = if finish.succeeded { condition::SUCCESS_CRITERIA_MET } else { condition::FAILURE_TARGET };
        put(&mut account.status, kind, condition::TRUE, &finish.reason, &finish.message, view.now);
    }
    account
}

/// Names the pods that ended in the status and lets them go.
fn name_ended(view: &View<'_>, finish: Option<&Finish>, account: &mut Account) {
    let mut counted = view.indexes.as_ref().map(|i| i.counted.clone()).unwrap_or_default();
    let mut pods: Vec<_> = view.pods.iter().filter(|pod| view.is_tracked(pod)).collect();
    pods.sort_by_key(|pod| index(pod));
    let mut named = 0;
    for pod in pods {
        let failed = view.is_failed(pod);
        if !may_go(view, finish, pod, failed) {
            continue;
        }
        account.release.push(Arc::clone(pod));
        let has_index = !view.is_indexed() || view.index(pod).is_some();
        if !view.is_uncounted(pod) && has_index {
            named += 1;
            // When a Job fails, whatever of it still runs has failed.
            let fails = failed || finish.is_some_and(|f| !f.succeeded);
            let uncounted = account.status.uncounted_terminated_pods.get_or_insert_default();
            let uid = object::uid(&pod.metadata).to_string();
            match (is_succeeded(pod), view.index(pod).filter(|_| view.is_indexed())) {
                (true, Some(index)) => counted.insert(index),
                (true, None) => uncounted.succeeded.get_or_insert_default().push(uid),
                (false, _) if fails && view.failure(pod) != Failure::Ignored => {
                    uncounted.failed.get_or_insert_default().push(uid);
                }
                (false, _) => {}
            }
        }
        if named >= UNCOUNTED {
            account.is_partial = true;
            break;
        }
    }
    if let Some(indexes) = &view.indexes {
        account.status.succeeded = Some(counted.total()).filter(|n| *n != 0);
        account.status.completed_indexes = Some(counted.to_string()).filter(|text| !text.is_empty());
        account.status.failed_indexes = indexes.failed.as_ref().map(ToString::to_string);
    }
}

fn may_go(view: &View<'_>, finish: Option<&Finish>, pod: &Arc<Pod>, failed: bool) -> bool {
    if object::is_being_deleted(&view.job.metadata) || finish.is_some() || is_succeeded(pod) {
        return true;
    }
    let is_delayed = || {
        let delayed = view.indexes.as_ref().and_then(|i| i.delayed.get(&index(pod)?));
        delayed.is_some_and(|delayed| delayed.metadata.uid == pod.metadata.uid)
    };
    failed && !is_delayed()
}

/// Counts the named pods that are not `tracked` any more. Answers whether any was.
pub fn settle(status: &mut JobStatus, tracked: &HashSet<String>) -> bool {
    let UncountedTerminatedPods { succeeded, failed } = status.uncounted_terminated_pods.take().unwrap_or_default();
    let split = |uids: Option<Vec<String>>| -> (Vec<String>, i32) {
        let (kept, gone): (Vec<_>, Vec<_>) =
            uids.unwrap_or_default().into_iter().partition(|uid| tracked.contains(uid));
        (kept, count(gone.len()))
    };
    let ((succeeded, new_succeeded), (failed, new_failed)) = (split(succeeded), split(failed));
    let add = |known: &mut Option<i32>, new: i32| {
        *known = Some(known.unwrap_or_default() + new).filter(|n| *n != 0);
    };
    add(&mut status.succeeded, new_succeeded);
    add(&mut status.failed, new_failed);
    let some = |uids: Vec<String>| Some(uids).filter(|uids| !uids.is_empty());
    let uncounted = UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) };
    status.uncounted_terminated_pods = Some(uncounted);
    new_succeeded + new_failed > 0
}

/// Writes the last condition, once nothing is left to count and nothing is left to end.
pub fn conclude(status: &mut JobStatus, finish: &Finish, now: Timestamp) -> bool {
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    if uncounted != UncountedTerminatedPods::default() || status.terminating.is_some_and(|n| n > 0) {
        return false;
    }
    let kind = if finish.succeeded { condition::COMPLETE } else { condition::FAILED };
    put(status, kind, condition::TRUE, &finish.reason, &finish.message, now);
    if finish.succeeded {
        status.completion_time = Some(time::time(now));
    }
    true
}

/// A Job that is resumed starts anew: its deadline does not run while it is suspended.
fn suspend(view: &View<'_>, status: &mut JobStatus) -> Option<bool> {
    if view.is_suspended() {
        let new = put(status, condition::SUSPENDED, condition::TRUE, "JobSuspended", "Job suspended", view.now);
        return new.then_some(true);
    }
    let known = status.conditions.iter().flatten().any(|c| c.type_ == condition::SUSPENDED);
    if !known || !put(status, condition::SUSPENDED, condition::FALSE, "JobResumed", "Job resumed", view.now) {
        return None;
    }
    status.start_time = Some(time::time(view.now));
    Some(false)
}

/// Answers whether it changed anything.
fn put(status: &mut JobStatus, kind: &str, state: &str, reason: &str, message: &str, now: Timestamp) -> bool {
    let condition = JobCondition {
        type_: kind.into(),
        status: state.into(),
        reason: Some(reason.to_string()).filter(|r| !r.is_empty()),
        message: Some(message.to_string()).filter(|m| !m.is_empty()),
        last_probe_time: Some(time::time(now)),
        last_transition_time: Some(time::time(now)),
    };
    let conditions = status.conditions.get_or_insert_default();
    let same = |c: &JobCondition| {
        (&c.status, &c.reason, &c.message) == (&condition.status, &condition.reason, &condition.message)
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(known) if same(known) => return false,
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
    true
}

#[cfg(test)]
mod tests;
