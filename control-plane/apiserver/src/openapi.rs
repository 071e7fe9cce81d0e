//! `/openapi/v2` and `/openapi/v3`: rendered when they are asked for, kept while they are in use.

mod gnostic;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use xebec_apiextensions::CustomResource;
use xebec_machinery::{GroupVersion, Status};
use xebec_schema::openapi;

use crate::app::App;
use crate::body::Body;
use crate::pipeline::tagged;

const JSON: &str = "application/json";
/// What clients ask for; `@` is not allowed in a media type, so the answer has a name of its own (kube-openapi's `handler`).
const PROTOBUF_ASKED: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];
const PROTOBUF: &str = PROTOBUF_ASKED[1];

/// Documents are some megabytes; those that nobody asks for go.
const IDLE: Duration = Duration::from_secs(60);

/// A document that was rendered.
struct Rendered {
    bytes: Bytes,
    used: Instant,
}

/// Documents by media type and path.
static RENDERED: LazyLock<Mutex<HashMap<(&str, String), Rendered>>> = LazyLock::new(Mutex::default);

/// Drops documents that were not asked for in a while, until the server stops.
pub async fn forget_idle(app: Arc<App>) {
    while tokio::time::timeout(IDLE, app.stop.cancelled()).await.is_err() {
        let mut rendered = RENDERED.lock();
        rendered.retain(|_, document| document.used.elapsed() < IDLE);
        rendered.shrink_to_fit();
    }
}

pub fn serve(app: &App, path: &[&str], query: &str, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let format = accepted(path, headers)?;
    let table = app.kinds.custom();
    let extra: Vec<openapi::Extra<'_>> = table.all().iter().filter_map(|r| r.as_custom()).map(extra).collect();
    let key = || match table.fingerprint {
        0 => path.join("/"),
        custom => format!("{}#{custom:x}", path.join("/")),
    };
    let document = match path {
        ["v2"] => rendered(key(), format, || Some(openapi::v2(&extra))),
        ["v3"] => rendered(key(), format, || Some(openapi::v3_index(&extra))),
        ["v3", "api", version] => {
            rendered(path.join("/"), format, || openapi::v3(&GroupVersion::new("", *version), &[]))
        }
        ["v3", "apis", group, version] => {
            let gv = GroupVersion::new(*group, *version);
            let path = if extra.iter().any(|e| e.row.group_version() == gv) { key() } else { path.join("/") };
            rendered(path, format, || openapi::v3(&gv, &extra))
        }
        _ => None,
    };
    let mut response = tagged(headers, format, document.ok_or_else(Status::not_found_path)?);
    if query.contains("hash=") {
        // The URL changes with the content.
        let forever = HeaderValue::from_static("public, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, forever);
    }
    Ok(response)
}

fn extra(custom: &CustomResource) -> openapi::Extra<'_> {
    openapi::Extra {
        row: custom.row,
        list_kind: &custom.list_kind,
        schema: custom.declared_schema(),
        fingerprint: custom.fingerprint,
    }
}

/// The first media type of the Accept header that the path has.
fn accepted(path: &[&str], headers: &HeaderMap) -> Result<&'static str, Status> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    let format = |clause: &str| match clause.split(';').next().unwrap_or_default().trim() {
        JSON | "*/*" | "application/*" => Some(JSON),
        asked if path == ["v2"] && PROTOBUF_ASKED.contains(&asked) => Some(PROTOBUF),
        _ => None,
    };
    accept.split(',').find_map(format).ok_or_else(|| match path {
        ["v2"] => Status::not_acceptable(&[JSON, PROTOBUF_ASKED[0], PROTOBUF_ASKED[1]]),
        _ => Status::not_acceptable(&[JSON]),
    })
}

fn rendered(path: String, format: &'static str, render: impl FnOnce() -> Option<Value>) -> Option<Bytes> {
    let key = (format, path);
    if let Some(document) = RENDERED.lock().get_mut(&key) {
        document.used = Instant::now();
        return Some(document.bytes.clone());
    }
    let document = render()?;
    let bytes = Bytes::from(match format {
        PROTOBUF => gnostic::encode(&document),
        _ => serde_json::to_vec(&document).ok()?,
    });
    RENDERED.lock().insert(key, Rendered { bytes: bytes.clone(), used: Instant::now() });
    Some(bytes)
}
