//! Pods run as a service account that exists, and get its token (`plugin/pkg/admission/serviceaccount`).

use std::time::Duration;

use async_trait::async_trait;
use rand::Rng;
use serde_json::{Value, json};
use xebec_machinery::Status;
use xebec_registry::value::{at, is_set, items, items_mut, object_mut, set, string};

use super::{Attributes, Operation, Plugin, Reader};

const DEFAULT: &str = "default";
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Upstream's `defaultTokenExpirationSeconds + 7`: tells these tokens from those that somebody asked for.
const TOKEN_SECONDS: i64 = 3607;
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The default account of a namespace is made by a controller; a pod may come sooner.
const DEFAULT_ATTEMPTS: usize = 20;
const RETRY: Duration = Duration::from_millis(100);

pub struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        if at(&attributes.object, "metadata.annotations").get(MIRROR).is_some() {
            return mirror(attributes);
        }
        if string(&attributes.object, "spec.serviceAccountName").is_empty() {
            set(&mut attributes.object, "spec.serviceAccountName", DEFAULT);
            set(&mut attributes.object, "spec.serviceAccount", DEFAULT);
        }
        let account = find(attributes, reader).await?;
        let pod = &mut attributes.object;
        if mounts_token(pod, &account) {
            mount_token(pod, &suffix());
        }
        if items(pod, "spec.imagePullSecrets").is_empty() && !items(&account, "imagePullSecrets").is_empty() {
            set(pod, "spec.imagePullSecrets", at(&account, "imagePullSecrets").clone());
        }
        Ok(())
    }
}

fn forbidden(attributes: &Attributes<'_>, message: impl Into<String>) -> Status {
    Status::forbidden(&attributes.resource.group_resource(), attributes.name, message.into())
}

/// A mirror pod shows what a node runs by itself; it cannot act through the API.
fn mirror(attributes: &Attributes<'_>) -> Result<(), Status> {
    let pod = &attributes.object;
    if !string(pod, "spec.serviceAccountName").is_empty() {
        return Err(forbidden(attributes, "a mirror pod may not reference service accounts"));
    }
    let has_token =
        |volume: &Value| items(volume, "projected.sources").iter().any(|source| is_set(source, "serviceAccountToken"));
    if items(pod, "spec.volumes").iter().any(has_token) {
        return Err(forbidden(attributes, "a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

async fn find(attributes: &Attributes<'_>, reader: &dyn Reader) -> Result<Value, Status> {
    let (namespace, name) = (attributes.namespace, string(&attributes.object, "spec.serviceAccountName"));
    if let Some(account) = reader.get("", "serviceaccounts", namespace, name) {
        return Ok(account);
    }
    let attempts = if name == DEFAULT { DEFAULT_ATTEMPTS } else { 1 };
    for attempt in 0..attempts {
        if attempt > 0 {
            tokio::time::sleep(RETRY).await;
        }
        if let Some(account) = reader.get_consistent("", "serviceaccounts", namespace, name).await? {
            return Ok(account);
        }
    }
    let message = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
    Err(forbidden(attributes, message))
}

/// The pod decides, then the account, then yes.
fn mounts_token(pod: &Value, account: &Value) -> bool {
    [at(pod, "spec.automountServiceAccountToken"), at(account, "automountServiceAccountToken")]
        .into_iter()
        .find_map(Value::as_bool)
        .unwrap_or(true)
}

/// Adds the volume, unless every container mounts something of its own there.
fn mount_token(pod: &mut Value, suffix: &str) {
    let existing = items(pod, "spec.volumes").iter().map(|volume| string(volume, "name"));
    let existing = existing.into_iter().find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned);
    let name = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{suffix}"));
    let mut needed = false;
    for kind in ["spec.initContainers", "spec.containers"] {
        for container in items_mut(pod, kind) {
            if items(container, "volumeMounts").iter().any(|mount| string(mount, "mountPath") == TOKEN_PATH) {
                continue;
            }
            needed = true;
            push(container, "volumeMounts", json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
        }
    }
    if needed && existing.is_none() {
        push(&mut pod["spec"], "volumes", token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
        },
    })
}

fn push(object: &mut Value, list: &str, item: Value) {
    let slot = object_mut(object, "").entry(list).or_insert(Value::Null);
    match slot {
        Value::Array(list) => list.push(item),
        other => *other = json!([item]),
    }
}

/// The end of a generated name, in apimachinery's alphabet.
fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    (0..5).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests;
