//! The Node object: registration, status and heartbeat.

pub(crate) mod lease;
mod status;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use xebec_client::retry::Backoff;
use xebec_client::{Api, Client, EventType, Patch, PatchParams, PostParams, is_already_exists, is_not_found};
use xebec_types::core::Node;

use crate::config::NodeVerdict;
use crate::kubelet::Kubelet;

/// A status is written when it changes, and at least this often.
const REPORT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(10);
/// An agent that starts takes a pod network over within this time, or the node is said not to be ready.
const TAKEOVER: Duration = Duration::from_secs(10);

/// Registers the node and keeps its status true.
pub(crate) async fn run(kubelet: Arc<Kubelet>, client: Client, port: u16) {
    let api = Api::<Node>::all(client);
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let mut network = kubelet.config.network_ready.clone();
    let mut others = kubelet.config.node_conditions.clone();
    let mut last: Option<(Value, tokio::time::Instant)> = None;
    let mut was_ready = false;
    let started = tokio::time::Instant::now();
    let node_name = kubelet.config.node_name.clone();
    kubelet.recorder.node(&node_name, EventType::Normal, "Starting", "Starting kubelet.");
    loop {
        let facts = status::gather(&kubelet).await;
        match report(&api, &kubelet, &facts, port, started, &mut last).await {
            Ok(()) => {
                backoff.reset();
                let before = std::mem::replace(&mut was_ready, facts.ready());
                if facts.ready() && !before {
                    let message = format!("Node {node_name} status is now: NodeReady");
                    kubelet.recorder.node(&node_name, EventType::Normal, "NodeReady", &message);
                }
            }
            Err(error) => {
                tracing::warn!(error = xebec_client::chain(&error), "report node status");
                tokio::time::sleep(backoff.next_delay()).await;
                continue;
            }
        }
        // A runtime that is just starting is asked again soon: the node should be ready at once.
        let look = if facts.ready() { LOOK } else { Duration::from_millis(250) };
        tokio::select! {
            changed = network.changed() => if changed.is_err() { tokio::time::sleep(look).await },
            () = changed(&mut others) => {}
            () = tokio::time::sleep(look) => {}
        }
    }
}

/// Never, where nobody tells of changes.
async fn changed(conditions: &mut Option<tokio::sync::watch::Receiver<Vec<NodeVerdict>>>) {
    let told = match conditions {
        Some(conditions) => conditions.changed().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending().await
    }
}

/// Writes what changed; creates the Node where there is none. `started`: when this kubelet did.
async fn report(
    api: &Api<Node>,
    kubelet: &Kubelet,
    facts: &status::Facts,
    port: u16,
    started: tokio::time::Instant,
    last: &mut Option<(Value, tokio::time::Instant)>,
) -> Result<(), kube::Error> {
    let steady = status::steady(kubelet, facts, port);
    if last.as_ref().is_some_and(|(known, at)| *known == steady && at.elapsed() < REPORT) {
        return Ok(());
    }
    let name = &kubelet.config.node_name;
    let node = match api.get(name).await {
        Ok(node) => node,
        Err(error) if is_not_found(&error) => register(api, kubelet, facts, port).await?,
        Err(error) => return Err(error),
    };
    if started.elapsed() < TAKEOVER && status::goes_on(facts, &node, &kubelet.machine.boot_id) {
        return Ok(());
    }
    if last.is_none() {
        label(api, kubelet, &node).await?;
    }
    let conditions = status::conditions(facts, &node);
    let mut patch = steady.clone();
    patch["conditions"] = json!(conditions);
    // The list's merge key is the type, which the addresses of two families share.
    if let Some(addresses) = patch["addresses"].as_array_mut() {
        addresses.insert(0, json!({"$patch": "replace"}));
    }
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(json!({"status": patch}))).await?;
    *last = Some((steady, tokio::time::Instant::now()));
    Ok(())
}

async fn register(api: &Api<Node>, kubelet: &Kubelet, facts: &status::Facts, port: u16) -> Result<Node, kube::Error> {
    let config = &kubelet.config;
    let mut node: Node = serde_json::from_value(json!({
        "metadata": {"name": config.node_name, "labels": status::labels(config)},
        "spec": {"taints": config.register_with_taints},
    }))
    .map_err(kube::Error::SerdeError)?;
    let mut first = status::steady(kubelet, facts, port);
    first["conditions"] = json!(status::conditions(facts, &node));
    node.status = serde_json::from_value(first).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &node).await {
        Ok(node) => {
            tracing::info!(node = config.node_name, "registered");
            Ok(node)
        }
        Err(error) if is_already_exists(&error) => api.get(&config.node_name).await,
        Err(error) => Err(error),
    }
}

/// A node that was there before may lack labels of this kubelet.
async fn label(api: &Api<Node>, kubelet: &Kubelet, node: &Node) -> Result<(), kube::Error> {
    let known = node.metadata.labels.clone().unwrap_or_default();
    let missing: std::collections::BTreeMap<_, _> =
        status::labels(&kubelet.config).into_iter().filter(|(key, value)| known.get(key) != Some(value)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let patch = json!({"metadata": {"labels": missing}});
    api.patch(&kubelet.config.node_name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}
