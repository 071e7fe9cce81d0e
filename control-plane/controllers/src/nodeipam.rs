//! Gives every node its block of pod addresses, as upstream's `nodeipam` controller with the
//! `RangeAllocator`. The nodes are the record: what is taken is read from them.

pub mod blocks;

use crate::{Config, Context};
use blocks::Blocks;
use ipnet::IpNet;
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
    let Some(blocks) = blocks(&context.config) else { return stop.cancelled().await };
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

/// One for each family of pods; `None` if one of the networks holds no block.
fn blocks(config: &Config) -> Option<Vec<Blocks>> {
    let of_family = |cidr: &IpNet| {
        let mask = if cidr.addr().is_ipv4() { config.node_cidr_mask_ipv4 } else { config.node_cidr_mask_ipv6 };
        let blocks = Blocks::new(*cidr, mask);
        if blocks.is_none() {
            tracing::error!(cluster_cidr = %cidr, mask,
                "the cluster CIDR holds no block of this size, or too many: nodes get no pod addresses");
        }
        blocks
    };
    config.cluster_cidrs.iter().map(of_family).collect()
}

struct Controller {
    context: Context,
    nodes: Arc<Informer<Node>>,
    recorder: EventRecorder,
    /// Blocks that were written and that the informer may not show yet.
    assigned: Mutex<HashMap<String, Vec<IpNet>>>,
    blocks: Vec<Blocks>,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(node) = self.nodes.get_key(key) else {
            self.assigned.lock().unwrap_or_else(PoisonError::into_inner).remove(&*key.name);
            return Outcome::Done;
        };
        if !pod_cidrs(&node).is_empty() || object::is_being_deleted(&node.metadata) {
            return Outcome::Done;
        }
        let Some(blocks) = self.choose(&key.name) else {
            let message = "Node is not assigned a CIDR: the cluster CIDR is used up";
            let node = node_reference(&key.name);
            self.recorder.record_ref(node, EventType::Warning, "CIDRNotAvailable", message);
            return Outcome::Retry;
        };
        match self.assign(&node, &blocks).await {
            Ok(()) => Outcome::Done,
            Err(error) => {
                tracing::warn!(node = %key, ?blocks, error = chain(&error), "pod CIDR not assigned");
                let message = format!("Node is not assigned a CIDR: {}", chain(&error));
                let node = node_reference(&key.name);
                self.recorder.record_ref(node, EventType::Warning, "CIDRAssignmentFailed", message);
                Outcome::Retry
            }
        }
    }

    fn choose(&self, node: &str) -> Option<Vec<IpNet>> {
        let mut assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blocks) = assigned.get(node) {
            return Some(blocks.clone()); // The write may have failed; the choice stands.
        }
        let mut taken: Vec<IpNet> = self.nodes.read().iter().flat_map(|n| pod_cidrs(n)).collect();
        taken.extend(assigned.values().flatten());
        let blocks = step(&self.blocks, &taken)?;
        assigned.insert(node.into(), blocks.clone());
        Some(blocks)
    }

    async fn assign(&self, node: &Node, blocks: &[IpNet]) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": blocks.first(), "podCIDRs": blocks},
        });
        let api: Api<Node> = Api::all(self.context.client.clone());
        let name = object::name(&node.metadata);
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                tracing::info!(node = name, ?blocks, "pod CIDRs assigned");
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The lowest block of each network that overlaps nothing that is taken; all or none.
#[must_use]
pub fn step(blocks: &[Blocks], taken: &[IpNet]) -> Option<Vec<IpNet>> {
    blocks.iter().map(|blocks| blocks.first_free(taken.iter())).collect()
}

/// The primary family's first.
pub(crate) fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let many: Vec<IpNet> = spec.pod_cidrs.iter().flatten().filter_map(|cidr| cidr.parse().ok()).collect();
    if many.is_empty() { spec.pod_cidr.iter().filter_map(|cidr| cidr.parse().ok()).collect() } else { many }
}
