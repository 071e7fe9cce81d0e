//! What a Job needs next.

use crate::job::backoff;
use crate::job::policy::{self, Failure};
use crate::job::view::{self, View, all_failures, finished_at};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use xebec_types::core::Pod;
use xebec_types::{condition, object, pod, time};

/// Pods created or deleted in one sync, as upstream's `MaxPodCreateDeletePerSync`.
const BURST: usize = 500;

#[derive(Default, Debug)]
pub struct Step {
    pub delete: Vec<Arc<Pod>>,
    /// Whether deleted pods are let go without being counted as failures.
    pub forgives: bool,
    pub create: Vec<Create>,
    /// How the Job ends, once every pod is accounted for.
    pub finish: Option<Finish>,
    pub recheck: Option<Duration>,
}

#[derive(Clone, Default, Debug)]
pub struct Create {
    pub index: Option<i32>,
    /// The failed pod of the same index, whose count goes on.
    pub replaces: Option<Arc<Pod>>,
}

/// The end of a Job. It is announced by an interim condition before the last pods are let go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finish {
    pub succeeded: bool,
    pub reason: String,
    pub message: String,
}

impl Finish {
    fn failed(reason: &str, message: impl Into<String>) -> Self {
        Self { succeeded: false, reason: reason.into(), message: message.into() }
    }

    fn succeeded(reason: &str, message: impl Into<String>) -> Self {
        Self { succeeded: true, reason: reason.into(), message: message.into() }
    }
}

/// `satisfied`: every write that was made before has been seen.
#[must_use]
pub fn step(view: &View<'_>, satisfied: bool) -> Step {
    let mut step = Step { recheck: deadline_in(view), ..Step::default() };
    if let Some(finish) = finish(view) {
        step.delete.clone_from(&view.active);
        // Pods that are not seen yet must be deleted too before the Job can end.
        step.finish = Some(finish).filter(|_| satisfied);
        step.recheck = None;
        return step;
    }
    if satisfied && !object::is_being_deleted(&view.job.metadata) {
        manage(view, &mut step);
    }
    if satisfied && view.active.is_empty() && step.create.is_empty() && is_complete(view) {
        let message = "Reached expected number of succeeded pods";
        step.finish = Some(Finish::succeeded("CompletionsReached", message));
    }
    step
}

/// Without a number of completions one success is enough.
fn is_complete(view: &View<'_>) -> bool {
    match view.spec.completions {
        None => view.succeeded > 0,
        Some(completions) => view.succeeded >= completions,
    }
}

fn finish(view: &View<'_>) -> Option<Finish> {
    let told = |kind: &str| view.condition(kind).map(|c| (c.reason.clone(), c.message.clone()));
    let told = |kind: &str| told(kind).map(|(r, m)| (r.unwrap_or_default(), m.unwrap_or_default()));
    if let Some((reason, message)) = told(condition::SUCCESS_CRITERIA_MET) {
        return Some(Finish::succeeded(&reason, message));
    }
    if let Some((reason, message)) = told(condition::FAILURE_TARGET) {
        return Some(Finish::failed(&reason, message));
    }
    let fatal = view.pods.iter().filter(|pod| view.is_failed(pod)).find_map(|pod| match view.failure(pod) {
        Failure::FailsJob { message } => Some(message),
        _ => None,
    });
    if let Some(message) = fatal {
        return Some(Finish::failed("PodFailurePolicy", message));
    }
    if view.failed > view.backoff_limit() || restarted_too_often(view) {
        return Some(Finish::failed("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    }
    if deadline_in(view).is_some_and(|left| left.is_zero()) {
        return Some(Finish::failed("DeadlineExceeded", "Job was active longer than specified deadline"));
    }
    finish_of_indexes(view)
}

fn finish_of_indexes(view: &View<'_>) -> Option<Finish> {
    let indexes = view.indexes.as_ref()?;
    let failed = indexes.failed_total();
    if view.spec.max_failed_indexes.is_some_and(|most| failed > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Finish::failed("MaxFailedIndexesExceeded", message));
    }
    if failed > 0 && failed + indexes.succeeded.total() >= indexes.completions {
        return Some(Finish::failed("FailedIndexes", "Job has failed indexes"));
    }
    let message = policy::success(view.spec.success_policy.as_ref(), indexes.completions, &indexes.succeeded)?;
    Some(Finish::succeeded("SuccessPolicy", message))
}

/// Containers that are restarted in place count with `restartPolicy: OnFailure`.
fn restarted_too_often(view: &View<'_>) -> bool {
    let policy = view.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let running = view.pods.iter().filter(|pod| !pod::is_terminal(pod)).filter_map(|pod| pod.status.as_ref());
    let containers = running.flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    let restarts: i32 = containers.map(|c| c.restart_count).sum();
    if view.backoff_limit() == 0 { restarts > 0 } else { restarts >= view.backoff_limit() }
}

/// Time that is left of `activeDeadlineSeconds`.
fn deadline_in(view: &View<'_>) -> Option<Duration> {
    let seconds = view.spec.active_deadline_seconds.filter(|_| !view.is_suspended())?;
    let started = view.status.start_time.as_ref().map_or(view.now, |t| t.0);
    let due = time::after(started, Duration::from_secs(seconds.max(0).unsigned_abs()));
    Some(time::until(due, view.now))
}

fn manage(view: &View<'_>, step: &mut Step) {
    if view.is_suspended() {
        step.delete.clone_from(&view.active);
        step.forgives = true;
        return;
    }
    let wanted = wanted(view);
    let active = view::count(view.active.len());
    let surplus = usize::try_from(active - wanted).unwrap_or_default();
    step.delete = to_remove(view, surplus);
    if !step.delete.is_empty() {
        step.delete.truncate(BURST);
        step.forgives = true;
        return; // What is missing besides is made once these are seen to be gone.
    }
    let held = if view.replaces_only_failed() { view::count(view.terminating.len()) } else { 0 };
    let missing = usize::try_from(wanted - held - active).unwrap_or_default();
    if missing > 0 {
        create(view, missing.min(BURST), step);
    }
}

fn wanted(view: &View<'_>) -> i32 {
    match view.spec.completions {
        // One success tells the others to finish by themselves.
        None if view.succeeded > 0 => view::count(view.active.len()),
        None => view.parallelism(),
        Some(completions) => (completions - view.succeeded).min(view.parallelism()).max(0),
    }
}

/// Pods beyond `surplus`, and in an indexed Job all that share an index or have none.
fn to_remove(view: &View<'_>, surplus: usize) -> Vec<Arc<Pod>> {
    let mut left = view.active.clone();
    left.sort_by_cached_key(|pod| (earliness(pod), object::name(&pod.metadata).to_string()));
    let mut removed = Vec::new();
    if view.is_indexed() {
        let mut seen = BTreeSet::new();
        // The furthest of an index stays.
        left.reverse();
        left.retain(|pod| {
            let is_kept = view.index(pod).is_some_and(|index| seen.insert(index));
            if !is_kept {
                removed.push(Arc::clone(pod));
            }
            is_kept
        });
        left.reverse();
    }
    let more = surplus.saturating_sub(removed.len());
    removed.extend(left.into_iter().take(more));
    removed
}

/// Smaller has come less far: upstream's `ActivePods` order.
fn earliness(pod: &Pod) -> (bool, bool, bool, std::cmp::Reverse<Option<time::Timestamp>>) {
    let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let running = pod::phase(pod) == "Running";
    (!pod::node_name(pod).is_empty(), running, pod::is_ready(pod), std::cmp::Reverse(created))
}

fn create(view: &View<'_>, count: usize, step: &mut Step) {
    let per_index = view.spec.backoff_limit_per_index.is_some();
    if !per_index && let Some(left) = view.record.left(view.now) {
        step.recheck = Some(step.recheck.map_or(left, |recheck| recheck.min(left)));
        return;
    }
    let Some(indexes) = &view.indexes else {
        step.create = vec![Create::default(); count];
        return;
    };
    let mut taken: BTreeSet<i32> = view.active.iter().filter_map(|pod| view.index(pod)).collect();
    if view.replaces_only_failed() {
        taken.extend(view.terminating.iter().filter_map(|pod| view.index(pod)));
    }
    let is_pending = |index: &i32| {
        !taken.contains(index)
            && !indexes.succeeded.has(*index)
            && !indexes.failed.as_ref().is_some_and(|failed| failed.has(*index))
    };
    for index in (0..indexes.completions).filter(is_pending).take(count) {
        let replaces = indexes.delayed.get(&index).cloned();
        match replaces.as_ref().and_then(|pod| index_backoff(pod, view.now)) {
            Some(left) => step.recheck = Some(step.recheck.map_or(left, |recheck| recheck.min(left))),
            None => step.create.push(Create { index: Some(index), replaces }),
        }
    }
}

fn index_backoff(replaced: &Pod, now: time::Timestamp) -> Option<Duration> {
    let failures = u32::try_from(all_failures(replaced)).unwrap_or_default().saturating_add(1);
    backoff::left(failures, finished_at(replaced)?, now)
}

#[cfg(test)]
mod tests;
