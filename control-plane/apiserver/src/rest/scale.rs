//! The `scale` subresource: `autoscaling/v1` Scale over `spec.replicas`.

use http::StatusCode;
use serde_json::{Value, json};
use xebec_machinery::field::{Error, Path};
use xebec_machinery::selector::LabelSelector;
use xebec_machinery::{GroupKind, GroupVersionKind, Status, object};
use xebec_registry::autoscaling::Scale;

use super::patch::Patch;
use super::update::{Part, change};
use super::{Answer, Call, decode, encode, patch, read, table};
use crate::app::parse;
use crate::body::Incoming;
use crate::kinds::Resource;
use crate::negotiate::Shape;
use crate::options::WriteOptions;
use crate::request_info::Verb;

pub async fn serve(call: &Call, body: Incoming) -> Answer {
    match call.info.verb {
        Verb::Get => {
            let found = call.app.find_consistent(&call.resource, call.namespace(), call.name()).await?;
            let object = found.ok_or_else(|| call.resource.not_found(call.name()))?;
            answer(call, scale_of(&call.resource, &call.resource.in_this_version(parse(&object)?)))
        }
        Verb::Update => {
            let options = WriteOptions::parse(&call.query, "UpdateOptions")?;
            let gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
            let definition = xebec_schema::schema().by_kind(&gvk);
            let scale = decode::object(call, &read(body).await?, &gvk, definition, options.field_validation)?;
            write(call, &options, |_| Ok(scale.clone())).await
        }
        Verb::Patch => {
            let options = WriteOptions::parse(&call.query, "PatchOptions")?;
            if call.is_apply() {
                return patch::apply_scale(call, &read(body).await?, &options).await;
            }
            let patch = Patch::for_subresource(call, &read(body).await?, &options)?;
            write(call, &options, |mut scale| {
                patch.apply_untyped(&mut scale)?;
                Ok(scale)
            })
            .await
        }
        _ => Err(call.method_not_allowed()),
    }
}

async fn write(call: &Call, options: &WriteOptions, produce: impl Fn(Value) -> Result<Value, Status>) -> Answer {
    let changed = change(call, options, Part::Main, |old| {
        let scale = produce(scale_of(&call.resource, old))?;
        let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        check_replicas(call, replicas)?;
        let mut new = old.clone();
        let custom = call.resource.as_custom().and_then(|custom| custom.scale.as_ref());
        match custom {
            Some(paths) => paths.spec_replicas.set(&mut new, replicas.into()),
            None => _ = object::ensure_map(&mut new, "spec").insert("replicas".into(), replicas.into()),
        }
        match object::resource_version(&scale) {
            // Custom resources are never overwritten whatever they are; a scale without version means the present one.
            "" | "0" if custom.is_some() => {}
            version => object::set_resource_version(&mut new, version),
        }
        Ok(new)
    });
    let value = changed.await?.ok_or_else(|| call.resource.not_found(call.name()))?;
    answer(call, scale_of(&call.resource, &value))
}

/// A Scale in the shape that the client asked for.
pub fn answer(call: &Call, scale: Value) -> Answer {
    let shown = match call.accept.shape {
        Shape::Object => scale,
        Shape::Metadata(version) => encode::partial_metadata(scale, version),
        Shape::Table(version) => {
            table::of_kind(&Scale, &scale, call.query.text("includeObject"), version, call.app.now())
        }
    };
    encode::value(call, StatusCode::OK, shown)
}

pub fn check_replicas(call: &Call, replicas: i64) -> Result<(), Status> {
    if replicas >= 0 {
        return Ok(());
    }
    let error = Error::invalid(&Path::new("spec.replicas"), replicas, "must be greater than or equal to 0");
    Err(Status::invalid(&GroupKind::new("autoscaling", "Scale"), call.name(), vec![error]))
}

pub fn scale_of(resource: &Resource, workload: &Value) -> Value {
    if let Some(scale) = resource.as_custom().and_then(|custom| xebec_apiextensions::scale_of(custom, workload)) {
        return scale;
    }
    let at = |path: &str| workload.pointer(path).cloned().unwrap_or(Value::Null);
    let selector = match at("/spec/selector") {
        // A ReplicationController's selector is a plain map.
        Value::Object(map) if map.values().all(Value::is_string) => {
            let labels = map.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
            LabelSelector::from_map(labels).to_string()
        }
        selector => LabelSelector::from_object(&selector).map(|s| s.to_string()).unwrap_or_default(),
    };
    let replicas = |path: &str| workload.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = serde_json::Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = workload.pointer(&format!("/metadata/{field}")) {
            metadata.insert(field.into(), value.clone());
        }
    }
    let mut spec = json!({});
    if replicas("/spec/replicas") != 0 {
        spec["replicas"] = replicas("/spec/replicas").into();
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": spec,
        "status": { "replicas": replicas("/status/replicas"), "selector": selector },
    })
}
