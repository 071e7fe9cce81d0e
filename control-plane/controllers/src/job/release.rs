//! Letting pods go: the tracking finalizer, removed from pods that were counted or that no Job will
//! count any more.

use crate::control::{self, Reconcile};
use crate::job::is_finished;
use crate::job::view::has_finalizer;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xebec_client::{Api, Change, Client, Error, Informer, Key, Outcome, Patch, PatchParams, Workqueue, is_not_found};
use xebec_types::batch::Job;
use xebec_types::core::Pod;
use xebec_types::{finalizer, object};

/// Pods that were let go and may still be shown with their finalizer, by their Job's uid.
#[derive(Default)]
pub(super) struct Released(Mutex<HashMap<String, HashSet<String>>>);

impl Released {
    pub(super) fn of(&self, job: &str) -> HashSet<String> {
        self.lock().get(job).cloned().unwrap_or_default()
    }

    pub(super) fn observe(&self, change: &Change<Pod>) {
        let Some(pod) = change.object() else { return };
        if change.new.as_ref().is_some_and(|pod| has_finalizer(pod)) {
            return;
        }
        if let Some(owner) = object::controller_of(&pod.metadata) {
            self.remove(&owner.uid, object::uid(&pod.metadata));
        }
    }

    pub(super) fn forget(&self, job: &str) {
        self.lock().remove(job);
    }

    fn add(&self, job: &str, pods: &[Arc<Pod>]) {
        let uids = pods.iter().map(|pod| object::uid(&pod.metadata).to_string());
        self.lock().entry(job.into()).or_default().extend(uids);
    }

    fn remove(&self, job: &str, pod: &str) {
        let mut all = self.lock();
        if let Some(released) = all.get_mut(job) {
            released.remove(pod);
            if released.is_empty() {
                all.remove(job);
            }
        }
    }

    /// Lets the pods go. Answers those that are free, and the first error.
    pub(super) async fn release(
        &self,
        client: &Client,
        job: &str,
        pods: &[Arc<Pod>],
    ) -> (HashSet<String>, Result<(), Error>) {
        self.add(job, pods);
        let work = pods.iter().cloned().map(|pod| async move {
            let uid = object::uid(&pod.metadata).to_string();
            match remove_finalizer(client, &pod).await {
                Ok(()) => Ok(uid),
                Err(error) => {
                    self.remove(job, &uid);
                    Err(error)
                }
            }
        });
        let (mut free, mut result) = (HashSet::new(), Ok(()));
        for done in control::in_parallel(work).await {
            match done {
                Ok(uid) => _ = free.insert(uid),
                Err(error) => result = Err(error),
            }
        }
        (free, result)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn remove_finalizer(client: &Client, pod: &Pod) -> Result<(), Error> {
    let patch = Patch::Strategic(json!({"metadata": {
        "uid": pod.metadata.uid,
        "$deleteFromPrimitiveList/finalizers": [finalizer::JOB_TRACKING],
    }}));
    let api: Api<Pod> = Api::namespaced(client.clone(), object::namespace(&pod.metadata));
    match api.patch(object::name(&pod.metadata), &PatchParams::default(), &patch).await {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Frees pods whose Job is gone, finished, or another one.
pub(super) struct Orphans {
    pub client: Client,
    pub pods: Arc<Informer<Pod>>,
    pub jobs: Arc<Informer<Job>>,
    pub queue: Workqueue<Key>,
}

impl Orphans {
    pub(super) fn watch(&self) {
        let (queue, jobs) = (self.queue.clone(), Arc::clone(&self.jobs));
        self.pods.on_change(move |change| {
            if change.new.as_ref().is_some_and(|pod| is_orphan(pod, &jobs)) {
                queue.add(change.key());
            }
        });
        let (queue, pods) = (self.queue.clone(), Arc::clone(&self.pods));
        self.jobs.on_change(move |change| {
            let ended = change.new.as_ref().is_none_or(|job| is_finished(job));
            let Some(job) = change.object().filter(|_| ended) else { return };
            let left = pods.by_index(control::pods::BY_CONTROLLER, object::uid(&job.metadata));
            left.iter().filter(|pod| has_finalizer(pod)).for_each(|pod| queue.add(Key::of(&pod.metadata)));
        });
    }
}

impl Reconcile for Orphans {
    const KIND: &'static str = "orphan pod";
    const WORKERS: usize = 16;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        if let Some(pod) = self.pods.get_key(key).filter(|pod| is_orphan(pod, &self.jobs)) {
            remove_finalizer(&self.client, &pod).await?;
        }
        Ok(Outcome::Done)
    }
}

/// Whether a tracked pod has nobody left who would count it. One that a Job may adopt is not lost.
fn is_orphan(pod: &Pod, jobs: &Informer<Job>) -> bool {
    if !has_finalizer(pod) {
        return false;
    }
    let namespace = object::namespace(&pod.metadata);
    match object::controller_of(&pod.metadata) {
        Some(owner) if owner.kind != "Job" => false,
        Some(owner) => match jobs.get(namespace, &owner.name) {
            Some(job) => job.metadata.uid.as_ref() != Some(&owner.uid) || is_finished(&job),
            None => true,
        },
        None => {
            let adopts = |job: &Arc<Job>| {
                control::pods::Owner::selects(&**job, pod)
                    && !object::is_being_deleted(&job.metadata)
                    && !is_finished(job)
            };
            !jobs.list_namespace(namespace).iter().any(adopts)
        }
    }
}
