//! Starts Jobs on a schedule, as upstream's `cronjob` controller.

mod missed;
mod step;

use crate::Context;
use crate::control::pods::{self, BY_CONTROLLER};
use crate::control::{self, Reconcile, Written, after};
use std::sync::Arc;
use std::time::Duration;
pub use step::{Plan, Start, step};
use tokio_util::sync::CancellationToken;
use xebec_client::{
    Api, Client, DeleteParams, Error, EventRecorder, Informer, Key, Outcome, PostParams, Workqueue, is_already_exists,
    is_conflict, is_not_found,
};
use xebec_clock::Clock;
use xebec_types::batch::{CronJob, CronJobStatus, Job};
use xebec_types::{object, time};

/// While the informers do not show what was written.
const GATHER: Duration = Duration::from_millis(20);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        crons: context.informers.informer(),
        jobs: context.informers.informer(),
        recorder: context.recorder("cronjob-controller"),
        written: Arc::default(),
        client: context.client.clone(),
        clock: context.config.clock.clone(),
        queue: Workqueue::new(),
    };
    controller.watch();
    tokio::join!(controller.crons.synced(), controller.jobs.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    client: Client,
    clock: Clock,
    crons: Arc<Informer<CronJob>>,
    jobs: Arc<Informer<Job>>,
    recorder: EventRecorder,
    written: Arc<Written<String>>,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "cronjob";
    const WORKERS: usize = 5;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(cron) = self.crons.get_key(key) else { return Ok(Outcome::Done) };
        let uid = object::uid(&cron.metadata).to_string();
        if self.written.is_waiting(&uid) {
            return Ok(Outcome::After(GATHER));
        }
        let jobs = self.jobs.by_index(BY_CONTROLLER, &uid);
        if self.is_behind(&cron, &jobs).await? {
            return Ok(Outcome::After(GATHER));
        }
        let plan = step(&cron, &jobs, time::at(self.clock.now()));
        for (kind, reason, message) in &plan.events {
            self.recorder.record(&*cron, *kind, reason, message.as_str());
        }
        for job in plan.surplus.iter().chain(&plan.replaced) {
            self.delete(&cron, job).await?;
        }
        let mut status = plan.status;
        if let Some(start) = &plan.start {
            self.start(&cron, start, &mut status).await?;
        }
        self.write_status(&cron, status).await?;
        Ok(after(plan.next))
    }
}

impl Controller {
    fn watch(&self) {
        self.jobs.add_index(BY_CONTROLLER, |job| pods::controller_index(&job.metadata));
        let (queue, written) = (self.queue.clone(), Arc::clone(&self.written));
        self.crons.on_change(move |change| {
            if let Some(cron) = change.object() {
                written.observe(&object::uid(&cron.metadata).to_string(), change);
            }
            queue.add(change.key());
        });
        let (queue, written) = (self.queue.clone(), Arc::clone(&self.written));
        self.jobs.on_change(move |change| {
            let Some(job) = change.object() else { return };
            if let Some(owner) = object::controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob") {
                written.observe(&owner.uid, change);
                queue.add(Key::new(object::namespace(&job.metadata), &owner.name));
            }
        });
    }

    /// Whether a Job that is listed as active is there, and the informer, which follows a watch of its own, does not show it yet:
    /// taken for gone, another one would be started beside it.
    async fn is_behind(&self, cron: &CronJob, jobs: &[Arc<Job>]) -> Result<bool, Error> {
        let active = cron.status.iter().flat_map(|status| status.active.iter().flatten());
        for listed in active.filter(|listed| !jobs.iter().any(|job| job.metadata.uid == listed.uid)) {
            let Some(name) = listed.name.as_deref().filter(|name| !name.is_empty()) else { continue };
            let job = self.jobs_api(cron).get_opt(name).await?;
            let is_ours = |job: &Job| object::is_controlled_by(&job.metadata, object::uid(&cron.metadata));
            if job.is_some_and(|job| job.metadata.uid == listed.uid && is_ours(&job)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Starts a Job. One that exists under the name and is ours was started by somebody who died
    /// before it was noted.
    async fn start(&self, cron: &CronJob, start: &Start, status: &mut CronJobStatus) -> Result<(), Error> {
        let api = self.jobs_api(cron);
        let name = object::name(&start.job.metadata);
        let uid = object::uid(&cron.metadata);
        let job = match api.create(&PostParams::default(), &start.job).await {
            Ok(job) => {
                self.written.wrote(&uid.to_string(), &job, &self.jobs);
                self.recorder.normal(cron, "SuccessfulCreate", format!("Created job {name}"));
                job
            }
            Err(error) if is_already_exists(&error) => {
                let taken = api.get(name).await?;
                if !object::is_controlled_by(&taken.metadata, uid) {
                    return Err(error);
                }
                taken
            }
            Err(Error::Api(answer)) if pods::is_terminating_namespace(&answer) => return Ok(()),
            Err(error) => {
                let message = format!("Error creating job: {}", pods::message(&error));
                self.recorder.warning(cron, "FailedCreate", message);
                return Err(error);
            }
        };
        if !crate::job::is_finished(&job) {
            status.active.get_or_insert_default().push(step::reference(&job));
        }
        status.last_schedule_time = Some(time::time(start.at));
        Ok(())
    }

    async fn delete(&self, cron: &CronJob, job: &Job) -> Result<(), Error> {
        let name = object::name(&job.metadata);
        let preconditions = pods::exactly(&job.metadata).preconditions;
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        match self.jobs_api(cron).delete(name, &params).await {
            Ok(_) => {
                self.recorder.normal(cron, "SuccessfulDelete", format!("Deleted job {name}"));
                Ok(())
            }
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(error) => {
                let message = format!("Deleted job: {}", pods::message(&error));
                self.recorder.warning(cron, "FailedDelete", message);
                Err(error)
            }
        }
    }

    async fn write_status(&self, cron: &CronJob, status: CronJobStatus) -> Result<(), Error> {
        if cron.status.clone().unwrap_or_default() == status {
            return Ok(());
        }
        let api: Api<CronJob> = Api::namespaced(self.client.clone(), object::namespace(&cron.metadata));
        let updated = CronJob { status: Some(status), ..cron.clone() };
        match api.replace_status(object::name(&cron.metadata), &PostParams::default(), &updated).await {
            Ok(written) => self.written.wrote(&object::uid(&cron.metadata).to_string(), &written, &self.crons),
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn jobs_api(&self, cron: &CronJob) -> Api<Job> {
        Api::namespaced(self.client.clone(), object::namespace(&cron.metadata))
    }
}
