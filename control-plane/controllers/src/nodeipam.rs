//! Gives every node its block of pod addresses, as upstream's `nodeipam` controller with the
//! `RangeAllocator`. The nodes are the record: what is taken is read from them.

pub mod blocks;

use crate::Context;
use blocks::Blocks;
use ipnet::Ipv4Net;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;
use xebec_client::event::{EventType, node_reference};
use xebec_client::{
    Api, Error, EventRecorder, Informer, Key, Outcome, Patch, PatchParams, Workqueue, chain, is_not_found,
};
use xebec_types::core::Node;
use xebec_types::object;

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let nodes: Arc<Informer<Node>> = context.informers.informer();
    let queue: Workqueue<Key> = Workqueue::new();
    let sink = queue.clone();
    nodes.on_change(move |change| sink.add(change.key()));
    nodes.synced().await;
    let config = &context.config;
    let Some(blocks) = Blocks::new(config.cluster_cidr, config.node_cidr_mask) else {
        tracing::error!(cluster_cidr = %config.cluster_cidr, mask = config.node_cidr_mask,
            "the cluster CIDR holds no block of this size: nodes get no pod addresses");
        return stop.cancelled().await;
    };
    let controller = Controller {
        recorder: context.recorder("cidrAllocator"),
        nodes,
        assigned: Mutex::new(HashMap::new()),
        blocks,
        context,
    };
    let sync = |key: Key| {
        let controller = &controller;
        async move { controller.reconcile(&key).await }
    };
    // One worker: two must not choose the same block.
    queue.run(1, &stop, sync).await;
}

struct Controller {
    context: Context,
    nodes: Arc<Informer<Node>>,
    recorder: EventRecorder,
    /// Blocks that were written and that the informer may not show yet.
    assigned: Mutex<HashMap<String, Ipv4Net>>,
    blocks: Blocks,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(node) = self.nodes.get_key(key) else {
            self.assigned.lock().unwrap_or_else(PoisonError::into_inner).remove(&*key.name);
            return Outcome::Done;
        };
        if pod_cidr(&node).is_some() || object::is_being_deleted(&node.metadata) {
            return Outcome::Done;
        }
        let Some(block) = self.choose(&key.name) else {
            let message = "Node is not assigned a CIDR: the cluster CIDR is used up";
            let node = node_reference(&key.name);
            self.recorder.record_ref(node, EventType::Warning, "CIDRNotAvailable", message);
            return Outcome::Retry;
        };
        match self.assign(&node, block).await {
            Ok(()) => Outcome::Done,
            Err(error) => {
                tracing::warn!(node = %key, %block, error = chain(&error), "pod CIDR not assigned");
                let message = format!("Node is not assigned a CIDR: {}", chain(&error));
                let node = node_reference(&key.name);
                self.recorder.record_ref(node, EventType::Warning, "CIDRAssignmentFailed", message);
                Outcome::Retry
            }
        }
    }

    fn choose(&self, node: &str) -> Option<Ipv4Net> {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = assigned.get(node) {
            return Some(*block); // The write may have failed; the choice stands.
        }
        let shown: Vec<Ipv4Net> = self.nodes.read().iter().filter_map(|n| pod_cidr(n)).collect();
        let block = step(&self.blocks, shown.iter().chain(assigned.values()))?;
        assigned.insert(node.into(), block);
        Some(block)
    }

    async fn assign(&self, node: &Node, block: Ipv4Net) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": block, "podCIDRs": [block]},
        });
        let api: Api<Node> = Api::all(self.context.client.clone());
        let name = object::name(&node.metadata);
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                tracing::info!(node = name, %block, "pod CIDR assigned");
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The lowest block that overlaps nothing that is taken.
#[must_use]
pub fn step<'a>(blocks: &Blocks, taken: impl Iterator<Item = &'a Ipv4Net>) -> Option<Ipv4Net> {
    blocks.first_free(taken)
}

pub(crate) fn pod_cidr(node: &Node) -> Option<Ipv4Net> {
    let spec = node.spec.as_ref()?;
    let many = spec.pod_cidrs.iter().flatten();
    many.chain(&spec.pod_cidr).find_map(|cidr| cidr.parse().ok())
}
