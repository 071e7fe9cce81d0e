//! Deletes Jobs some time after they finished, as upstream's `ttl-after-finished` controller.

use crate::control::{self, Reconcile, pods};
use crate::{Context, job};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use xebec_client::{Api, DeleteParams, Error, Informer, Key, Outcome, Workqueue, is_conflict, is_not_found};
use xebec_types::batch::Job;
use xebec_types::object;
use xebec_types::time::{self, Timestamp};

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller { jobs: context.informers.informer(), context, queue: Workqueue::new() };
    // The context would keep the informers alive, and they this.
    let (queue, clock) = (controller.queue.clone(), controller.context.config.clock.clone());
    controller.jobs.on_change(move |change| {
        if change.new.as_ref().is_some_and(|job| expires_in(job, time::at(clock.now())).is_some()) {
            queue.add(change.key());
        }
    });
    controller.jobs.synced().await;
    control::run(&controller, &stop).await;
}

/// How long a finished Job has left, if it was given a time to live.
#[must_use]
pub fn expires_in(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if object::is_being_deleted(&job.metadata) {
        return None;
    }
    let ttl = Duration::from_secs(ttl.max(0).unsigned_abs().into());
    Some(time::until(time::after(job::finished_at(job)?, ttl), now))
}

struct Controller {
    context: Context,
    jobs: Arc<Informer<Job>>,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "job";
    const WORKERS: usize = 5;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let left = |job: &Job| expires_in(job, self.context.now());
        match self.jobs.get_key(key).and_then(|job| left(&job)) {
            None => return Ok(Outcome::Done),
            Some(wait) if !wait.is_zero() => return Ok(Outcome::After(wait)),
            Some(_) => {}
        }
        // The time to live may have been changed a moment ago.
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let Some(job) = api.get_opt(&key.name).await? else { return Ok(Outcome::Done) };
        match left(&job) {
            Some(wait) if wait.is_zero() => {}
            _ => return Ok(Outcome::Done),
        }
        let params =
            DeleteParams { preconditions: pods::exactly(&job.metadata).preconditions, ..DeleteParams::foreground() };
        match api.delete(&key.name, &params).await {
            Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(error),
            _ => Ok(Outcome::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(ttl: Value, finished: Option<i64>, expected: Option<u64>) {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let conditions = finished.map(
            |second| json!([{"type": "Complete", "status": "True", "lastTransitionTime": time::time(at(second))}]),
        );
        let job: Job = serde_json::from_value(json!({
            "spec": {"ttlSecondsAfterFinished": ttl, "template": {}}, "status": {"conditions": conditions},
        }))
        .expect("a Job");
        assert_eq!(expires_in(&job, at(1000)), expected.map(Duration::from_secs), "{ttl} {finished:?}");
    }

    #[test]
    fn a_finished_job_lives_as_long_as_it_was_given() {
        check(json!(100), Some(950), Some(50));
        check(json!(100), Some(800), Some(0));
        check(json!(0), Some(1000), Some(0));
        check(json!(100), None, None);
        check(Value::Null, Some(1), None);
    }
}
