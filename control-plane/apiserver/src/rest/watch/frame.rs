//! How events look on the wire: JSON lines, or length-delimited protobuf.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};
use xebec_machinery::Status;
use xebec_schema::protobuf::watch_frame;
use xebec_store::Revision;
use xebec_store::cache::{Event, Kind, Object};

use super::super::{Call, convert, encode, table};
use crate::app::App;
use crate::kinds::Resource;
use crate::negotiate::{Accept, Format, Shape};
use crate::wire;

#[derive(Clone)]
pub struct Framer {
    app: Arc<App>,
    resource: Arc<Resource>,
    accept: Accept,
    include: String,
    /// A table's columns come with its first row only.
    headed: Arc<AtomicBool>,
    sent: prometheus::IntCounter,
}

impl Framer {
    pub fn new(call: &Call) -> Self {
        Self {
            app: call.app.clone(),
            resource: call.resource.clone(),
            accept: call.accept,
            include: call.query.text("includeObject").to_owned(),
            headed: Arc::default(),
            sent: call.app.metrics.watch_events(&call.resource.gvr),
        }
    }

    pub fn media_type(&self) -> &'static str {
        match self.accept.format {
            Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            Format::Json | Format::Yaml => "application/json",
        }
    }

    pub fn event(&self, event: &Event) -> Bytes {
        if !self.is_plain(&event.object) {
            return self.object(event.kind, &event.object);
        }
        self.sent.inc();
        event.json()
    }

    pub fn object(&self, kind: Kind, object: &Object) -> Bytes {
        if self.is_plain(object) {
            self.sent.inc();
            return object.event_json(kind);
        }
        let value = serde_json::from_slice(object.as_slice()).unwrap_or_default();
        let shown = convert::shown(&self.resource, value).unwrap_or_default();
        self.frame(kind.as_str(), &self.shape(shown))
    }

    /// How far the watch has got; `initial_end` closes the initial events.
    pub fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let mut object = json!({
            "kind": self.resource.row.kind,
            "apiVersion": self.resource.api_version,
            "metadata": { "resourceVersion": revision.to_string(), "creationTimestamp": null },
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        self.frame("BOOKMARK", &self.shape(object))
    }

    pub fn error(&self, status: &Status) -> Bytes {
        self.frame("ERROR", &serde_json::to_value(status).unwrap_or_default())
    }

    /// Whether the cache's own bytes serve.
    fn is_plain(&self, object: &Object) -> bool {
        self.accept.format != Format::Protobuf
            && self.accept.shape == Shape::Object
            && self.resource.shows_bytes_of(object)
    }

    fn shape(&self, object: Value) -> Value {
        match self.accept.shape {
            Shape::Object => object,
            Shape::Metadata(version) => encode::partial_metadata(object, version),
            Shape::Table(version) => {
                let first = !self.headed.swap(true, Ordering::Relaxed);
                table::single(&self.resource, &object, &self.include, version, self.app.now(), first)
            }
        }
    }

    fn frame(&self, kind: &str, object: &Value) -> Bytes {
        self.sent.inc();
        if self.accept.format == Format::Protobuf {
            return watch_frame(kind, &wire::to_protobuf(object).unwrap_or_default()).into();
        }
        let mut line = format!(r#"{{"type":"{kind}","object":{object}}}"#);
        line.push('\n');
        line.into()
    }
}
