//! Evicts pods from nodes with NoExecute taints that they do not tolerate, or no longer, as upstream's
//! `taint-eviction-controller`.

mod step;

use crate::Context;
use crate::control::{self, Reconcile};
use crate::nodelifecycle::{self, BY_NODE};
use serde_json::json;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
pub use step::{Eviction, step};
use tokio_util::sync::CancellationToken;
use xebec_client::kube::api::Preconditions;
use xebec_client::{
    Api, DeleteParams, Error, EventRecorder, Informer, Key, Outcome, Patch, PatchParams, Workqueue, is_conflict,
    is_not_found,
};
use xebec_types::core::{Node, Pod, Taint};
use xebec_types::{condition, object, pod, taint, time};

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        nodes: context.informers.informer(),
        pods: context.informers.informer(),
        recorder: context.recorder("taint-eviction-controller"),
        due: Mutex::default(),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    tokio::join!(controller.nodes.synced(), controller.pods.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    nodes: Arc<Informer<Node>>,
    pods: Arc<Informer<Pod>>,
    recorder: EventRecorder,
    /// Pods whose eviction is due at some time.
    due: Mutex<HashSet<Key>>,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "pod";
    const WORKERS: usize = 8;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get_key(key) else {
            self.note_due(key, false);
            return Ok(Outcome::Done);
        };
        let node = self.nodes.get("", pod::node_name(&pod));
        let taints = node.map(|node| no_execute(&node)).unwrap_or_default();
        match step(&pod, &taints, self.context.now()) {
            Eviction::None => {
                if self.note_due(key, false) && !pod::is_terminating(&pod) {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.recorder.normal(&*pod, "TaintManagerEviction", message);
                }
                Ok(Outcome::Done)
            }
            Eviction::In(wait) => {
                self.note_due(key, true);
                Ok(Outcome::After(wait))
            }
            Eviction::Now => {
                self.note_due(key, false);
                let message = format!("Marking for deletion Pod {key}");
                self.recorder.normal(&*pod, "TaintManagerEviction", message);
                self.evict(&pod).await?;
                Ok(Outcome::Done)
            }
        }
    }
}

impl Controller {
    fn watch(&self) {
        self.pods.add_index(BY_NODE, |pod| vec![pod::node_name(pod).to_string()]);
        let (queue, pods) = (self.queue.clone(), Arc::clone(&self.pods));
        self.nodes.on_change(move |change| {
            let taints = |node: &Option<Arc<Node>>| node.as_ref().map(|n| no_execute(n));
            let (old, new) = (taints(&change.old), taints(&change.new));
            if old.unwrap_or_default() != new.unwrap_or_default() {
                let on_node = nodelifecycle::pods_on(&pods, &change.key().name);
                on_node.into_iter().for_each(|key| queue.add(key));
            }
        });
        let (queue, nodes) = (self.queue.clone(), Arc::clone(&self.nodes));
        self.pods.on_change(move |change| {
            let Some(pod) = &change.new else { return };
            let view = |p: &Pod| (pod::node_name(p).to_string(), tolerations(p).to_vec());
            let same = change.old.as_ref().is_some_and(|old| view(old) == view(pod));
            let node = nodes.get("", pod::node_name(pod));
            if !same && node.is_some_and(|node| !no_execute(&node).is_empty()) {
                queue.add(change.key());
            }
        });
    }

    fn note_due(&self, key: &Key, is_due: bool) -> bool {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due { !due.insert(key.clone()) } else { due.remove(key) }
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        let namespace = object::namespace(&pod.metadata);
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let name = object::name(&pod.metadata);
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [{
            "type": condition::DISRUPTION_TARGET,
            "status": condition::TRUE,
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": time::time(self.context.now()),
        }]}});
        let patch = Patch::Strategic(patch);
        settled(api.patch_status(name, &PatchParams::default(), &patch).await)?;
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        settled(api.delete(name, &params).await)
    }
}

fn settled<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(error),
        _ => Ok(()),
    }
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.filter(|t| t.effect == taint::NO_EXECUTE).cloned().collect()
}

fn tolerations(pod: &Pod) -> &[xebec_types::core::Toleration] {
    pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
}
