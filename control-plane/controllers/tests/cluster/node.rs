//! A hollow node: it registers, renews its lease, and its pods run as soon as they are bound.

use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use xebec_client::{Api, Client, DeleteParams, Informers, Key, Patch, PatchParams, PostParams};
use xebec_types::coordination::Lease;
use xebec_types::core::{Node, Pod};
use xebec_types::{annotation, object, pod, time};

static ADDRESSES: AtomicU32 = AtomicU32::new(1);

pub async fn run(client: Client, informers: Informers, name: String, stop: CancellationToken) {
    register(&client, &name).await;
    let pods = informers.informer::<Pod>();
    let mut changes = pods.subscribe();
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let mut renew = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = renew.tick() => {
                let patch = json!({"spec": {"renewTime": time::micro_time(time::now())}});
                leases.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.ok();
            }
            keys = changes.changed() => {
                for key in keys {
                    let Some(pod) = pods.get_key(&key) else { continue };
                    if pod::node_name(&pod) == name {
                        sync(&client, &pod).await;
                    }
                }
            }
        }
    }
}

/// Binds pods to nodes in turn.
pub async fn schedule(client: Client, informers: Informers, names: Vec<String>, stop: CancellationToken) {
    let (pods, nodes) = (informers.informer::<Pod>(), informers.informer::<Node>());
    let (mut pod_changes, mut node_changes) = (pods.subscribe(), nodes.subscribe());
    let mut waiting = BTreeSet::new();
    let mut next = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            keys = pod_changes.changed() => waiting.extend(keys),
            _ = node_changes.changed() => {}
        }
        let is_untainted = |name: &&String| {
            let taints = nodes.get("", name).and_then(|n| n.spec.clone()?.taints);
            nodes.get("", name).is_some() && taints.is_none_or(|t| t.is_empty())
        };
        let ready: Vec<&String> = names.iter().filter(is_untainted).collect();
        if ready.is_empty() {
            continue;
        }
        for key in std::mem::take(&mut waiting) {
            let Some(pod) = pods.get_key(&key) else { continue };
            if pod::node_name(&pod).is_empty() && !pod::is_terminating(&pod) {
                next += 1;
                match named(&pod) {
                    Some(name) if ready.iter().any(|node| **node == name) => bind(&client, &key, &name).await,
                    Some(_) => _ = waiting.insert(key),
                    None => bind(&client, &key, ready[next % ready.len()]).await,
                }
            }
        }
    }
}

/// The node that the pod's affinity names, as a DaemonSet's pods do.
fn named(pod: &Pod) -> Option<String> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    terms.first()?.match_fields.as_ref()?.first()?.values.as_ref()?.first().cloned()
}

async fn bind(client: &Client, key: &Key, node: &str) {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": &*key.name, "namespace": &*key.namespace},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let url = format!("/api/v1/namespaces/{}/pods/{}/binding", key.namespace, key.name);
    let request = http::Request::post(url).header("content-type", "application/json");
    let request = request.body(binding.to_string().into_bytes()).expect("request");
    if let Err(error) = client.request::<serde_json::Value>(request).await {
        eprintln!("bind {key}: {error}");
    }
}

async fn register(client: &Client, name: &str) {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name},
        "status": {"capacity": {"pods": "1000"}, "allocatable": {"pods": "1000"}},
    }))
    .expect("node");
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &node).await.expect("create node");
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": name}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 40},
    }))
    .expect("lease");
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    leases.create(&PostParams::default(), &lease).await.expect("create lease");
    let now = time::time(time::now());
    let patch = json!({"status": {"conditions": [{
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "hollow",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }]}});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await.expect("node status");
}

async fn sync(client: &Client, pod: &Arc<Pod>) {
    let api: Api<Pod> = Api::namespaced(client.clone(), object::namespace(&pod.metadata));
    let name = object::name(&pod.metadata);
    if pod::is_terminating(pod) {
        api.delete(name, &DeleteParams::default().grace_period(0)).await.ok();
        return;
    }
    if pod::phase(pod) != "Pending" {
        return;
    }
    if pod.spec.as_ref().is_some_and(|spec| spec.containers[0].image.as_deref() == Some("stuck")) {
        return; // An image that never comes.
    }
    if let Some(code) = exit_code(pod) {
        return end(&api, name, code).await;
    }
    let address = ADDRESSES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let ip = format!("10.{}.{}.{}", 200 + address[1], address[2], address[3]);
    let now = time::time(time::now());
    let patch = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]}});
    if let Err(error) = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        eprintln!("status of {name}: {error}");
    }
}

/// What the pod's program ends with: `exit:N`, or `exit:index`, which fails on odd indexes. Others run
/// for ever.
fn exit_code(pod: &Pod) -> Option<i32> {
    let image = pod.spec.as_ref()?.containers.first()?.image.clone()?;
    let index = || object::annotation(&pod.metadata, annotation::JOB_COMPLETION_INDEX)?.parse::<i32>().ok();
    match image.strip_prefix("exit:")? {
        "index" => index().map(|index| index % 2),
        code => code.parse().ok(),
    }
}

async fn end(api: &Api<Pod>, name: &str, code: i32) {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let now = time::time(time::now());
    let terminated = json!({"exitCode": code, "startedAt": now, "finishedAt": now});
    let container = json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": terminated}});
    let patch = json!({"status": {"phase": phase, "containerStatuses": [container]}});
    if let Err(error) = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        eprintln!("status of {name}: {error}");
    }
}
