//! What a decision writes: the binding, or the condition that says why there is none.

use serde_json::json;
use xebec_client::kube::api::Preconditions;
use xebec_client::{Api, Client, DeleteParams, Error, Patch, PatchParams, PostParams};
use xebec_types::core::Pod;
use xebec_types::time::{self, Timestamp};
use xebec_types::{condition, pod as pods};

use crate::cluster::PodInfo;

/// Binds the pod to the node: `POST pods/<name>/binding`.
pub async fn bind(client: &Client, pod: &PodInfo, node: &str) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": &*pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let _status: serde_json::Value =
        api.create_subresource("binding", &pod.name, &PostParams::default(), &binding).await?;
    Ok(())
}

/// Writes `PodScheduled=False` and where the pod was promised room, unless the pod says so already.
pub async fn report_unschedulable(
    client: &Client,
    pod: &Pod,
    message: &str,
    nominated: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    const REASON: &str = "Unschedulable";
    let known = pods::find_condition(pod, condition::POD_SCHEDULED);
    let same_status = known.filter(|known| known.status == condition::FALSE);
    let is = |field: &Option<String>, expected: &str| field.as_deref() == Some(expected);
    let promised = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    let same_node = nominated.is_none_or(|node| promised == Some(node));
    if same_node && same_status.is_some_and(|known| is(&known.reason, REASON) && is(&known.message, message)) {
        return Ok(());
    }
    let since = same_status.and_then(|known| known.last_transition_time.clone());
    let mut patch = json!({"status": {"conditions": [{
        "type": condition::POD_SCHEDULED,
        "status": condition::FALSE,
        "reason": REASON,
        "message": message,
        "lastTransitionTime": since.unwrap_or_else(|| time::time(now)),
    }]}});
    if let Some(node) = nominated {
        patch["status"]["nominatedNodeName"] = node.into();
    }
    let metadata = &pod.metadata;
    let api: Api<Pod> = Api::namespaced(client.clone(), metadata.namespace.as_deref().unwrap_or_default());
    let name = metadata.name.as_deref().unwrap_or_default();
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// Tells a pod why it goes, and deletes it.
pub async fn evict(client: &Client, victim: &PodInfo, scheduler: &str, now: Timestamp) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &victim.namespace);
    let patch = json!({"metadata": {"uid": &*victim.uid}, "status": {"conditions": [{
        "type": condition::DISRUPTION_TARGET,
        "status": condition::TRUE,
        "reason": "PreemptionByScheduler",
        "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
        "lastTransitionTime": time::time(now),
    }]}});
    api.patch_status(&victim.name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    let preconditions = Preconditions { uid: Some(victim.uid.to_string()), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    api.delete(&victim.name, &params).await.map(|_| ())
}
