//! Field ownership (`metadata.managedFields`).

use serde_json::Value;
use crate::kinds::Resource;
use crate::options::WriteOptions;

use xebec_machinery::Status;

use super::Call;

/// `fieldManager`, or the part of the user agent before the slash (`managerOrUserAgent`).
pub fn manager(call: &Call, field_manager: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let agent = call.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let prefix = agent.split('/').next().unwrap_or("");
    let name: String = prefix.chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

/// Records in `new` that `manager` wrote what differs from `old`.
pub fn update(_resource: &Resource, _old: Option<&Value>, new: &mut Value, _manager: &str, _subresource: &str) {
    let _ = new;
}

/// `config` applied to the present object, with ownership; conflicts with other managers are an error unless forced.
pub fn apply(
    _resource: &Resource,
    old: Option<&Value>,
    config: &Value,
    _options: &WriteOptions,
    _subresource: &str,
) -> Result<Value, Status> {
    let mut new = old.cloned().unwrap_or_default();
    xebec_machinery::patch::merge::apply(&mut new, config.clone());
    Ok(new)
}
