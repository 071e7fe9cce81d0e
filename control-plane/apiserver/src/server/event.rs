//! Events that the API server itself writes, with upstream's reasons and words where upstream has them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use xebec_machinery::object;

use super::{LocalService, hooks};
use crate::app::App;
use crate::user::UserInfo;

/// Tells of a fault of `about`: once as long as the event is kept, however often it is found. `component` found it.
pub async fn warn(app: &Arc<App>, component: &str, about: &Value, reason: &str, message: &str) {
    // Events of what has no namespace are in `default`.
    let namespace = Some(object::namespace(about)).filter(|namespace| !namespace.is_empty()).unwrap_or("default");
    let mut hasher = DefaultHasher::new();
    (object::uid(about), reason, message).hash(&mut hasher);
    let now = app.now_rfc3339();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{:016x}", object::name(about).replace(':', "-"), hasher.finish()),
            "namespace": namespace,
        },
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": object::namespace(about),
            "name": object::name(about),
            "uid": object::uid(about),
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    });
    let service = LocalService::new(Arc::clone(app), UserInfo::loopback());
    let path = format!("/api/v1/namespaces/{namespace}/events");
    match hooks::send(&service, Method::POST, &path, Some(&event)).await {
        Ok((200..=299 | 409, _)) => {}
        outcome => tracing::debug!(reason, message, ?outcome, "event not written"),
    }
}
