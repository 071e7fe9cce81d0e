//! Rolls Deployments out over ReplicaSets, as upstream's `deployment` controller.

mod status;
mod step;
mod template;
mod view;

use crate::Context;
use crate::control::pods::{self, BY_CONTROLLER};
use crate::control::{self, Claim, Reconcile, Written, after};
use serde_json::json;
use status::Progress;
use std::sync::Arc;
use std::time::Duration;
pub use step::{Plan, Scale, step};
use tokio_util::sync::CancellationToken;
pub use view::View;
use xebec_client::kube::api::Preconditions;
use xebec_client::{
    Api, DeleteParams, Error, EventRecorder, Informer, Key, Outcome, Patch, PatchParams, PostParams, Workqueue,
    is_already_exists, is_conflict, is_not_found,
};
use xebec_types::apps::{Deployment, DeploymentStatus, ReplicaSet};
use xebec_types::core::Pod;
use xebec_types::{annotation, object, pod};

/// Status changes of ReplicaSets within this time make one sync.
const GATHER: Duration = Duration::from_millis(5);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        deployments: context.informers.informer(),
        sets: context.informers.informer(),
        pods: context.informers.informer(),
        recorder: context.recorder("deployment-controller"),
        written: Arc::default(),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    let (deployments, sets) = (&controller.deployments, &controller.sets);
    tokio::join!(deployments.synced(), sets.synced(), controller.pods.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    deployments: Arc<Informer<Deployment>>,
    sets: Arc<Informer<ReplicaSet>>,
    pods: Arc<Informer<Pod>>,
    recorder: EventRecorder,
    written: Arc<Written<String>>,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "deployment";
    const WORKERS: usize = 5;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(deployment) = self.deployments.get_key(key) else { return Ok(Outcome::Done) };
        if self.written.is_waiting(&deployment.metadata.uid.clone().unwrap_or_default()) {
            return Ok(Outcome::After(GATHER));
        }
        Ok(after(self.roll(&deployment).await?))
    }
}

impl Controller {
    fn watch(&self) {
        self.sets.add_index(BY_CONTROLLER, |set| pods::controller_index(&set.metadata));
        self.pods.add_index(BY_CONTROLLER, |pod| pods::controller_index(&pod.metadata));
        let queue = self.queue.clone();
        self.deployments.on_change(move |change| queue.add(change.key()));
        let (queue, deployments) = (self.queue.clone(), Arc::clone(&self.deployments));
        let written = Arc::clone(&self.written);
        self.sets.on_change(move |change| {
            let owner = change.object().and_then(|set| object::controller_of(&set.metadata));
            if let Some(owner) = owner {
                written.observe(&owner.uid, change);
            }
            for set in [&change.old, &change.new].into_iter().flatten() {
                let namespace = object::namespace(&set.metadata);
                match object::controller_of(&set.metadata) {
                    Some(owner) if owner.kind == "Deployment" => {
                        queue.add_after(Key::new(namespace, &owner.name), GATHER);
                    }
                    Some(_) => {}
                    None => {
                        let all = deployments.list_namespace(namespace);
                        let selecting = all.iter().filter(|d| selects(d, set));
                        selecting.for_each(|d| queue.add(Key::of(&d.metadata)));
                    }
                }
            }
        });
        // A Recreate waits for the last old pod to go.
        let (queue, sets) = (self.queue.clone(), Arc::clone(&self.sets));
        self.pods.on_change(move |change| {
            let (Some(pod), None) = (&change.old, &change.new) else { return };
            let Some(owner) = object::controller_of(&pod.metadata) else { return };
            let namespace = object::namespace(&pod.metadata);
            let Some(set) = sets.get(namespace, &owner.name) else { return };
            if let Some(owner) = object::controller_of(&set.metadata) {
                queue.add_after(Key::new(namespace, &owner.name), GATHER);
            }
        });
    }

    async fn roll(&self, deployment: &Arc<Deployment>) -> Result<Option<Duration>, Error> {
        let sets = self.claimed(deployment).await?;
        let view = View::new(deployment, &sets);
        let mut progress = Progress::None;
        let mut collision = None;
        if !object::is_being_deleted(&deployment.metadata) {
            let plan = step(&view, self.pods_of_old(&view));
            if let Some(set) = &plan.create {
                (progress, collision) = self.create(deployment, set).await?;
            }
            self.apply(&view, &plan).await?;
        }
        let mut status = status::status(&view, &progress, self.context.now());
        status.collision_count = collision.or(status.collision_count);
        let wait = status::deadline_in(&view, &status, self.context.now());
        self.write_status(deployment, status).await?;
        Ok(wait)
    }

    async fn claimed(&self, deployment: &Arc<Deployment>) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let client = &self.context.client;
        let uid = object::uid(&deployment.metadata);
        let orphans = pods::orphans(object::namespace(&deployment.metadata));
        let mut sets = self.sets.by_index(BY_CONTROLLER, uid);
        sets.extend(self.sets.by_index(BY_CONTROLLER, &orphans));
        let mut own = Vec::new();
        for set in sets {
            let selected = selects(deployment, &set);
            match control::claim(&set.metadata, &deployment.metadata, selected) {
                Claim::Own => own.push(set),
                Claim::Adopt if pods::still_there(client, &**deployment).await? => {
                    control::adopt(client, &*set, &**deployment).await?;
                    own.push(set);
                }
                Claim::Release => control::release(client, &*set, uid).await?,
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        Ok(own)
    }

    fn pods_of_old(&self, view: &View<'_>) -> bool {
        let uids = view.old.iter().map(|set| object::uid(&set.metadata));
        uids.flat_map(|uid| self.pods.by_index(BY_CONTROLLER, uid)).any(|p| !pod::is_terminal(&p))
    }

    /// Creates the new set. A name that is taken by something else raises the collision count, which
    /// gives another name on the next sync.
    async fn create(&self, deployment: &Arc<Deployment>, set: &ReplicaSet) -> Result<(Progress, Option<i32>), Error> {
        let api = self.sets_api(deployment);
        let name = object::name(&set.metadata).to_string();
        let error = match api.create(&PostParams::default(), set).await {
            Ok(created) => {
                self.wrote(deployment, &created);
                let to = view::wanted(set);
                if to > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {to}");
                    self.recorder.normal(&**deployment, "ScalingReplicaSet", message);
                }
                return Ok((Progress::Created { set: name }, None));
            }
            Err(error) => error,
        };
        if is_already_exists(&error) {
            let taken = api.get(&name).await?;
            let ours = object::is_controlled_by(&taken.metadata, object::uid(&deployment.metadata));
            if ours && template::is_current(deployment, &taken) {
                return Ok((Progress::None, None)); // The informer is about to show it.
            }
            let count = deployment.status.as_ref().and_then(|s| s.collision_count);
            return Ok((Progress::None, Some(count.unwrap_or_default() + 1)));
        }
        if let Error::Api(status) = &error
            && pods::is_terminating_namespace(status)
        {
            return Ok((Progress::None, None));
        }
        let message = format!("Failed to create new replica set \"{name}\": {}", pods::message(&error));
        self.recorder.warning(&**deployment, "ReplicaSetCreateError", message.as_str());
        let view = View::new(deployment, &[]);
        let status = status::status(&view, &Progress::CreateFailed { message }, self.context.now());
        self.write_status(deployment, status).await?;
        Err(error)
    }

    async fn apply(&self, view: &View<'_>, plan: &Plan) -> Result<(), Error> {
        let api = self.sets_api(view.deployment);
        if let Some(set) = &plan.annotate {
            // A scale that follows must not meet its own annotation as a conflict.
            let patch = json!({"metadata": {"annotations": set.metadata.annotations},
                "spec": {"minReadySeconds": set.spec.as_ref().and_then(|s| s.min_ready_seconds)}});
            let name = object::name(&set.metadata);
            let set = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            self.wrote(view.deployment, &set);
        }
        for scale in &plan.scale {
            self.scale(view, scale).await?;
        }
        if let Some(revision) = plan.revision {
            self.annotate(view.deployment, revision).await?;
        }
        for set in &plan.delete {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: set.metadata.uid.clone(), resource_version: None }),
                ..DeleteParams::background()
            };
            match api.delete(object::name(&set.metadata), &params).await {
                Err(error) if !is_not_found(&error) && !is_conflict(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn scale(&self, view: &View<'_>, scale: &Scale) -> Result<(), Error> {
        let from = view::wanted(&scale.set);
        let name = object::name(&scale.set.metadata);
        let annotations: serde_json::Map<_, _> =
            template::scale_annotations(view).into_iter().map(|(key, value)| (key, value.into())).collect();
        let patch = json!({
            "metadata": {"annotations": annotations, "uid": scale.set.metadata.uid},
            "spec": {"replicas": scale.to},
        });
        let api = self.sets_api(view.deployment);
        let set = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.wrote(view.deployment, &set);
        if from != scale.to {
            let direction = if from < scale.to { "up" } else { "down" };
            let to = scale.to;
            let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
            self.recorder.normal(view.deployment, "ScalingReplicaSet", message);
        }
        Ok(())
    }

    async fn annotate(&self, deployment: &Deployment, revision: i64) -> Result<(), Error> {
        let patch = json!({"metadata": {
            "uid": deployment.metadata.uid,
            "annotations": {annotation::REVISION: revision.to_string()},
        }});
        let name = object::name(&deployment.metadata);
        let api = self.api(deployment);
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn write_status(&self, deployment: &Deployment, status: DeploymentStatus) -> Result<(), Error> {
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        // A merge patch: the revision annotation may have changed the object since it was read.
        let patch = json!({"metadata": {"uid": deployment.metadata.uid}, "status": status});
        let name = object::name(&deployment.metadata);
        let api = self.api(deployment);
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn wrote(&self, deployment: &Deployment, set: &ReplicaSet) {
        let owner = object::uid(&deployment.metadata).to_string();
        self.written.wrote(&owner, set, &self.sets);
    }

    fn api(&self, deployment: &Deployment) -> Api<Deployment> {
        let namespace = object::namespace(&deployment.metadata);
        Api::namespaced(self.context.client.clone(), namespace)
    }

    fn sets_api(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        let namespace = object::namespace(&deployment.metadata);
        Api::namespaced(self.context.client.clone(), namespace)
    }
}

fn selects(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let selector = deployment.spec.as_ref().map(|s| &s.selector);
    selector.is_some_and(|s| !object::is_empty_selector(s) && object::selects(s, set.metadata.labels.as_ref()))
}
