//! Events of the repair of what Services hold, with upstream's reasons and words.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use xebec_machinery::{object, time};

use crate::app::App;
use crate::server::{LocalService, hooks};
use crate::user::UserInfo;

const COMPONENT: &str = "ipallocator-repair-controller";

/// Tells of a fault of `about`, a Service or an IPAddress: once as long as the event is kept, however often it is found.
pub async fn warn(app: &Arc<App>, about: &Value, reason: &str, message: &str) {
    let is_address = about["kind"] == "IPAddress";
    let (version, kind) = if is_address { ("networking.k8s.io/v1", "IPAddress") } else { ("v1", "Service") };
    // Events of what has no namespace are in `default`.
    let namespace = if is_address { "default" } else { object::namespace(about) };
    let mut hasher = DefaultHasher::new();
    (object::uid(about), reason, message).hash(&mut hasher);
    let now = time::now_rfc3339();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{:016x}", object::name(about).replace(':', "-"), hasher.finish()),
            "namespace": namespace,
        },
        "involvedObject": {
            "apiVersion": version,
            "kind": kind,
            "namespace": object::namespace(about),
            "name": object::name(about),
            "uid": object::uid(about),
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
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
