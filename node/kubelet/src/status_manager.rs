//! Writes the status of one pod to the API server: the newest wins, nothing is written twice.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::watch;
use xebec_client::retry::Backoff;
use xebec_client::{Api, Client, DeleteParams, Patch, PatchParams, is_conflict, is_not_found};
use xebec_types::core::{Pod, PodStatus};

use crate::pod::PodRef;

/// What happened to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// The pod is gone, or its name is another pod's now.
    Gone,
}

/// The API server's side of a pod.
#[async_trait]
pub trait PodApi: Send + Sync + 'static {
    async fn patch_status(&self, pod: &PodRef, patch: Value) -> Result<Written, String>;
    /// Deletes the object for good, if it is still the same pod.
    async fn delete(&self, pod: &PodRef) -> Result<Written, String>;
}

pub struct ApiPods(pub Client);

#[async_trait]
impl PodApi for ApiPods {
    async fn patch_status(&self, pod: &PodRef, patch: Value) -> Result<Written, String> {
        let api = Api::<Pod>::namespaced(self.0.clone(), &pod.namespace);
        match api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => Ok(Written::Done),
            Err(error) if is_not_found(&error) => Ok(Written::Gone),
            // A conflict about the UID in the patch: another pod has the name. Any other is tried again.
            Err(error) if is_conflict(&error) => match api.get_opt(&pod.name).await {
                Ok(Some(known)) if known.metadata.uid.as_deref() == Some(&pod.uid) => Err(xebec_client::chain(&error)),
                Ok(_) => Ok(Written::Gone),
                Err(error) => Err(xebec_client::chain(&error)),
            },
            Err(error) => Err(xebec_client::chain(&error)),
        }
    }

    async fn delete(&self, pod: &PodRef) -> Result<Written, String> {
        let api = Api::<Pod>::namespaced(self.0.clone(), &pod.namespace);
        let preconditions = kube::api::Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match api.delete(&pod.name, &params).await {
            Ok(_) => Ok(Written::Done),
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(Written::Gone),
            Err(error) => Err(xebec_client::chain(&error)),
        }
    }
}

/// The status that a pod should have; a task writes it.
#[derive(Debug)]
pub struct StatusWriter {
    wanted: watch::Sender<Option<PodStatus>>,
    written: Arc<watch::Sender<Option<PodStatus>>>,
}

impl StatusWriter {
    /// `known` is what the API server has already.
    pub fn start(api: Arc<dyn PodApi>, pod: PodRef, known: Option<PodStatus>) -> Self {
        let (wanted, wants) = watch::channel(None);
        let written = Arc::new(watch::Sender::new(known));
        tokio::spawn(write(api, pod, wants, Arc::clone(&written)));
        Self { wanted, written }
    }

    /// `known` is what the API server had when the status was made: where the readiness that was written is not there, it
    /// is written again. Whoever marks the pods of a silent node may do so within the second that the condition names.
    pub fn set(&self, status: PodStatus, known: Option<&PodStatus>) {
        let differs = known.is_some_and(|known| readiness(known) != readiness(&status));
        let is_lost = differs && self.written.borrow().as_ref() == Some(&status);
        if is_lost {
            self.written.send_replace(known.cloned());
        }
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.as_ref() != Some(&status);
            *wanted = Some(status);
            changed || is_lost
        });
    }

    /// Waits until the newest status is written, but not for ever.
    pub async fn flush(&self, limit: Duration) {
        let wanted = self.wanted.borrow().clone();
        if wanted.is_none() {
            return;
        }
        let mut written = self.written.subscribe();
        let _ = tokio::time::timeout(limit, written.wait_for(|written| *written == wanted)).await;
    }
}

async fn write(
    api: Arc<dyn PodApi>,
    pod: PodRef,
    mut wants: watch::Receiver<Option<PodStatus>>,
    done: Arc<watch::Sender<Option<PodStatus>>>,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while wants.changed().await.is_ok() {
        loop {
            let Some(status) = wants.borrow_and_update().clone() else { break };
            let before = done.borrow().clone();
            let Some(patch) = patch(&pod, before.as_ref(), &status) else {
                done.send_replace(Some(status));
                break;
            };
            match api.patch_status(&pod, patch).await {
                Ok(Written::Done) => {
                    backoff.reset();
                    done.send_replace(Some(status));
                    break;
                }
                Ok(Written::Gone) => {
                    // Nobody will read it; later statuses are as vain.
                    done.send_replace(Some(status));
                    break;
                }
                Err(error) => {
                    tracing::warn!(%pod, error, "write pod status");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }
}

/// What the condition Ready says.
fn readiness(status: &PodStatus) -> Option<&str> {
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")?;
    Some(&ready.status)
}

/// A strategic merge patch from `before` to `after`; `None` when there is nothing to change.
fn patch(pod: &PodRef, before: Option<&PodStatus>, after: &PodStatus) -> Option<Value> {
    let before = before.map(|s| json!(s)).unwrap_or_default();
    let after = json!(after);
    let mut status = serde_json::Map::new();
    for (key, value) in after.as_object()? {
        if before.get(key) != Some(value) {
            status.insert(key.clone(), replaced(key, before.get(key), value));
        }
    }
    let gone = before
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
        .filter(|key| after.get(*key).is_none() && OWN.contains(&key.as_str()));
    status.extend(gone.map(|key| (key.clone(), Value::Null)));
    (!status.is_empty()).then(|| json!({"metadata": {"uid": pod.uid}, "status": status}))
}

/// Fields of others stay as they are.
const OWN: [&str; 10] = [
    "phase",
    "reason",
    "message",
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// Lists that the server merges by key need to be told what goes.
fn replaced(key: &str, before: Option<&Value>, value: &Value) -> Value {
    match (key, before) {
        ("podIPs" | "hostIPs", Some(Value::Array(_))) => {
            let mut list = vec![json!({"$patch": "replace"})];
            list.extend(value.as_array().cloned().unwrap_or_default());
            Value::Array(list)
        }
        ("conditions", before) => {
            let mut list = value.as_array().cloned().unwrap_or_default();
            let types: Vec<Value> = list.iter().map(|c| c["type"].clone()).collect();
            let gone = before.and_then(Value::as_array).into_iter().flatten().map(|c| &c["type"]);
            let gone: Vec<Value> = gone.filter(|kind| !types.contains(kind)).cloned().collect();
            for condition in list.iter_mut().filter_map(Value::as_object_mut) {
                condition.entry("reason").or_insert(Value::Null);
                condition.entry("message").or_insert(Value::Null);
            }
            list.extend(gone.into_iter().map(|kind| json!({"$patch": "delete", "type": kind})));
            Value::Array(list)
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests;
