//! Watches over nodes, as upstream's `node-lifecycle` controller: a node whose lease stands still
//! turns NotReady, is tainted, and its pods leave their Services at once.

mod health;
mod step;

use crate::Context;
use crate::control::{self, Reconcile};
use health::Health;
use serde_json::json;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
pub use step::{Cluster, Plan, step};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xebec_client::event::{EventType, node_reference};
use xebec_client::informer::Selection;
use xebec_client::{
    Api, Error, EventRecorder, Informer, Key, Outcome, Patch, PatchParams, Workqueue, is_conflict, is_not_found,
};
use xebec_types::coordination::Lease;
use xebec_types::core::{Node, NodeCondition, Pod, Taint};
use xebec_types::{condition, namespace, object, pod, time};

/// Pods by the name of their node.
pub(crate) const BY_NODE: &str = "node";

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let in_leases = Selection::namespace(namespace::KUBE_NODE_LEASE);
    let controller = Controller {
        nodes: context.informers.informer(),
        pods: context.informers.informer(),
        leases: context.informers.selected(&in_leases),
        recorder: context.recorder("node-controller"),
        health: Arc::default(),
        unready: Arc::default(),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    let Controller { nodes, pods, leases, .. } = &controller;
    tokio::join!(nodes.synced(), pods.synced(), leases.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    nodes: Arc<Informer<Node>>,
    pods: Arc<Informer<Pod>>,
    leases: Arc<Informer<Lease>>,
    recorder: EventRecorder,
    health: Arc<Health>,
    /// Nodes that just stopped being ready and whose pods have not been marked.
    unready: Arc<Mutex<HashSet<String>>>,
    queue: Workqueue<Key>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "node";
    const WORKERS: usize = 4;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(node) = self.nodes.get_key(key) else { return Ok(Outcome::Done) };
        let grace = self.context.config.node_monitor_grace_period;
        let silent_for = self.health.silent_for(&key.name, Instant::now());
        let plan = step(&node, silent_for >= grace, &self.cluster(), self.context.now());
        if plan.is_silent {
            self.health.found_silent(&key.name);
        }
        self.apply(&node, &plan).await?;
        // A node that is silent is looked at when it speaks.
        let look_again = (grace - silent_for.min(grace)).max(Duration::from_millis(100));
        Ok(if plan.is_silent { Outcome::Done } else { Outcome::After(look_again) })
    }
}

impl Controller {
    fn watch(&self) {
        self.pods.add_index(BY_NODE, |pod| vec![pod::node_name(pod).to_string()]);
        let (queue, health) = (self.queue.clone(), Arc::clone(&self.health));
        self.leases.on_change(move |change| {
            let name = &change.key().name;
            // A renewal of a node that is fine is nothing to do: its timer looks when it is due.
            if let Some(lease) = &change.new
                && health.renewed(name, lease, Instant::now())
            {
                queue.add(Key::new("", name));
            }
        });
        let (queue, health) = (self.queue.clone(), Arc::clone(&self.health));
        let unready = Arc::clone(&self.unready);
        self.nodes.on_change(move |change| {
            let name = &change.key().name;
            match &change.new {
                None => health.forget(name),
                Some(node) => health.posted(name, node, Instant::now()),
            }
            let ready = |node: &Arc<Node>| step::ready_status(node) == Some(condition::TRUE);
            if change.old.as_ref().is_some_and(ready) && !change.new.as_ref().is_some_and(ready) {
                unready.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string());
            }
            queue.add(change.key());
        });
    }

    fn cluster(&self) -> Cluster {
        let nodes = self.nodes.read();
        let ready = |n: &&Arc<Node>| step::ready_status(n) == Some(condition::TRUE);
        Cluster { nodes: nodes.len(), ready: nodes.iter().filter(ready).count() }
    }

    async fn apply(&self, node: &Arc<Node>, plan: &Plan) -> Result<(), Error> {
        let name = object::name(&node.metadata);
        let mut current = Arc::clone(node);
        if let Some(conditions) = &plan.conditions {
            tracing::warn!(node = name, "node stopped posting its status");
            current = Arc::new(self.write_conditions(name, conditions).await?);
            let message = format!("Node {name} status is now: NodeNotReady");
            let node = node_reference(name);
            self.recorder.record_ref(node, EventType::Normal, "NodeNotReady", message);
        }
        // Before taints: withdrawing backends is what users wait for.
        let mark_once = {
            let mut unready = self.unready.lock().unwrap_or_else(PoisonError::into_inner);
            unready.remove(name)
        };
        if plan.is_silent || mark_once {
            let marked = self.mark_pods(name).await;
            if marked.is_err() && mark_once {
                let mut unready = self.unready.lock().unwrap_or_else(PoisonError::into_inner);
                unready.insert(name.into());
            }
            marked?;
        }
        if let Some(taints) = &plan.taints {
            self.write_taints(&current, taints).await?;
        }
        Ok(())
    }

    async fn write_conditions(&self, name: &str, conditions: &[NodeCondition]) -> Result<Node, Error> {
        let patch = json!({"status": {"conditions": conditions}});
        let api: Api<Node> = Api::all(self.context.client.clone());
        api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await
    }

    async fn write_taints(&self, node: &Node, taints: &[Taint]) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        });
        let api: Api<Node> = Api::all(self.context.client.clone());
        let name = object::name(&node.metadata);
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Takes the pods of a node out of their Services.
    async fn mark_pods(&self, node: &str) -> Result<(), Error> {
        let pods = self.pods.by_index(BY_NODE, node);
        let ready = pods.into_iter().filter(|pod| pod::is_ready(pod) && !pod::is_terminal(pod));
        let work = ready.map(|pod| async move {
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [{
                "type": condition::READY,
                "status": condition::FALSE,
                "lastTransitionTime": time::time(self.context.now()),
            }]}});
            let namespace = object::namespace(&pod.metadata);
            let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
            let name = object::name(&pod.metadata);
            let patch = Patch::Strategic(patch);
            match api.patch_status(name, &PatchParams::default(), &patch).await {
                Ok(_) => self.recorder.warning(&*pod, "NodeNotReady", "Node is not ready"),
                Err(error) if is_not_found(&error) || is_conflict(&error) => {}
                Err(error) => return Err(error),
            }
            Ok(())
        });
        control::in_parallel(work).await.into_iter().collect()
    }
}

/// The pods on a node, for controllers that share the index.
pub(crate) fn pods_on(pods: &Informer<Pod>, node: &str) -> Vec<Key> {
    pods.by_index(BY_NODE, node).iter().map(|pod| Key::of(&pod.metadata)).collect()
}
