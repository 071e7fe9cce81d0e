//! Runs one pod on every node that fits, as upstream's `daemonset` controller.

mod backoff;
mod status;
mod step;
mod template;
mod view;

use crate::Context;
use crate::control::pods::{Owner, Pods};
use crate::control::{self, Reconcile, after};
use crate::history::{self, Collision, Histories, Subject};
use backoff::Backoffs;
use std::sync::Arc;
use std::time::Duration;
pub use step::{Plan, step};
use template::Judge;
use tokio_util::sync::CancellationToken;
pub use view::View;
use xebec_client::{Change, Error, Informer, Key, Outcome, Workqueue};
use xebec_types::apps::{ControllerRevision, DaemonSet, DaemonSetStatus};
use xebec_types::core::{Node, Pod};
use xebec_types::{label, object, pod};

/// Pods created or deleted in one sync, as upstream's `BurstReplicas`.
const BURST: usize = 250;
/// Events within this time make one sync.
const GATHER: Duration = Duration::from_millis(10);
/// When a revision was refused its name.
const SOON: Duration = Duration::from_millis(50);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        pods: Pods::new(&context, "daemonset-controller"),
        histories: Histories::new(&context),
        nodes: context.informers.informer(),
        backoffs: Backoffs::default(),
        queue: Workqueue::new(),
    };
    controller.watch();
    let Controller { pods, histories, nodes, .. } = &controller;
    tokio::join!(pods.synced(), histories.revisions.synced(), nodes.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    pods: Pods<DaemonSet>,
    histories: Histories,
    nodes: Arc<Informer<Node>>,
    backoffs: Backoffs,
    queue: Workqueue<Key>,
}

impl Owner for DaemonSet {
    fn selects(&self, pod: &Pod) -> bool {
        let selector = self.spec.as_ref().map(|s| &s.selector);
        selector.is_some_and(|s| !object::is_empty_selector(s) && object::selects(s, pod.metadata.labels.as_ref()))
    }
}

impl Reconcile for Controller {
    const KIND: &'static str = "daemonset";
    const WORKERS: usize = 2;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(set) = self.pods.owners.get_key(key) else { return Ok(Outcome::Done) };
        let Some(spec) = &set.spec else { return Ok(Outcome::Done) };
        let satisfied = self.pods.expectations.satisfied(object::uid(&set.metadata));
        let pods = self.pods.claimed(&*set).await?;
        let history = self.histories.claimed(&*set, &spec.selector).await?;
        if object::is_being_deleted(&set.metadata) {
            return Ok(Outcome::Done);
        }
        let collision_count = set.status.as_ref().and_then(|s| s.collision_count);
        let hash_label = label::CONTROLLER_REVISION_HASH;
        let subject = Subject { owner: &*set, template: &spec.template, collision_count, hash_label };
        let newest = match self.histories.write(history::newest(&history, &subject)).await? {
            Ok(newest) => newest,
            Err(Collision) => return self.note_collision(&set).await,
        };
        let hash = self::hash(&newest);
        let view = View::new(&set, hash, &self.nodes.list(), &pods, self.pods.now());
        let applied = if satisfied { self.apply(&view, step(&view)).await } else { Ok(None) };
        self.write_status(&set, status::status(&view, collision_count)).await?;
        let wait = applied?;
        let is_live = |r: &ControllerRevision| {
            self::hash(r) == hash || pods.iter().any(|p| object::label(&p.metadata, hash_label) == Some(self::hash(r)))
        };
        let limit = spec.revision_history_limit.unwrap_or(10);
        self.histories.delete(&history::surplus(&history, limit, is_live)).await?;
        Ok(after(wait.into_iter().chain(view.recheck()).min()))
    }
}

impl Controller {
    fn watch(&self) {
        self.pods.watch(&self.queue, GATHER);
        self.histories.watch(&self.queue, "DaemonSet");
        let (queue, sets) = (self.queue.clone(), Arc::clone(&self.pods.owners));
        self.nodes.on_change(move |change| {
            if is_heartbeat(change) {
                return;
            }
            for set in sets.list() {
                let judge = Judge::of(&set);
                let fit = |node: &Option<Arc<Node>>| node.as_ref().map(|node| judge.fit(node));
                if fit(&change.old) != fit(&change.new) {
                    queue.add_after(Key::of(&set.metadata), GATHER);
                }
            }
        });
    }

    /// Answers when a failed daemon is due that has to wait.
    async fn apply(&self, view: &View<'_>, plan: Plan) -> Result<Option<Duration>, Error> {
        let Plan { create, mut delete, ended } = plan;
        let mut wait: Option<Duration> = None;
        for (node, pod) in ended {
            if pod::phase(&pod) == "Failed"
                && let Some(left) = self.backoffs.wait(object::uid(&view.set.metadata), &node)
            {
                wait = Some(wait.map_or(left, |wait| wait.min(left)));
                continue;
            }
            self.tell_ended(view.set, &node, &pod);
            delete.push(pod);
        }
        let mut nodes = create.iter().take(BURST);
        let count = nodes.len();
        if count > 0 {
            let pod = || template::new_pod(view.set, nodes.next().map_or("", String::as_str), view.hash);
            self.pods.create_many(view.set, count, pod).await?;
        }
        delete.truncate(BURST);
        self.pods.delete_many(view.set, &delete).await?;
        Ok(wait)
    }

    fn tell_ended(&self, set: &DaemonSet, node: &str, pod: &Pod) {
        let name = Key::of(&pod.metadata);
        if pod::phase(pod) == "Failed" {
            let message = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
            self.pods.recorder.warning(set, "FailedDaemonPod", message);
        } else {
            let message = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
            self.pods.recorder.normal(set, "SucceededDaemonPod", message);
        }
    }

    async fn note_collision(&self, set: &DaemonSet) -> Result<Outcome, Error> {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
        self.write_status(set, status).await?;
        Ok(Outcome::After(SOON))
    }

    async fn write_status(&self, set: &DaemonSet, status: DaemonSetStatus) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let updated = DaemonSet { status: Some(status), ..set.clone() };
        control::write_status(&self.pods.client, &updated).await
    }
}

/// The hash by which pods name their revision.
fn hash(revision: &ControllerRevision) -> &str {
    object::label(&revision.metadata, label::CONTROLLER_REVISION_HASH).unwrap_or_default()
}

/// Whether nothing changed that decides who fits: a node's status does not.
fn is_heartbeat(change: &Change<Node>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => old.spec == new.spec && old.metadata.labels == new.metadata.labels,
        _ => false,
    }
}
