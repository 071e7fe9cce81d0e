//! Field ownership (`metadata.managedFields`).

use serde_json::Value;
use xebec_apiextensions::CustomResource;
use xebec_machinery::patch::apply::{self, Manager};
use xebec_machinery::{Status, object};

use super::Call;
use crate::kinds::Resource;
use crate::options::WriteOptions;

/// What a write to the object itself does not own: the status of kinds that have the subresource.
const NOT_STATUS: &[&[&str]] = &[&["status"]];

/// `fieldManager`, or the part of the user agent before the slash (`managerOrUserAgent`).
fn manager(call: &Call, field_manager: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let agent = call.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let prefix = agent.split('/').next().unwrap_or("");
    let name: String = prefix.chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

/// Records in `new` that whoever calls wrote what differs from `old`.
pub fn update(call: &Call, old: Option<&Value>, new: &mut Value, options: &WriteOptions, subresource: &str) {
    let resource = &call.resource;
    let (name, now) = (manager(call, &options.field_manager), call.app.now_rfc3339());
    let manager = manager_of(resource, &name, subresource, &now);
    match resource.as_custom() {
        Some(custom) => apply::update_managed_fields(old, new, custom.patch_schema(), &manager),
        None => apply::update_managed_fields(old, new, resource.stored.patch_schema(), &manager),
    }
}

/// `config` applied to the present object, with ownership; conflicts with other managers are an error unless forced.
pub fn apply(
    call: &Call,
    old: Option<&Value>,
    config: &Value,
    options: &WriteOptions,
    subresource: &str,
) -> Result<Value, Status> {
    let (resource, now) = (&call.resource, call.app.now_rfc3339());
    let manager = manager_of(resource, &options.field_manager, subresource, &now);
    let mut new = match resource.as_custom() {
        Some(custom) => apply::apply(old, config, custom.patch_schema(), &manager, options.force)?,
        None => apply::apply(old, config, resource.stored.patch_schema(), &manager, options.force)?,
    };
    // A version in the configuration is a demand, one from the stored object is not.
    let wanted = object::resource_version(config);
    if !wanted.is_empty() {
        object::set_resource_version(&mut new, wanted);
    }
    Ok(new)
}

/// Makes an applied configuration canonical; what does not fit its type is an error, whatever `fieldValidation` says.
pub fn typed(call: &Call, config: &mut Value, options: &WriteOptions, subresource: &str) -> Result<(), Status> {
    let (resource, sent) = (&call.resource, config.clone());
    if let Some(custom) = resource.as_custom() {
        return typed_custom(custom, config);
    }
    let unknown = super::decode::unknown(config, Some(resource.row.def)).map_err(|why| apply::untyped(&sent, &why))?;
    if unknown.is_empty() {
        return Ok(());
    }
    // The merge says where they are.
    let now = call.app.now_rfc3339();
    let manager = manager_of(resource, &options.field_manager, subresource, &now);
    apply::apply(None, &sent, resource.row.patch_schema(), &manager, true)?;
    Err(apply::untyped(&sent, &format!("errors: {}", unknown.join(", "))))
}

/// A configuration of a custom resource. What its schema does not know is an error here too.
fn typed_custom(custom: &CustomResource, config: &mut Value) -> Result<(), Status> {
    let sent = config.clone();
    let unknown = custom.decode(config).map_err(|why| apply::untyped(&sent, &why))?;
    if unknown.is_empty() {
        return Ok(());
    }
    let path = |text: &String| {
        let path = text.trim_start_matches("unknown field ").trim_matches('"').to_owned();
        format!(".{path}: field not declared in schema")
    };
    let problems: Vec<String> = unknown.iter().map(path).collect();
    Err(apply::untyped(&sent, &problems.join(", ")))
}

fn manager_of<'a>(resource: &'a Resource, name: &'a str, subresource: &'a str, now: &'a str) -> Manager<'a> {
    let ignored = match subresource {
        "" if resource.row.subresource("status").is_some() => NOT_STATUS,
        "status" => resource.strategy.status_resets(),
        _ => &[],
    };
    Manager { name, api_version: &resource.stored_version, subresource, now, ignored }
}
