//! `pods/binding`: the scheduler assigns a pod to a node (`pkg/registry/core/pod/storage.BindingREST`).

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use xebec_machinery::field::{Error, Path};
use xebec_machinery::{GroupKind, GroupResource, GroupVersionKind, Status, object};

use super::super::update::{Part, change};
use super::super::{Answer, Call, decode};
use super::success;
use crate::options::WriteOptions;

pub async fn bind(call: &Call, body: &Bytes) -> Answer {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let gvk = GroupVersionKind::new("", "v1", "Binding");
    let definition = xebec_schema::schema().by_kind(&gvk);
    let binding = decode::object(call, body, &gvk, definition, options.field_validation)?;
    assign(call, &binding, &options).await?;
    success(call, StatusCode::CREATED)
}

/// A POST to `bindings`, which names the pod in its metadata.
pub async fn bind_named(call: &Call, binding: &Value) -> Result<Value, Status> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let pods = call.app.kinds.find("", "pods").ok_or_else(Status::not_found_path)?;
    let mut pod = call.for_object(call.namespace(), object::name(binding));
    pod.resource = pods.clone();
    assign(&pod, binding, &options).await?;
    serde_json::to_value(Status::success(None)).map_err(Status::internal)
}

async fn assign(call: &Call, binding: &Value, options: &WriteOptions) -> Result<(), Status> {
    let node = object::str_at(binding, &["target", "name"]);
    let kind = object::str_at(binding, &["target", "kind"]);
    let mut errors = Vec::new();
    if !kind.is_empty() && kind != "Node" {
        errors.push(Error::not_supported(&Path::new("target.kind"), kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        errors.push(Error::required(&Path::new("target.name"), ""));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupKind::new("", "Binding"), call.name(), errors));
    }
    let gr = GroupResource::new("", "pods/binding");
    let conflict = |why: String| Status::conflict(&gr, call.name(), why);
    let wanted_uid = object::uid(binding).to_owned();
    let changed = change(call, options, Part::Server, |old| {
        let name = call.name();
        if !wanted_uid.is_empty() && wanted_uid != object::uid(old) {
            let stored = object::uid(old);
            return Err(conflict(format!(
                "Precondition failed: UID in precondition: {wanted_uid}, UID in object meta: {stored}"
            )));
        }
        if object::deletion_timestamp(old).is_some() {
            return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        match object::str_at(old, &["spec", "nodeName"]) {
            "" => {}
            assigned => return Err(conflict(format!("pod {name} is already assigned to node {assigned:?}"))),
        }
        if old.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty()) {
            return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let mut pod = old.clone();
        object::ensure_map(&mut pod, "spec").insert("nodeName".into(), node.into());
        object::annotations(binding).for_each(|(key, value)| object::set_annotation(&mut pod, key, value));
        scheduled(&mut pod, &call.app.now_rfc3339());
        Ok(pod)
    });
    changed.await?.map(|_| ()).ok_or_else(|| call.resource.not_found(call.name()))
}

/// Sets the PodScheduled condition.
fn scheduled(pod: &mut Value, now: &str) {
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": now,
    });
    let conditions = object::ensure_map(pod, "status").entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    conditions.retain(|c| c.get("type").and_then(Value::as_str) != Some("PodScheduled"));
    conditions.push(condition);
}
