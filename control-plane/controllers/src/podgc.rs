//! Deletes pods that nobody else will, as upstream's `podgc` controller: pods of nodes that are gone,
//! pods stuck terminating, and the oldest of too many that have terminated.

mod step;

use crate::{Context, control};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
pub use step::{Observed, Reason, step};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xebec_client::kube::api::Preconditions;
use xebec_client::{Api, DeleteParams, Error, Informer, Patch, PatchParams, chain, is_conflict, is_not_found};
use xebec_types::core::{Node, Pod};
use xebec_types::{condition, object, time};

/// Between two rounds; upstream's `gcCheckPeriod`.
const PERIOD: Duration = Duration::from_secs(20);
/// A node must be gone this long before its pods are: its agent may be registering.
const QUARANTINE: Duration = Duration::from_secs(40);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let pods: Arc<Informer<Pod>> = context.informers.informer();
    let nodes: Arc<Informer<Node>> = context.informers.informer();
    tokio::join!(pods.synced(), nodes.synced());
    let mut missing: HashMap<String, Instant> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let gone = gone_nodes(&pods, &nodes, &mut missing);
        let victims = {
            let (pods, nodes) = (pods.read(), nodes.read());
            let threshold = context.config.terminated_pod_gc_threshold;
            let observed = Observed { threshold, gone_nodes: &gone };
            step(&observed, pods.iter(), |name| nodes.get("", name).cloned())
        };
        let context = &context;
        let work = victims.into_iter().map(|(pod, reason)| async move {
            let name = object::name(&pod.metadata).to_string();
            match delete(context, &pod, reason).await {
                Ok(()) => tracing::info!(pod = name, ?reason, "pod deleted"),
                Err(e) => tracing::warn!(pod = name, error = chain(&e), "pod not deleted"),
            }
        });
        control::in_parallel(work).await;
    }
}

/// Nodes that pods name, that do not exist, and have not for a while.
fn gone_nodes(pods: &Informer<Pod>, nodes: &Informer<Node>, missing: &mut HashMap<String, Instant>) -> HashSet<String> {
    let named: HashSet<String> = pods.read().iter().map(|p| xebec_types::pod::node_name(p).to_string()).collect();
    let absent = |name: &String| !name.is_empty() && nodes.get("", name).is_none();
    let absent: HashSet<String> = named.into_iter().filter(absent).collect();
    missing.retain(|name, _| absent.contains(name));
    for name in absent {
        missing.entry(name).or_insert_with(Instant::now);
    }
    let old = missing.iter().filter(|(_, since)| since.elapsed() >= QUARANTINE);
    old.map(|(name, _)| name.clone()).collect()
}

async fn delete(context: &Context, pod: &Pod, reason: Reason) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), object::namespace(&pod.metadata));
    let name = object::name(&pod.metadata);
    if !xebec_types::pod::is_terminal(pod) {
        let patch = failed(pod, reason, context.now());
        settled(api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await)?;
    }
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    settled(api.delete(name, &params).await)
}

/// A pod that did not end by itself is Failed before it goes, so that its owner counts it rightly.
fn failed(pod: &Pod, reason: Reason, now: time::Timestamp) -> serde_json::Value {
    let mut status = json!({"phase": "Failed"});
    if reason == Reason::Orphaned {
        status["conditions"] = json!([{
            "type": condition::DISRUPTION_TARGET,
            "status": condition::TRUE,
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": time::time(now),
        }]);
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

fn settled<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(error),
        _ => Ok(()),
    }
}
