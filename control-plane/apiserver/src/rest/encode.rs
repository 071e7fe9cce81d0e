//! Responses in the representation that the client asked for.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use xebec_machinery::{Status, object};
use xebec_store::cache::Object;

use super::{Answer, Call, convert, table};
use crate::app::parse;
use crate::body::{Body, BoxError};
use crate::negotiate::{Format, Shape};
use crate::wire;

/// As upstream's `defaultGzipThresholdBytes`.
pub const GZIP_BYTES_MIN: usize = 128 << 10;

/// An object as the cache has it: its very bytes if the client takes them.
pub fn cached(call: &Call, code: StatusCode, object: &Object) -> Answer {
    if call.accept.format == Format::Json && call.accept.shape == Shape::Object && call.resource.shows_bytes_of(object)
    {
        return Ok(sized(call, code, "application/json", object.bytes()));
    }
    let shown = convert::shown(&call.resource, parse(object)?)?;
    self::object(call, code, shown)
}

/// An object of the call's resource, in the shape that the client asked for.
pub fn object(call: &Call, code: StatusCode, object: Value) -> Answer {
    value(call, code, shape(call, object))
}

/// `object` as a table, its metadata or itself.
pub fn shape(call: &Call, object: Value) -> Value {
    match call.accept.shape {
        Shape::Object => object,
        Shape::Metadata(version) => partial_metadata(object, version),
        Shape::Table(version) => {
            let include = call.query.text("includeObject");
            table::single(&call.resource, &object, include, version, call.app.now(), true)
        }
    }
}

/// Anything, in the format that the client asked for.
pub fn value(call: &Call, code: StatusCode, value: Value) -> Answer {
    let (media_type, bytes) = render(call.accept.format, &value)?;
    Ok(sized(call, code, media_type, bytes))
}

/// Compressed if it is large and the client can read that.
fn sized(call: &Call, code: StatusCode, media_type: &'static str, bytes: Bytes) -> Response<Body> {
    if !call.accept.gzip || bytes.len() < GZIP_BYTES_MIN || call.is_local() {
        return respond(code, media_type, Body::from(bytes));
    }
    let mut response =
        respond(code, media_type, Body::stream(futures::stream::iter(gzip_chunks(std::iter::once(bytes)))));
    gzip_headers(response.headers_mut());
    response
}

pub fn gzip_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

pub fn render(format: Format, value: &Value) -> Result<(&'static str, Bytes), Status> {
    let bytes = match format {
        Format::Json => serde_json::to_vec(value).map_err(Status::internal)?,
        Format::Yaml => wire::to_yaml(value)?,
        Format::Protobuf => wire::to_protobuf(value)?,
    };
    Ok((format.media_type(), bytes.into()))
}

/// A `metav1.Status`: JSON, unless the client can read only protobuf or YAML.
pub fn status(status: &Status, format: Format) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = || serde_json::to_vec(status).unwrap_or_default();
    let rendered = match format {
        Format::Json => None,
        other => serde_json::to_value(status).ok().and_then(|value| render(other, &value).ok()),
    };
    let (media_type, bytes) = rendered.unwrap_or_else(|| ("application/json", json().into()));
    let mut response = respond(code, media_type, Body::from(bytes));
    if let Some(seconds) = status.details.as_ref().and_then(|d| d.retry_after_seconds) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub fn respond(code: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    standard_headers(response.headers_mut(), media_type);
    response
}

pub fn standard_headers(headers: &mut HeaderMap, media_type: &'static str) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
}

/// `PartialObjectMetadata` of an object.
pub fn partial_metadata(mut object: Value, version: &str) -> Value {
    let metadata = object.get_mut("metadata").map(Value::take).unwrap_or_default();
    json!({ "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata })
}

/// Compresses chunk by chunk. Level 1, as upstream: the network is rarely slower than a better level.
pub fn gzip_chunks(chunks: impl Iterator<Item = Bytes>) -> impl Iterator<Item = Result<Bytes, BoxError>> {
    let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::new(1)));
    let mut chunks = chunks.fuse();
    std::iter::from_fn(move || {
        while let Some(gzip) = encoder.as_mut() {
            match chunks.next() {
                Some(chunk) => {
                    if let Err(e) = gzip.write_all(&chunk) {
                        return Some(Err(e.into()));
                    }
                    let ready = std::mem::take(gzip.get_mut());
                    if !ready.is_empty() {
                        return Some(Ok(ready.into()));
                    }
                }
                None => return Some(encoder.take()?.finish().map(Bytes::from).map_err(Into::into)),
            }
        }
        None
    })
}

/// Warning headers (RFC 7234, 5.5), as upstream's `warning` package writes them.
pub fn warnings(headers: &mut HeaderMap, texts: &[String]) {
    for text in texts {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = quoted.chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{clean}\"").as_bytes()) {
            headers.append(header::WARNING, value);
        }
    }
}

/// A status that says an object was deleted.
pub fn deleted_status(call: &Call, object: &Value) -> Value {
    let mut details =
        json!({ "name": object::name(object), "kind": call.resource.row.plural, "uid": object::uid(object) });
    if !call.resource.row.group.is_empty() {
        details["group"] = call.resource.row.group.into();
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}
