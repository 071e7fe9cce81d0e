//! Keeps a ReplicaSet's pods at their number, as upstream's `replicaset` controller.

mod rank;
mod status;
mod step;

use crate::Context;
use crate::control::{self, Claim, Expectations};
pub(crate) use status::Counts;
use std::sync::Arc;
use std::time::Duration;
pub use step::{Step, step};
use tokio_util::sync::CancellationToken;
use xebec_client::kube::api::Preconditions;
use xebec_client::{
    Api, Change, DeleteParams, Error, EventRecorder, Informer, Key, Outcome, PostParams, Workqueue, chain, is_not_found,
};
use xebec_types::apps::ReplicaSet;
use xebec_types::core::Pod;
use xebec_types::{object, pod, time};

/// Pods created or deleted in one sync, as upstream's `BurstReplicas`.
const BURST: usize = 500;
/// Pod events within this time make one sync.
const GATHER: Duration = Duration::from_millis(10);
const WORKERS: usize = 5;
/// Pods by their controller's uid; orphans by `orphan/<namespace>`.
pub(crate) const BY_CONTROLLER: &str = "controller";

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        sets: context.informers.informer(),
        pods: context.informers.informer(),
        recorder: context.recorder("replicaset-controller"),
        expectations: Arc::default(),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    tokio::join!(controller.sets.synced(), controller.pods.synced());
    let sync = |key: Key| {
        let controller = &controller;
        async move { controller.reconcile(&key).await }
    };
    controller.queue.run(WORKERS, &stop, sync).await;
}

pub(crate) fn controller_index(meta: &xebec_types::ObjectMeta) -> Vec<String> {
    vec![match object::controller_of(meta) {
        Some(owner) => owner.uid.clone(),
        None => orphans(object::namespace(meta)),
    }]
}

pub(crate) fn orphans(namespace: &str) -> String {
    format!("orphan/{namespace}")
}

struct Controller {
    context: Context,
    sets: Arc<Informer<ReplicaSet>>,
    pods: Arc<Informer<Pod>>,
    recorder: EventRecorder,
    expectations: Arc<Expectations>,
    queue: Workqueue<Key>,
}

impl Controller {
    fn watch(&self) {
        self.pods.add_index(BY_CONTROLLER, |pod| controller_index(&pod.metadata));
        self.sets.add_index(BY_CONTROLLER, |set| controller_index(&set.metadata));
        let (queue, expectations) = (self.queue.clone(), Arc::clone(&self.expectations));
        self.sets.on_change(move |change| {
            if let (Some(old), None) = (&change.old, &change.new) {
                expectations.forget(object::uid(&old.metadata));
            }
            queue.add(change.key());
        });
        let (queue, expectations) = (self.queue.clone(), Arc::clone(&self.expectations));
        let sets = Arc::clone(&self.sets);
        self.pods.on_change(move |change| {
            observe(&expectations, change);
            for pod in [&change.old, &change.new].into_iter().flatten() {
                let namespace = object::namespace(&pod.metadata);
                match object::controller_of(&pod.metadata) {
                    Some(owner) if owner.kind == "ReplicaSet" => {
                        queue.add_after(Key::new(namespace, &owner.name), GATHER);
                    }
                    Some(_) => {}
                    None => selecting(&sets, pod).for_each(|key| queue.add_after(key, GATHER)),
                }
            }
        });
    }

    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(set) = self.sets.get_key(key) else { return Outcome::Done };
        match self.sync(&set).await {
            Ok(Some(wait)) => Outcome::After(wait),
            Ok(None) => Outcome::Done,
            Err(error) => {
                let replicaset = tracing::field::display(key);
                tracing::debug!(replicaset, error = chain(&error), "sync failed");
                Outcome::Retry
            }
        }
    }

    async fn sync(&self, set: &Arc<ReplicaSet>) -> Result<Option<Duration>, Error> {
        let uid = object::uid(&set.metadata);
        let satisfied = self.expectations.satisfied(uid);
        let pods = self.claimed(set).await?;
        let mut problem = None;
        let step = step(set, &pods, &self.related(set), time::now());
        if satisfied && !object::is_being_deleted(&set.metadata) {
            problem = self.apply(set, &step).await.err();
        }
        let counts = Counts::of(set, &pods, time::now());
        let failure = problem.as_ref().map(|(reason, error)| (*reason, error.to_string()));
        let status = status::status(set, &counts, failure.as_ref(), time::now());
        self.write_status(set, status).await?;
        match problem {
            Some((_, error)) => Err(error),
            None => Ok(step.recheck),
        }
    }

    /// The set's pods, after adopting and releasing.
    async fn claimed(&self, set: &Arc<ReplicaSet>) -> Result<Vec<Arc<Pod>>, Error> {
        let client = &self.context.client;
        let uid = object::uid(&set.metadata);
        let mut pods = self.pods.by_index(BY_CONTROLLER, uid);
        pods.extend(self.pods.by_index(BY_CONTROLLER, &orphans(object::namespace(&set.metadata))));
        let mut own = Vec::with_capacity(pods.len());
        for pod in pods {
            match control::claim(&pod.metadata, &set.metadata, step::selects(set, &pod)) {
                Claim::Own => own.push(pod),
                Claim::Adopt if pod::is_active(&pod) => {
                    control::adopt(client, &*pod, &**set).await?;
                    own.push(pod);
                }
                Claim::Release => control::release(client, &*pod, uid).await?,
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        Ok(own)
    }

    /// Active pods of every ReplicaSet of the same owner, by which crowded nodes are told.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let Some(owner) = object::controller_of(&set.metadata) else { return Vec::new() };
        let siblings = self.sets.by_index(BY_CONTROLLER, &owner.uid);
        let uids = siblings.iter().map(|s| object::uid(&s.metadata).to_string());
        let pods = uids.flat_map(|uid| self.pods.by_index(BY_CONTROLLER, &uid));
        pods.filter(|pod| pod::is_active(pod)).collect()
    }

    async fn apply(&self, set: &Arc<ReplicaSet>, step: &Step) -> Result<(), (&'static str, Error)> {
        let uid = object::uid(&set.metadata);
        if step.create > 0 {
            let count = step.create.min(BURST);
            self.expectations.expect_creations(uid, count);
            let (created, result) = control::slow_start(count, || self.create(set)).await;
            // A creation that failed or was not tried will not be seen.
            (created..count).for_each(|_| self.expectations.creation_observed(uid));
            result.map_err(|error| ("FailedCreate", error))?;
        }
        let victims = &step.delete[..step.delete.len().min(BURST)];
        let uids = victims.iter().map(|pod| object::uid(&pod.metadata));
        if !victims.is_empty() {
            self.expectations.expect_deletions(uid, uids);
        }
        let work = victims.iter().cloned().map(|pod| async move { self.delete(set, &pod).await });
        let deletions = control::in_parallel(work).await;
        let failed = deletions.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err(("FailedDelete", error)))
    }

    async fn create(&self, set: &Arc<ReplicaSet>) -> Result<(), Error> {
        let name = object::name(&set.metadata);
        let template = set.spec.as_ref().and_then(|s| s.template.as_ref());
        let Some(template) = template else { return Ok(()) };
        let pod = control::pod_from_template(template, name, control::controller_ref(&**set));
        let api = self.api(set);
        match api.create(&PostParams::default(), &pod).await {
            Ok(pod) => {
                let pod = object::name(&pod.metadata);
                self.recorder.normal(&**set, "SuccessfulCreate", format!("Created pod: {pod}"));
                Ok(())
            }
            // The namespace is going away and so is the set.
            Err(Error::Api(status)) if is_terminating_namespace(&status) => {
                let uid = object::uid(&set.metadata);
                self.expectations.creation_observed(uid);
                Ok(())
            }
            Err(error) => {
                let message = format!("Error creating: {}", message(&error));
                self.recorder.warning(&**set, "FailedCreate", message);
                Err(error)
            }
        }
    }

    async fn delete(&self, set: &Arc<ReplicaSet>, pod: &Pod) -> Result<(), Error> {
        let name = object::name(&pod.metadata);
        let uid = object::uid(&pod.metadata);
        let preconditions = Preconditions { uid: Some(uid.into()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.api(set).delete(name, &params).await {
            Ok(_) => {
                self.recorder.normal(&**set, "SuccessfulDelete", format!("Deleted pod: {name}"));
                Ok(())
            }
            Err(error) => {
                self.expectations.deletion_observed(object::uid(&set.metadata), uid);
                if is_not_found(&error) {
                    return Ok(());
                }
                let message = format!("Error deleting: {}", message(&error));
                self.recorder.warning(&**set, "FailedDelete", message);
                Err(error)
            }
        }
    }

    async fn write_status(
        &self,
        set: &Arc<ReplicaSet>,
        status: Option<xebec_types::apps::ReplicaSetStatus>,
    ) -> Result<(), Error> {
        let Some(status) = status else { return Ok(()) };
        let mut updated = ReplicaSet::clone(set);
        updated.status = Some(status);
        let namespace = object::namespace(&set.metadata);
        let api: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), namespace);
        let name = object::name(&set.metadata);
        match api.replace_status(name, &PostParams::default(), &updated).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn api(&self, set: &ReplicaSet) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), object::namespace(&set.metadata))
    }
}

fn observe(expectations: &Expectations, change: &Change<Pod>) {
    let Some(pod) = change.object() else { return };
    let Some(owner) = object::controller_of(&pod.metadata) else { return };
    if change.old.is_none() {
        expectations.creation_observed(&owner.uid);
    }
    if change.new.is_none() || pod::is_terminating(pod) {
        expectations.deletion_observed(&owner.uid, object::uid(&pod.metadata));
    }
}

/// The sets in whose selector an orphan fell.
fn selecting<'a>(sets: &'a Informer<ReplicaSet>, pod: &'a Pod) -> impl Iterator<Item = Key> + use<'a> {
    let sets = sets.list_namespace(object::namespace(&pod.metadata));
    sets.into_iter().filter(|set| step::selects(set, pod)).map(|set| Key::of(&set.metadata))
}

/// The server's words without the reason that `Display` adds.
pub(crate) fn message(error: &Error) -> String {
    match error {
        Error::Api(status) => status.message.clone(),
        other => chain(other),
    }
}

pub(crate) fn is_terminating_namespace(status: &xebec_client::kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|d| &d.causes);
    status.reason == "Forbidden" && causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}
