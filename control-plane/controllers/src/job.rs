//! Runs pods to completion, as upstream's `job` controller.

mod account;
mod backoff;
mod indexes;
mod policy;
mod release;
mod step;
mod template;
#[cfg(test)]
mod testing;
mod view;

use crate::Context;
use crate::control::pods::{Owner, Pods};
use crate::control::{self, Reconcile, Written, after};
pub use account::{Account, Done, account};
use backoff::Records;
use release::{Orphans, Released};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
pub use step::{Finish, Step, step};
use tokio_util::sync::CancellationToken;
pub use view::{Observed, View};
use xebec_client::{Api, Error, Key, Outcome, PostParams, Workqueue};
use xebec_types::batch::{Job, JobStatus};
use xebec_types::core::Pod;
use xebec_types::time::Timestamp;
use xebec_types::{condition, finalizer, object, pod};

/// Pod events within this time make one sync.
const GATHER: Duration = Duration::from_millis(20);
/// The value of `spec.managedBy` that means this controller.
const MANAGER: &str = "kubernetes.io/job-controller";

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let pods = Pods::<Job>::new(&context, "job-controller");
    let orphans = Orphans {
        client: context.client.clone(),
        pods: Arc::clone(&pods.pods),
        jobs: Arc::clone(&pods.owners),
        queue: Workqueue::new(),
    };
    let controller = Controller {
        pods,
        written: Arc::default(),
        released: Arc::default(),
        records: Arc::default(),
        queue: Workqueue::new(),
    };
    controller.watch();
    orphans.watch();
    controller.pods.synced().await;
    tokio::join!(control::run(&controller, &stop), control::run(&orphans, &stop));
}

/// When the Job completed or failed for good.
pub(crate) fn finished_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let is_last = |kind: &str| [condition::COMPLETE, condition::FAILED].contains(&kind);
    let last = conditions.into_iter().find(|c| is_last(&c.type_) && c.status == condition::TRUE)?;
    Some(last.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0))
}

pub(crate) fn is_finished(job: &Job) -> bool {
    finished_at(job).is_some()
}

struct Controller {
    pods: Pods<Job>,
    written: Arc<Written<String>>,
    released: Arc<Released>,
    records: Arc<Records>,
    queue: Workqueue<Key>,
}

impl Owner for Job {
    const FINALIZER: Option<&'static str> = Some(finalizer::JOB_TRACKING);

    fn selects(&self, pod: &Pod) -> bool {
        let selector = self.spec.as_ref().and_then(|s| s.selector.as_ref());
        selector.is_some_and(|s| !object::is_empty_selector(s) && object::selects(s, pod.metadata.labels.as_ref()))
    }
}

impl Reconcile for Controller {
    const KIND: &'static str = "job";
    const WORKERS: usize = 5;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(job) = self.pods.owners.get_key(key) else { return Ok(Outcome::Done) };
        let manager = job.spec.as_ref().and_then(|s| s.managed_by.as_deref());
        if is_finished(&job) || manager.is_some_and(|m| m != MANAGER) {
            return Ok(Outcome::Done);
        }
        let uid = object::uid(&job.metadata).to_string();
        if self.written.is_waiting(&uid) {
            return Ok(Outcome::After(GATHER));
        }
        let satisfied = self.pods.expectations.satisfied(&uid);
        let pods = self.pods.claimed(&*job).await?;
        let (released, record) = (self.released.of(&uid), self.records.get(&uid));
        let observed = Observed { job: &job, pods: &pods, released: &released, record, now: self.pods.now() };
        let Some(view) = View::new(&observed) else { return Ok(Outcome::Done) };
        let step = step(&view, satisfied);
        let (done, result) = self.apply(&view, &step, satisfied).await;
        let finish = step.finish.as_ref().filter(|_| result.is_ok());
        self.track(&view, finish, account(&view, finish, done)).await?;
        result?;
        Ok(after(step.recheck))
    }
}

impl Controller {
    fn watch(&self) {
        self.pods.watch(&self.queue, GATHER);
        let released = Arc::clone(&self.released);
        self.pods.pods.on_change(move |change| released.observe(change));
        let (written, released, records) =
            (Arc::clone(&self.written), Arc::clone(&self.released), Arc::clone(&self.records));
        self.pods.owners.on_change(move |change| {
            let Some(job) = change.object() else { return };
            let uid = object::uid(&job.metadata).to_string();
            written.observe(&uid, change);
            if change.is_deletion() || is_finished(job) {
                released.forget(&uid);
                records.forget(&uid);
            }
        });
    }

    async fn apply(&self, view: &View<'_>, step: &Step, satisfied: bool) -> (Done, Result<(), Error>) {
        let mut done = Done { managed: satisfied && step.finish.is_none(), ..Done::default() };
        let result = self.delete(view, step).await;
        if result.is_ok() {
            done.deleted = view::count(step.delete.len());
            done.deleted_ready = view::count(step.delete.iter().filter(|pod| pod::is_ready(pod)).count());
        }
        if result.is_err() || step.create.is_empty() {
            return (done, result);
        }
        let mut wanted = step.create.iter();
        let pod = || template::new_pod(view.job, wanted.next().unwrap_or(&step::Create::default()));
        let result = self.pods.create_many(view.job, step.create.len(), pod).await;
        if result.is_ok() {
            done.created = view::count(step.create.len());
        }
        (done, result)
    }

    async fn delete(&self, view: &View<'_>, step: &Step) -> Result<(), Error> {
        if step.forgives {
            // Without its finalizer a deleted pod is not counted as one that failed.
            let uid = object::uid(&view.job.metadata);
            self.released.release(&self.pods.client, uid, &step.delete).await.1?;
        }
        self.pods.delete_many(view.job, &step.delete).await
    }

    /// Names what ended, lets it go, counts it; and ends the Job once nothing is left.
    async fn track(&self, view: &View<'_>, finish: Option<&Finish>, account: Account) -> Result<(), Error> {
        let Account { status, release, is_partial, suspended } = account;
        let mut job = view.job.clone();
        let uid = object::uid(&job.metadata).to_string();
        if job.status.as_ref() != Some(&status) {
            job = self.write(job, status).await?;
            self.tell_suspended(view.job, suspended);
        }
        self.records.set(&uid, view.record);
        let (free, result) = self.released.release(&self.pods.client, &uid, &release).await;
        let tracked = view.pods.iter().filter(|pod| view.is_tracked(pod)).map(|pod| object::uid(&pod.metadata));
        let tracked: HashSet<String> = tracked.filter(|uid| !free.contains(*uid)).map(String::from).collect();
        let mut status = job.status.clone().unwrap_or_default();
        let counted = account::settle(&mut status, &tracked);
        let finish = finish.filter(|_| !is_partial && result.is_ok());
        let finish = finish.filter(|finish| account::conclude(&mut status, finish, self.pods.now()));
        if counted || finish.is_some() {
            let succeeded = status.succeeded.unwrap_or_default();
            self.write(job, status).await?;
            if let Some(finish) = finish {
                self.tell_finished(view, finish, succeeded);
            }
        }
        if is_partial {
            self.queue.add_after(Key::of(&view.job.metadata), GATHER);
        }
        result
    }

    /// Writes a status on top of exactly this version of the Job: a count that was made from another
    /// one would be wrong.
    async fn write(&self, job: Job, status: JobStatus) -> Result<Job, Error> {
        let api: Api<Job> = Api::namespaced(self.pods.client.clone(), object::namespace(&job.metadata));
        let uid = object::uid(&job.metadata).to_string();
        let updated = Job { status: Some(status), ..job };
        let name = object::name(&updated.metadata);
        let written = api.replace_status(name, &PostParams::default(), &updated).await?;
        self.written.wrote(&uid, &written, &self.pods.owners);
        Ok(written)
    }

    fn tell_suspended(&self, job: &Job, suspended: Option<bool>) {
        match suspended {
            Some(true) => self.pods.recorder.normal(job, "Suspended", "Job suspended"),
            Some(false) => self.pods.recorder.normal(job, "Resumed", "Job resumed"),
            None => {}
        }
    }

    fn tell_finished(&self, view: &View<'_>, finish: &Finish, succeeded: i32) {
        let recorder = &self.pods.recorder;
        if !finish.succeeded {
            return recorder.warning(view.job, &finish.reason, finish.message.as_str());
        }
        if view.spec.completions.is_some_and(|wanted| succeeded > wanted) {
            let message = "Too many succeeded pods running after completion count reached";
            recorder.warning(view.job, "TooManySucceededPods", message);
        }
        recorder.normal(view.job, "Completed", "Job completed");
    }
}
