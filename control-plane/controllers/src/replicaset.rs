//! Keeps a ReplicaSet's pods at their number, as upstream's `replicaset` controller; and a
//! ReplicationController's, which is the same under another name.

mod rank;
mod replicated;
mod status;
mod step;

use crate::Context;
use crate::control::pods::{self, BY_CONTROLLER, Pods};
use crate::control::{self, Reconcile, after};
use replicated::Replicated;
pub(crate) use status::Counts;
use std::sync::Arc;
use std::time::Duration;
pub use step::{Step, step};
use tokio_util::sync::CancellationToken;
use xebec_client::{Error, Key, Outcome, Workqueue};
use xebec_types::apps::ReplicaSet;
use xebec_types::core::{Pod, ReplicationController};
use xebec_types::{object, pod};

/// Pods created or deleted in one sync, as upstream's `BurstReplicas`.
const BURST: usize = 500;
/// Pod events within this time make one sync.
const GATHER: Duration = Duration::from_millis(10);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    work::<ReplicaSet>(context, stop).await;
}

/// Upstream's `replicationcontroller`.
pub(crate) async fn run_replication(context: Context, stop: CancellationToken) {
    work::<ReplicationController>(context, stop).await;
}

async fn work<K: Replicated>(context: Context, stop: CancellationToken) {
    let controller = Controller::<K> { pods: Pods::new(&context, K::COMPONENT), queue: Workqueue::new() };
    controller.pods.owners.add_index(BY_CONTROLLER, |set| pods::controller_index(set.meta()));
    controller.pods.watch(&controller.queue, GATHER);
    controller.pods.synced().await;
    control::run(&controller, &stop).await;
}

struct Controller<K> {
    pods: Pods<K>,
    queue: Workqueue<Key>,
}

impl<K: Replicated> Reconcile for Controller<K> {
    const KIND: &'static str = K::COMPONENT;
    const WORKERS: usize = 5;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(owner) = self.pods.owners.get_key(key) else { return Ok(Outcome::Done) };
        let uid = object::uid(owner.meta());
        let satisfied = self.pods.expectations.satisfied(uid);
        let pods = self.pods.claimed(&*owner).await?;
        let set = K::as_set(&owner);
        let step = step(&set, &pods, &self.related(&set), self.pods.now());
        let mut problem = None;
        if satisfied && !object::is_being_deleted(owner.meta()) {
            problem = self.apply(&owner, &set, &step).await.err();
        }
        let counts = Counts::of(&set, &pods, self.pods.now());
        let failure = problem.as_ref().map(|(reason, error)| (*reason, pods::message(error)));
        let status = status::status(&set, &counts, K::TELLS_TERMINATING, failure.as_ref(), self.pods.now());
        if let Some(status) = status {
            control::write_status(&self.pods.client, &owner.with_status(status)).await?;
        }
        match problem {
            Some((_, error)) => Err(error),
            None => Ok(after(step.recheck)),
        }
    }
}

impl<K: Replicated> Controller<K> {
    /// Active pods of every set of the same owner, by which crowded nodes are told.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let Some(owner) = object::controller_of(&set.metadata) else { return Vec::new() };
        let siblings = self.pods.owners.by_index(BY_CONTROLLER, &owner.uid);
        let uids = siblings.iter().map(|s| object::uid(s.meta()).to_string());
        let pods = uids.flat_map(|uid| self.pods.pods.by_index(BY_CONTROLLER, &uid));
        pods.filter(|pod| pod::is_active(pod)).collect()
    }

    async fn apply(&self, owner: &K, set: &ReplicaSet, step: &Step) -> Result<(), (&'static str, Error)> {
        let template = set.spec.as_ref().and_then(|s| s.template.as_ref());
        if let (Some(template), 1..) = (template, step.create) {
            let pod =
                || control::pod_from_template(template, object::name(owner.meta()), control::controller_ref(owner));
            let created = self.pods.create_many(owner, step.create.min(BURST), pod).await;
            created.map_err(|error| ("FailedCreate", error))?;
        }
        let victims = &step.delete[..step.delete.len().min(BURST)];
        let deleted = self.pods.delete_many(owner, victims).await;
        deleted.map_err(|error| ("FailedDelete", error))
    }
}
