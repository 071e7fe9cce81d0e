//! What pods left behind: sandboxes, directories and cgroups of pods that no longer exist.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use xebec_client::Informer;
use xebec_types::core::Pod;

use crate::cgroup;
use crate::kubelet::Kubelet;
use crate::observed::observe;
use crate::runtime::key;
use crate::worker::{remove, remove_runtime_objects, remove_volumes};

const PERIOD: Duration = Duration::from_secs(30);

pub(crate) async fn run(kubelet: Arc<Kubelet>, pods: Arc<Informer<Pod>>) {
    // Before the first list every pod would look like an orphan.
    pods.synced().await;
    let mut ticker = tokio::time::interval(PERIOD);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        collect(&kubelet).await;
    }
}

/// One round.
pub(crate) async fn collect(kubelet: &Arc<Kubelet>) {
    let Ok(sandboxes) = kubelet.runtime.list_pod_sandbox(None).await else { return };
    let uids: BTreeSet<String> = sandboxes.iter().filter_map(|s| s.labels.get(key::POD_UID).cloned()).collect();
    for uid in uids.iter().filter(|uid| !kubelet.known(uid)) {
        orphan(kubelet, uid).await;
    }
    for sandbox in &sandboxes {
        let uid = sandbox.labels.get(key::POD_UID).cloned().unwrap_or_default();
        dead_sandbox(kubelet, &sandbox.id, &uid, &sandboxes).await;
    }
    if !kubelet.machine.real {
        return;
    }
    for (uid, path) in cgroup::list(&kubelet.config.cgroup_root) {
        if !kubelet.known(&uid) && !uids.contains(&uid) {
            cgroup::remove(&path);
        }
    }
    for uid in names(&kubelet.config.pods_dir()) {
        if !kubelet.known(&uid) && !uids.contains(&uid) {
            let dir = kubelet.config.pod_dir(&uid);
            remove_volumes(&dir);
            remove(&dir);
        }
    }
    for name in names(&kubelet.config.logs_dir()) {
        let uid = name.rsplit('_').next().unwrap_or_default();
        if !kubelet.known(uid) && !uids.contains(uid) {
            remove(&kubelet.config.logs_dir().join(&name));
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// A pod that was deleted while no kubelet ran.
async fn orphan(kubelet: &Arc<Kubelet>, uid: &str) {
    let Ok(observed) = observe(&*kubelet.runtime, uid).await else { return };
    let stops =
        observed.running().map(|c| kubelet.runtime.stop_container(&c.id, Duration::from_secs(c.grace_seconds.max(1))));
    futures::future::join_all(stops).await;
    for sandbox in &observed.sandboxes {
        if let Err(error) = kubelet.runtime.stop_pod_sandbox(&sandbox.id).await {
            tracing::warn!(sandbox = sandbox.id, error = error.message(), "stop orphan sandbox");
            return;
        }
    }
    remove_runtime_objects(&*kubelet.runtime, uid).await;
    tracing::info!(uid, "removed a pod that no longer exists");
}

/// Of a living pod's sandboxes only the newest is of use, once the others hold no container.
async fn dead_sandbox(kubelet: &Arc<Kubelet>, id: &str, uid: &str, all: &[xebec_cri::v1::PodSandbox]) {
    let newest =
        all.iter().filter(|s| s.labels.get(key::POD_UID).is_some_and(|u| u == uid)).max_by_key(|s| s.created_at);
    if !kubelet.known(uid) || newest.is_none_or(|s| s.id == id) {
        return;
    }
    let Ok(containers) = kubelet.runtime.list_containers(Some(uid)).await else { return };
    if containers.iter().any(|c| c.pod_sandbox_id == id) {
        return;
    }
    if let Err(error) = kubelet.runtime.remove_pod_sandbox(id).await {
        tracing::debug!(sandbox = id, error = error.message(), "remove dead sandbox");
    }
}
