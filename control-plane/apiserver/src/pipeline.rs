//! The road that every request takes.

mod impersonation;
mod node;
mod other;
mod pretty;
mod proxied;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use parking_lot::Mutex;
use tokio::time::Instant;
use xebec_machinery::Status;

use crate::app::App;
use crate::authn::PeerCert;
use crate::authz::Attributes;
use crate::body::{Body, Incoming};
use crate::flow_control::is_long_running;
use crate::kinds::Resource;
use crate::metrics::Labels;
use crate::negotiate::{self, Accept, Format};
use crate::options::Query;
use crate::request_info::{RequestInfo, Verb};
use crate::rest::{self, Call};
use crate::user::UserInfo;

pub use other::tagged;

/// Where a request comes from.
#[derive(Clone)]
pub enum Origin {
    /// A TLS connection, with the certificate of its client.
    Remote(Option<Arc<PeerCert>>),
    /// This process, as a user.
    Local(Arc<UserInfo>),
}

/// Marks an answer that goes on for as long as its client likes.
#[derive(Clone, Copy)]
pub struct LongRunning;

/// Answers a request, whatever happens on the way.
pub fn handle(app: Arc<App>, origin: Origin, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
    Box::pin(answer(app, origin, request))
}

async fn answer(app: Arc<App>, origin: Origin, mut request: Request<Incoming>) -> Response<Body> {
    let start = Instant::now();
    let dry_run = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "dryRun=All"));
    let info = RequestInfo::new(request.method(), request.uri().path(), request.uri().query().unwrap_or(""));
    let is_for_people = pretty::is_wanted(&info, request.uri().query().unwrap_or(""), request.headers());
    if is_for_people {
        // What is compressed is not indented any more.
        request.headers_mut().remove(header::ACCEPT_ENCODING);
    }
    let format = negotiate::accept(request.headers()).map_or(Format::Json, |accept| accept.format);
    let audit_id = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).ok();
    let _seen = match is_long_running(&info) {
        true => app.metrics.streaming(metric_verb(&info)),
        false => app.metrics.serving(!info.verb.is_read_only()),
    };
    let answer = AssertUnwindSafe(serve(&app, &origin, &info, request)).catch_unwind().await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => rest::status(&status, format),
        Err(_) => {
            tracing::error!(path = info.path, verb = info.verb.as_str(), "request panicked");
            let message = "This request caused apiserver to panic. Look in the logs for details.";
            rest::status(&Status::new(500, xebec_machinery::status::Reason::InternalError, message), format)
        }
    };
    tracing::debug!(
        target: "audit",
        verb = info.verb.as_str(),
        path = info.path,
        code = response.status().as_u16(),
        elapsed = ?start.elapsed(),
        "request"
    );
    if is_long_running(&info) {
        response.extensions_mut().insert(LongRunning);
    } else if is_for_people {
        response = pretty::indented(response);
    }
    if let Some(id) = audit_id {
        response.headers_mut().insert("audit-id", id);
    }
    observe(&app, &info, dry_run, response.status().as_u16(), start.elapsed());
    response
}

async fn serve(
    app: &Arc<App>,
    origin: &Origin,
    info: &RequestInfo,
    request: Request<Incoming>,
) -> Result<Response<Body>, Status> {
    let user = match origin {
        Origin::Local(user) => (**user).clone(),
        Origin::Remote(peer) => app.authn.request(app, request.headers(), peer.as_deref()).await?,
    };
    let user = impersonation::apply(app, user, request.headers())?;
    app.authz.check_soon(&user, &Attributes::of(info)).await?;
    let _seat = app.flow.admit(info, &user)?;
    if !info.is_resource {
        return other::serve(app, info, request).await;
    }
    let local = matches!(origin, Origin::Local(_));
    let Some(resource) = app.kinds.get(&info.group, &info.version, &info.resource) else {
        return other::not_found(app, info);
    };
    if proxied::is_wanted(&resource, info) {
        return proxied::serve(app, info, request).await;
    }
    if let Some(stream) = node::wanted(&resource, info) {
        return node::serve(app, stream, info, user, request).await;
    }
    let accept = if resource.as_custom().is_some() || rest::is_computed(&resource) {
        negotiate::accept_untyped(request.headers())?
    } else {
        negotiate::accept(request.headers())?
    };
    let limit = app.config.request_timeout;
    let work = resource_request(app, resource, info, user, accept, local, request);
    if is_long_running(info) {
        return work.await;
    }
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Status::timeout("request did not complete within the allotted timeout", 1)))
}

async fn resource_request(
    app: &Arc<App>,
    resource: Arc<Resource>,
    info: &RequestInfo,
    user: UserInfo,
    accept: Accept,
    local: bool,
    request: Request<Incoming>,
) -> Result<Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    let call = Call {
        app: app.clone(),
        user,
        info: info.clone(),
        query: Query::parse(parts.uri.query().unwrap_or("")),
        headers: parts.headers,
        accept,
        resource,
        warnings: Mutex::default(),
        local,
    };
    if !local && call.resource.is("", "endpoints") {
        call.warn("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
    }
    if let Some(text) = call.resource.as_custom().and_then(|custom| custom.deprecation.as_ref()) {
        call.warn(text);
    }
    let answer = rest::serve(&call, body).await;
    let mut warnings = std::mem::take(&mut *call.warnings.lock());
    let mut seen = std::collections::HashSet::new();
    warnings.retain(|text| seen.insert(text.clone()));
    answer.map(|mut response| {
        rest::warnings(response.headers_mut(), &warnings);
        response
    })
}

fn metric_verb(info: &RequestInfo) -> &'static str {
    match &info.verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
        Verb::Method(method) if method == "get" => "GET",
        Verb::Method(_) => "OTHER",
    }
}

fn observe(app: &App, info: &RequestInfo, dry_run: bool, code: u16, duration: std::time::Duration) {
    // Names that are not served would let clients make time series at will.
    let resource = app.kinds.get(&info.group, &info.version, &info.resource);
    let part = |r: &Arc<Resource>| info.subresource.is_empty() || r.row.subresource(&info.subresource).is_some();
    let known = !info.is_resource || resource.as_ref().is_some_and(part);
    let text = |text: &'_ str| if known { text.to_owned() } else { String::new() };
    let scope = match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
        (false, ..) => "",
        (true, false, _) => "resource",
        (true, true, false) => "namespace",
        (true, true, true) => "cluster",
    };
    let labels = Labels {
        verb: metric_verb(info),
        dry_run: if dry_run { "All" } else { "" },
        group: &text(&info.group),
        version: &text(&info.version),
        resource: &text(&info.resource),
        subresource: &text(&info.subresource),
        scope,
    };
    app.metrics.observe(labels, code, duration);
}
