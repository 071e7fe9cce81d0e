//! A Job and its pods, read once.

use crate::job::backoff::Record;
use crate::job::indexes::Indexes;
use crate::job::policy::{self, Failure};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use xebec_types::batch::{Job, JobCondition, JobSpec, JobStatus};
use xebec_types::core::Pod;
use xebec_types::time::Timestamp;
use xebec_types::{annotation, condition, finalizer, object, pod};

/// What is seen of a Job.
pub struct Observed<'a> {
    pub job: &'a Job,
    pub pods: &'a [Arc<Pod>],
    /// Pods (by uid) whose finalizer was removed, and that may still be shown with it.
    pub released: &'a HashSet<String>,
    /// Failures that were known before.
    pub record: Record,
    pub now: Timestamp,
}

/// What follows from it.
pub struct View<'a> {
    pub job: &'a Job,
    pub spec: &'a JobSpec,
    pub status: JobStatus,
    pub pods: &'a [Arc<Pod>],
    pub active: Vec<Arc<Pod>>,
    /// Being deleted and not ended yet.
    pub terminating: Vec<Arc<Pod>>,
    /// With those that ended and are not in the status yet.
    pub succeeded: i32,
    pub failed: i32,
    pub indexes: Option<IndexView>,
    pub record: Record,
    pub now: Timestamp,
    released: &'a HashSet<String>,
    uncounted: HashSet<String>,
}

/// What an indexed Job has more.
pub struct IndexView {
    pub completions: i32,
    /// In the status.
    pub(super) counted: Indexes,
    /// With those that succeeded since.
    pub(super) succeeded: Indexes,
    /// Of Jobs with a back-off limit for each index.
    pub(super) failed: Option<Indexes>,
    /// Failed pods that keep their finalizer until a replacement carries their count on.
    pub(super) delayed: BTreeMap<i32, Arc<Pod>>,
}

impl<'a> View<'a> {
    #[must_use]
    pub fn new(observed: &Observed<'a>) -> Option<Self> {
        let spec = observed.job.spec.as_ref()?;
        let status = observed.job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let (done, broken) = (uncounted.succeeded.unwrap_or_default(), uncounted.failed.unwrap_or_default());
        let pods = observed.pods.iter().cloned();
        let (active, rest): (Vec<_>, Vec<_>) = pods.partition(|pod| pod::is_active(pod));
        let is_terminating = |pod: &&Arc<Pod>| pod::is_terminating(pod) && !pod::is_terminal(pod);
        let mut view = Self {
            job: observed.job,
            spec,
            pods: observed.pods,
            active,
            terminating: rest.iter().filter(is_terminating).cloned().collect(),
            succeeded: 0,
            failed: 0,
            indexes: None,
            record: observed.record,
            now: observed.now,
            released: observed.released,
            uncounted: done.iter().chain(&broken).cloned().collect(),
            status,
        };
        let fresh = view.fresh();
        let (succeeded, failed): (Vec<_>, Vec<_>) =
            fresh.into_iter().filter(|p| is_succeeded(p) || view.is_failed(p)).partition(|p| is_succeeded(p));
        let counted = failed.iter().filter(|pod| view.failure(pod) != Failure::Ignored).count();
        view.succeeded = view.status.succeeded.unwrap_or_default() + count(succeeded.len() + done.len());
        view.failed = view.status.failed.unwrap_or_default() + count(counted + broken.len());
        view.record = observed.record.with(&succeeded, &failed);
        if view.is_indexed() {
            let indexes = IndexView::new(&view);
            view.succeeded = indexes.succeeded.total();
            view.indexes = Some(indexes);
        }
        Some(view)
    }

    pub fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    pub fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    pub fn parallelism(&self) -> i32 {
        self.spec.parallelism.unwrap_or(1)
    }

    pub fn backoff_limit(&self) -> i32 {
        let default = if self.spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        self.spec.backoff_limit.unwrap_or(default)
    }

    /// `podReplacementPolicy: Failed`: a pod that is being deleted is waited for.
    pub fn replaces_only_failed(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    /// A pod that is deleted before it ends never says how it would have ended: it failed.
    pub fn is_failed(&self, pod: &Pod) -> bool {
        let gone = pod::is_terminating(pod) && !is_succeeded(pod) && !self.replaces_only_failed();
        pod::phase(pod) == "Failed" || gone
    }

    pub(super) fn failure(&self, pod: &Pod) -> Failure {
        policy::failure(self.spec.pod_failure_policy.as_ref(), pod)
    }

    /// Whether the pod still waits to be counted.
    pub fn is_tracked(&self, pod: &Pod) -> bool {
        has_finalizer(pod) && !self.released.contains(object::uid(&pod.metadata))
    }

    pub fn is_uncounted(&self, pod: &Pod) -> bool {
        self.uncounted.contains(object::uid(&pod.metadata))
    }

    /// Tracked pods that the status does not know.
    fn fresh(&self) -> Vec<Arc<Pod>> {
        let pods = self.pods.iter().filter(|pod| self.is_tracked(pod) && !self.is_uncounted(pod));
        pods.filter(|pod| !self.is_indexed() || self.index(pod).is_some()).cloned().collect()
    }

    /// The index of the pod, if it is one of the Job's.
    pub fn index(&self, pod: &Pod) -> Option<i32> {
        index(pod).filter(|index| *index < self.spec.completions.unwrap_or_default())
    }

    pub fn condition(&self, kind: &str) -> Option<&JobCondition> {
        let conditions = self.status.conditions.iter().flatten();
        conditions.into_iter().find(|c| c.type_ == kind && c.status == condition::TRUE)
    }
}

impl IndexView {
    fn new(view: &View<'_>) -> Self {
        let completions = view.spec.completions.unwrap_or_default();
        let parse = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        let counted = parse(&view.status.completed_indexes);
        let mut succeeded = counted.clone();
        let tracked: Vec<_> = view.pods.iter().filter(|pod| view.is_tracked(pod)).collect();
        for pod in tracked.iter().filter(|pod| is_succeeded(pod)) {
            if let Some(index) = view.index(pod) {
                succeeded.insert(index);
            }
        }
        let mut indexes = Self { completions, counted, succeeded, failed: None, delayed: BTreeMap::new() };
        let Some(limit) = view.spec.backoff_limit_per_index else { return indexes };
        let mut failed = parse(&view.status.failed_indexes);
        for pod in tracked.iter().filter(|pod| view.is_failed(pod)) {
            let fails = match view.failure(pod) {
                Failure::FailsIndex => true,
                Failure::Counts => failure_count(pod) >= limit,
                _ => false,
            };
            if let Some(index) = view.index(pod).filter(|_| fails) {
                failed.insert(index);
            }
        }
        let replaced: BTreeSet<i32> = view.active.iter().filter_map(|pod| view.index(pod)).collect();
        for pod in tracked.into_iter().filter(|pod| view.is_failed(pod)) {
            let Some(index) = view.index(pod) else { continue };
            if indexes.succeeded.has(index) || failed.has(index) || replaced.contains(&index) {
                continue;
            }
            let later =
                |known: &Arc<Pod>| (all_failures(known), finished_at(known)) <= (all_failures(pod), finished_at(pod));
            if indexes.delayed.get(&index).is_none_or(later) {
                indexes.delayed.insert(index, Arc::clone(pod));
            }
        }
        indexes.failed = Some(failed);
        indexes
    }

    pub fn failed_total(&self) -> i32 {
        self.failed.as_ref().map_or(0, Indexes::total)
    }
}

pub(super) fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

pub(super) fn is_succeeded(pod: &Pod) -> bool {
    pod::phase(pod) == "Succeeded"
}

pub(super) fn has_finalizer(pod: &Pod) -> bool {
    object::has_finalizer(&pod.metadata, finalizer::JOB_TRACKING)
}

pub(super) fn index(pod: &Pod) -> Option<i32> {
    let index = object::annotation(&pod.metadata, annotation::JOB_COMPLETION_INDEX)?;
    index.parse().ok().filter(|index| *index >= 0)
}

/// Failures of the index before this pod, which it carries in annotations.
pub(super) fn failure_count(pod: &Pod) -> i32 {
    number(pod, annotation::JOB_INDEX_FAILURE_COUNT)
}

pub(super) fn ignored_failure_count(pod: &Pod) -> i32 {
    number(pod, annotation::JOB_INDEX_IGNORED_FAILURE_COUNT)
}

pub(super) fn all_failures(pod: &Pod) -> i32 {
    failure_count(pod).saturating_add(ignored_failure_count(pod))
}

fn number(pod: &Pod, key: &str) -> i32 {
    object::annotation(&pod.metadata, key).and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// When the pod ended: its last container, or else when it stopped being ready or was deleted.
pub(super) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let containers = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let ended = containers.filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()).map(|t| t.0);
    let unready = || {
        let ready = pod::find_condition(pod, condition::READY).filter(|c| c.status == condition::FALSE)?;
        ready.last_transition_time.as_ref().map(|t| t.0)
    };
    let deleted = || pod.metadata.deletion_timestamp.as_ref().map(|t| t.0);
    let created = || pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    ended.max().or_else(unready).or_else(deleted).or_else(created)
}
