//! `/openapi/v2` and `/openapi/v3`: rendered once, then bytes.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use parking_lot::Mutex;
use serde_json::Value;
use xebec_machinery::{GroupVersion, Status};
use xebec_schema::openapi;

use crate::body::Body;
use crate::pipeline::tagged;

/// Documents by path; each is rendered when it is first asked for.
static RENDERED: LazyLock<Mutex<HashMap<String, Bytes>>> = LazyLock::new(Mutex::default);

pub fn serve(path: &[&str], query: &str, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let json = ["application/json", "*/*", "application/*"].iter().any(|t| accept.contains(t));
    if !accept.is_empty() && !json {
        // OpenAPI as protobuf is a schema of its own; clients fall back to what JSON offers.
        return Err(match path {
            ["v2"] => Status::not_found_path(),
            _ => Status::not_acceptable(&["application/json"]),
        });
    }
    let document = match path {
        ["v2"] => rendered(path, || Some(openapi::v2())),
        ["v3"] => rendered(path, || Some(openapi::v3_index())),
        ["v3", "api", version] => rendered(path, || openapi::v3(&GroupVersion::new("", *version))),
        ["v3", "apis", group, version] => rendered(path, || openapi::v3(&GroupVersion::new(*group, *version))),
        _ => None,
    };
    let mut response = tagged(headers, "application/json", document.ok_or_else(Status::not_found_path)?);
    if query.contains("hash=") {
        // The URL changes with the content.
        let forever = HeaderValue::from_static("public, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, forever);
    }
    Ok(response)
}

fn rendered(path: &[&str], render: impl FnOnce() -> Option<Value>) -> Option<Bytes> {
    let key = path.join("/");
    if let Some(bytes) = RENDERED.lock().get(&key) {
        return Some(bytes.clone());
    }
    let bytes = Bytes::from(serde_json::to_vec(&render()?).ok()?);
    RENDERED.lock().insert(key, bytes.clone());
    Some(bytes)
}
