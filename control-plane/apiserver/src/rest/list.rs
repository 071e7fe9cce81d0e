//! LIST: streams the bytes of cached objects; a page at a time if the client asks for pages.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use xebec_apiextensions::CustomResource;
use xebec_machinery::Status;
use xebec_machinery::selector::{FieldSelector, LabelSelector};
use xebec_registry::Strategy;
use xebec_store::cache::{At, Filter, Object, Query, Snapshot};

use super::{Answer, Call, convert, encode, table};
use crate::app::{parse, store_error};
use crate::body::Body;
use crate::kinds::{Behaviour, Resource, field_names};
use crate::negotiate::{Format, Shape};
use crate::options::{Continue, ListOptions, Match};

/// Lists above this many bytes are sent in chunks of about [`CHUNK_BYTES`].
const WHOLE_BYTES_MAX: usize = 128 << 10;
const CHUNK_BYTES: usize = 64 << 10;

pub async fn list(call: &Call) -> Answer {
    let options = ListOptions::parse(&call.query, false)?;
    let snapshot = snapshot(call, &options).await?;
    let meta = list_meta(&snapshot);
    match (call.accept.format, call.accept.shape) {
        (Format::Json, Shape::Object) if !call.resource.converted() => {
            Ok(respond(call, head(call, &meta), snapshot, Item::Bytes))
        }
        (Format::Json, Shape::Table(version)) => {
            let head = table::head(&*call.resource.strategy, version, &meta);
            Ok(respond(call, head, snapshot, Item::Row(call.query.text("includeObject").to_owned())))
        }
        (Format::Json, Shape::Metadata(version)) => {
            let head = format!(
                r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/{version}","metadata":{meta},"items":["#
            );
            Ok(respond(call, head, snapshot, Item::Metadata(version)))
        }
        (Format::Json, Shape::Object) => Ok(respond(call, head(call, &meta), snapshot, Item::Converted)),
        _ => {
            let items: Result<Vec<Value>, Status> =
                snapshot.objects.iter().map(|o| convert::shown(&call.resource, parse(o)?)).collect();
            let items = items?.into_iter().map(|item| encode::shape(call, item)).collect::<Vec<_>>();
            let (api_version, kind) = match call.accept.shape {
                Shape::Metadata(version) => (format!("meta.k8s.io/{version}"), "PartialObjectMetadataList".to_owned()),
                _ => (call.resource.api_version.clone(), call.resource.list_kind().into_owned()),
            };
            encode::value(
                call,
                StatusCode::OK,
                json!({ "kind": kind, "apiVersion": api_version, "metadata": meta, "items": items }),
            )
        }
    }
}

/// The objects that the options select.
pub async fn snapshot(call: &Call, options: &ListOptions) -> Result<Snapshot, Status> {
    let at = match (&options.continuation, options.resource_version, options.version_match) {
        (Some(token), ..) => token.revision.map_or(At::Consistent, At::Exact),
        (None, None, _) => At::Consistent,
        (None, Some(revision), _) if revision.0 == 0 => At::Any,
        (None, Some(revision), Some(Match::Exact)) => At::Exact(revision),
        // Without a match rule a limit makes the version exact (the API's table of list semantics).
        (None, Some(revision), None) if options.limit > 0 => At::Exact(revision),
        (None, Some(revision), _) => At::NotOlderThan(revision),
    };
    let namespace = Some(call.namespace()).filter(|n| !n.is_empty());
    let query = Query {
        resource: &call.resource.storage,
        namespace,
        filter: filter(&call.resource, &options.labels, &options.fields)?,
        at,
        limit: options.limit,
        start_after: options.continuation.as_ref().map(|token| token.start_after.as_str()),
    };
    call.app.cache.list(&query).await.map_err(|error| match (&error, &options.continuation) {
        (xebec_store::Error::Compacted { .. }, Some(token)) => inconsistent(token),
        _ => store_error(error),
    })
}

/// The pages so far were of a state that is forgotten; the answer has a token for the rest of the present one.
fn inconsistent(token: &Continue) -> Status {
    let present = Continue { revision: None, ..token.clone() };
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. \
         You can start a new list without the continue parameter, or use the continue token in this response to retrieve \
         the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that \
         were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    )
    .with_continuation(present.encode())
}

/// What every kind can be selected by.
const COMMON_FIELDS: [&str; 2] = ["metadata.name", "metadata.namespace"];

/// Selectors as the cache takes them.
pub fn filter(resource: &Resource, labels: &LabelSelector, fields: &FieldSelector) -> Result<Filter, Status> {
    let fields = &convert::fields(resource, fields);
    if !fields.is_empty() {
        let known = field_names(&*resource.strategy);
        if let Some(unknown) = fields.requirements.iter().map(|r| &r.field).find(|field| !known.contains(field)) {
            let own = known.iter().any(|name| !COMMON_FIELDS.contains(&name.as_str()));
            // Kinds without fields of their own go through upstream's `DefaultMetaV1FieldSelectorConversion`.
            return Err(Status::bad_request(match own {
                true => format!("field label not supported: {unknown}"),
                false => {
                    format!("{unknown:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
                }
            }));
        }
    }
    let mut filter = Filter::all();
    if !labels.is_everything() || !fields.is_empty() {
        let selectors = (labels.clone(), fields.clone());
        let (labels, fields) = selectors.clone();
        filter = Filter::new(move |object: &Object| {
            labels.matches(|key| object.labels().get(key)) && fields.matches(|field| object.field(field))
        });
        if let Behaviour::Custom(custom) = resource.strategy.clone() {
            filter = custom_filter(custom, selectors);
        }
    }
    if let Some(name) = fields.required("metadata.name") {
        filter = filter.with_name(name);
    }
    if let Some(node) = fields.required("spec.nodeName") {
        filter = filter.with_field("spec.nodeName", node);
    }
    Ok(filter)
}

/// Selectable fields of custom resources are in no index: the object is read if one is asked for.
fn custom_filter(custom: Arc<CustomResource>, (labels, fields): (LabelSelector, FieldSelector)) -> Filter {
    let of_metadata = fields.requirements.iter().all(|r| r.field.starts_with("metadata."));
    Filter::new(move |object: &Object| {
        if !labels.matches(|key| object.labels().get(key)) {
            return false;
        }
        if of_metadata {
            return fields.matches(|field| object.field(field));
        }
        let value = serde_json::from_slice::<Value>(object.as_slice()).unwrap_or_default();
        let selectable = custom.fields(&custom.shown(value));
        fields.matches(|field| match selectable.iter().find(|(name, _)| *name == field) {
            Some((_, value)) => Some(value.as_str()),
            None => object.field(field),
        })
    })
}

/// The metadata of a list: its version, and where the rest is.
pub fn list_meta(snapshot: &Snapshot) -> Value {
    let mut meta = json!({ "resourceVersion": snapshot.revision.to_string() });
    if let Some(next) = &snapshot.next {
        let token = Continue { revision: Some(snapshot.revision), start_after: next.clone() };
        meta["continue"] = token.encode().into();
        if let Some(remaining) = snapshot.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
    }
    meta
}

fn head(call: &Call, meta: &Value) -> String {
    let (kind, api_version) = (call.resource.list_kind(), &call.resource.api_version);
    format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{meta},"items":["#)
}

/// How one object appears in the list.
enum Item {
    Bytes,
    Converted,
    /// Holds `includeObject`.
    Row(String),
    Metadata(&'static str),
}

/// Sends `head`, the items separated by commas, and the closing brackets.
fn respond(call: &Call, head: String, snapshot: Snapshot, item: Item) -> Response<Body> {
    let total: usize = snapshot.objects.iter().map(|o| o.as_slice().len() + 1).sum();
    let gzip = call.accept.gzip && total >= encode::GZIP_BYTES_MIN && !call.is_local();
    let mut chunks = Chunks {
        objects: snapshot.objects,
        next: 0,
        resource: call.resource.clone(),
        item,
        head: Some(head),
        done: false,
        now: call.app.now(),
    };
    let body = if gzip {
        Body::stream(futures::stream::iter(encode::gzip_chunks(chunks)))
    } else if total <= WHOLE_BYTES_MAX {
        let mut whole = Vec::with_capacity(total + 256);
        for chunk in chunks.by_ref() {
            whole.extend_from_slice(&chunk);
        }
        Body::from(whole)
    } else {
        Body::stream(futures::stream::iter(chunks.map(Ok)))
    };
    let mut response = Response::new(body);
    encode::standard_headers(response.headers_mut(), "application/json");
    if gzip {
        encode::gzip_headers(response.headers_mut());
    }
    response
}

/// The bytes of a list, some tens of kilobytes at a time.
struct Chunks {
    objects: Vec<Arc<Object>>,
    next: usize,
    resource: Arc<Resource>,
    item: Item,
    head: Option<String>,
    done: bool,
    now: time::OffsetDateTime,
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + (8 << 10));
        if let Some(head) = self.head.take() {
            chunk.extend_from_slice(head.as_bytes());
        }
        while chunk.len() < CHUNK_BYTES {
            let Some(object) = self.objects.get(self.next) else {
                chunk.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if self.next > 0 {
                chunk.push(b',');
            }
            self.next += 1;
            self.write(object, &mut chunk);
        }
        Some(chunk.into())
    }
}

impl Chunks {
    fn write(&self, object: &Object, out: &mut Vec<u8>) {
        let value = |object: &Object| serde_json::from_slice::<Value>(object.as_slice()).unwrap_or_default();
        match &self.item {
            Item::Bytes if self.resource.shows_bytes_of(object) => out.extend_from_slice(object.as_slice()),
            Item::Bytes | Item::Converted => {
                let shown = convert::shown(&self.resource, value(object)).unwrap_or_default();
                _ = serde_json::to_writer(out, &shown);
            }
            Item::Row(include) => {
                let stored = self.resource.in_this_version(value(object));
                let row = table::row(&self.resource, &stored, include, "v1", self.now);
                _ = serde_json::to_writer(out, &row);
            }
            Item::Metadata(version) => {
                _ = serde_json::to_writer(out, &encode::partial_metadata(value(object), version));
            }
        }
    }
}
