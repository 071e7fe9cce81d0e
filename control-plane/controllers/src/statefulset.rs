//! Gives pods a stable name, place and storage, as upstream's `statefulset` controller.

mod identity;
mod retention;
mod status;
mod step;
mod view;

use crate::Context;
use crate::control::pods::{self, Owner, Pods};
use crate::control::{self, Reconcile, after};
use crate::history::{self, Collision, Histories, Subject};
use serde_json::{Map, json};
use std::sync::Arc;
use std::time::Duration;
pub use step::{Action, step};
use tokio_util::sync::CancellationToken;
pub use view::{Revision, View};
use xebec_client::{
    Api, Error, Informer, Key, Outcome, Patch, PatchParams, PostParams, Workqueue, is_already_exists, is_not_found,
};
use xebec_types::apps::{ControllerRevision, StatefulSet, StatefulSetStatus};
use xebec_types::core::{PersistentVolumeClaim, Pod};
use xebec_types::{OwnerReference, label, object};

/// Pod events within this time make one sync.
const GATHER: Duration = Duration::from_millis(5);
/// When a revision was refused its name.
const SOON: Duration = Duration::from_millis(50);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        pods: Pods::new(&context, "statefulset-controller"),
        histories: Histories::new(&context),
        claims: context.informers.informer(),
        queue: Workqueue::new(),
    };
    controller.watch();
    tokio::join!(controller.pods.synced(), controller.histories.revisions.synced(), controller.claims.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    pods: Pods<StatefulSet>,
    histories: Histories,
    claims: Arc<Informer<PersistentVolumeClaim>>,
    queue: Workqueue<Key>,
}

impl Owner for StatefulSet {
    /// A member is selected and called as one.
    fn selects(&self, pod: &Pod) -> bool {
        let selector = self.spec.as_ref().map(|s| &s.selector);
        let selected = selector.is_some_and(|s| object::selects(s, pod.metadata.labels.as_ref()));
        selected && identity::ordinal(self, pod).is_some()
    }
}

impl Reconcile for Controller {
    const KIND: &'static str = "statefulset";
    const WORKERS: usize = 5;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(set) = self.pods.owners.get_key(key) else { return Ok(Outcome::Done) };
        let Some(spec) = &set.spec else { return Ok(Outcome::Done) };
        let pods = self.pods.claimed(&*set).await?;
        let history = self.histories.claimed(&*set, &spec.selector).await?;
        if object::is_being_deleted(&set.metadata) {
            return Ok(Outcome::Done);
        }
        let collision_count = set.status.as_ref().and_then(|s| s.collision_count);
        let hash_label = label::REVISION_DATA_HASH;
        let subject = Subject { owner: &*set, template: &spec.template, collision_count, hash_label };
        let update = match self.histories.write(history::newest(&history, &subject)).await? {
            Ok(update) => update,
            Err(Collision) => return self.note_collision(&set).await,
        };
        let (current, update) = (self::current(&set, &history, &update), revision(&set, &update));
        let claims = |name: &str| self.claims.get(&key.namespace, name);
        let view = View::new(&set, &pods, (&current, &update), &claims, self.pods.now());
        let status = status::status(&view, collision_count);
        let applied = self.apply(&view, step(&view)).await;
        self.write_status(&set, status).await?;
        applied?;
        let is_live = |r: &ControllerRevision| {
            let name = object::name(&r.metadata);
            [&current.name, &update.name].into_iter().any(|n| n == name)
                || pods.iter().any(|pod| identity::revision(pod) == name)
        };
        let limit = spec.revision_history_limit.unwrap_or(10);
        self.histories.delete(&history::surplus(&history, limit, is_live)).await?;
        Ok(after(view.recheck()))
    }
}

impl Controller {
    fn watch(&self) {
        self.pods.watch(&self.queue, GATHER);
        self.histories.watch(&self.queue, "StatefulSet");
        let (queue, sets) = (self.queue.clone(), Arc::clone(&self.pods.owners));
        // A member waits for a claim of its name to be gone, or to be back.
        self.claims.on_change(move |change| {
            if change.old.is_some() && change.new.as_ref().is_some_and(|c| !object::is_being_deleted(&c.metadata)) {
                return;
            }
            let claim = change.key();
            for set in sets.list_namespace(&claim.namespace) {
                let templates = identity::claim_templates(&set).iter();
                let mut prefixes =
                    templates.map(|t| format!("{}-{}-", object::name(&t.metadata), object::name(&set.metadata)));
                if prefixes.any(|prefix| claim.name.starts_with(&prefix)) {
                    queue.add(Key::of(&set.metadata));
                }
            }
        });
    }

    async fn apply(&self, view: &View<'_>, actions: Vec<Action>) -> Result<(), Error> {
        if view.is_ordered() {
            for action in actions {
                self.act(view.set, action).await?;
            }
            return Ok(());
        }
        let (count, mut actions) = (actions.len(), actions.into_iter());
        let next = || {
            let action = actions.next();
            async move { if let Some(action) = action { self.act(view.set, action).await } else { Ok(()) } }
        };
        control::slow_start(count, next).await.1
    }

    async fn act(&self, set: &StatefulSet, action: Action) -> Result<(), Error> {
        match action {
            Action::Create { pod, claims } => self.create(set, &pod, &claims).await,
            Action::CreateClaims { pod, claims } => self.create_claims(set, &pod, &claims).await,
            Action::Identify { pod, ordinal } => self.identify(set, &pod, ordinal).await,
            Action::Own { claim, owners } => self.own(&claim, owners).await,
            Action::Delete { pod } => {
                let name = object::name(&pod.metadata);
                match self.pods.api(set).delete(name, &pods::exactly(&pod.metadata)).await {
                    Err(error) if is_not_found(&error) => Ok(()),
                    result => self.tell("delete", set, &pod, result.map(|_| ())),
                }
            }
        }
    }

    async fn own(&self, claim: &PersistentVolumeClaim, owners: Vec<OwnerReference>) -> Result<(), Error> {
        // The whole object: this account may update claims and not patch them.
        let mut updated = claim.clone();
        updated.metadata.owner_references = Some(owners);
        let api =
            Api::<PersistentVolumeClaim>::namespaced(self.pods.client.clone(), object::namespace(&claim.metadata));
        match api.replace(object::name(&claim.metadata), &PostParams::default(), &updated).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn create(&self, set: &StatefulSet, pod: &Pod, claims: &[PersistentVolumeClaim]) -> Result<(), Error> {
        if let Err(error) = self.create_claims(set, pod, claims).await {
            return self.tell("create", set, pod, Err(error));
        }
        match self.pods.api(set).create(&PostParams::default(), pod).await {
            // The informer is about to show it; or somebody else has the name, and the set waits.
            Err(error) if is_already_exists(&error) => Err(error),
            Err(Error::Api(status)) if pods::is_terminating_namespace(&status) => Ok(()),
            result => self.tell("create", set, pod, result.map(|_| ())),
        }
    }

    async fn create_claims(&self, set: &StatefulSet, pod: &Pod, claims: &[PersistentVolumeClaim]) -> Result<(), Error> {
        let namespace = object::namespace(&set.metadata);
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.pods.client.clone(), namespace);
        let (of, set_name) = (object::name(&pod.metadata), object::name(&set.metadata));
        for claim in claims {
            let name = object::name(&claim.metadata);
            match api.create(&PostParams::default(), claim).await {
                Ok(_) => {
                    let message = format!("create Claim {name} Pod {of} in StatefulSet {set_name} success");
                    self.pods.recorder.normal(set, "SuccessfulCreate", message);
                }
                Err(error) if is_already_exists(&error) => {}
                Err(error) => {
                    let why = pods::message(&error);
                    let message =
                        format!("create Claim {name} for Pod {of} in StatefulSet {set_name} failed error: {why}");
                    self.pods.recorder.warning(set, "FailedCreate", message);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn identify(&self, set: &StatefulSet, pod: &Pod, ordinal: i32) -> Result<(), Error> {
        let labels: Map<_, _> =
            identity::labels(set, ordinal).into_iter().map(|(key, value)| (key, value.into())).collect();
        let patch = Patch::Merge(json!({"metadata": {"uid": pod.metadata.uid, "labels": labels}}));
        let name = object::name(&pod.metadata);
        let result = self.pods.api(set).patch(name, &PatchParams::default(), &patch).await;
        self.tell("update", set, pod, result.map(|_| ()))
    }

    /// The Event that upstream's `recordPodEvent` makes of the result.
    fn tell(&self, verb: &str, set: &StatefulSet, pod: &Pod, result: Result<(), Error>) -> Result<(), Error> {
        let (pod, name) = (object::name(&pod.metadata), object::name(&set.metadata));
        let title = match verb {
            "create" => "Create",
            "delete" => "Delete",
            _ => "Update",
        };
        match &result {
            Ok(()) => {
                let message = format!("{verb} Pod {pod} in StatefulSet {name} successful");
                self.pods.recorder.normal(set, &format!("Successful{title}"), message);
            }
            Err(error) => {
                let why = pods::message(error);
                let message = format!("{verb} Pod {pod} in StatefulSet {name} failed error: {why}");
                self.pods.recorder.warning(set, &format!("Failed{title}"), message);
            }
        }
        result
    }

    async fn note_collision(&self, set: &StatefulSet) -> Result<Outcome, Error> {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
        self.write_status(set, status).await?;
        Ok(Outcome::After(SOON))
    }

    async fn write_status(&self, set: &StatefulSet, status: StatefulSetStatus) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let updated = StatefulSet { status: Some(status), ..set.clone() };
        control::write_status(&self.pods.client, &updated).await
    }
}

/// The revision that `status` calls current, if the history still has it.
fn current(set: &StatefulSet, history: &[Arc<ControllerRevision>], update: &Arc<ControllerRevision>) -> Revision {
    let name = set.status.as_ref().and_then(|s| s.current_revision.as_deref());
    let known = history.iter().find(|r| r.metadata.name.as_deref() == name);
    revision(set, known.unwrap_or(update))
}

fn revision(set: &StatefulSet, revision: &ControllerRevision) -> Revision {
    let present = || set.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    Revision {
        name: object::name(&revision.metadata).into(),
        template: history::template(revision).unwrap_or_else(present),
    }
}
