//! Paths that are not about resources: discovery, health, metrics, OpenAPI, keys.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use xebec_machinery::{GroupVersion, Status};

use crate::app::App;
use crate::body::{Body, Incoming};
use crate::discovery::{self, Discovery};
use crate::request_info::RequestInfo;
use crate::rest::respond;

pub async fn serve(app: &Arc<App>, info: &RequestInfo, request: Request<Incoming>) -> Result<Response<Body>, Status> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_found(app, info);
    }
    let query = request.uri().query().unwrap_or("");
    let headers = request.headers();
    let path = info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let rows = app.kinds.rows();
    let discovery = Discovery::new(&rows);
    match parts.as_slice() {
        [] => json(&discovery.paths()),
        ["api"] if aggregated(headers) => aggregate(headers, &discovery.aggregated(true)),
        ["apis"] if aggregated(headers) => aggregate(headers, &discovery.aggregated(false)),
        ["api"] => {
            let address = format!("{}:{}", app.config.advertise_address, app.config.advertise_port);
            json(&discovery.core_versions(&address))
        }
        ["apis"] => json(&discovery.group_list()),
        ["api", version] => found(discovery.resource_list(&GroupVersion::new("", *version)), app, info),
        ["apis", group] => found(discovery.group(group), app, info),
        ["apis", group, version] => found(discovery.resource_list(&GroupVersion::new(*group, *version)), app, info),
        ["version"] => json(&discovery::version()),
        [endpoint @ ("healthz" | "livez" | "readyz"), rest @ ..] => health(app, info, endpoint, rest, query).await,
        ["metrics"] => metrics(app),
        ["openapi", rest @ ..] => crate::openapi::serve(app, rest, query, headers),
        [".well-known", "openid-configuration"] => public(json(&json!({
            "issuer": app.config.service_account_issuer,
            "jwks_uri": format!("https://{}/openid/v1/jwks", SocketAddr::new(app.config.advertise_address, app.config.advertise_port)),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }))),
        ["openid", "v1", "jwks"] => {
            let keys = app.authn.service_accounts.jwks().to_string();
            public(Ok(respond(StatusCode::OK, "application/jwk-set+json", Body::from(keys))))
        }
        _ => not_found(app, info),
    }
}

/// What upstream's 1.36 says of a path that nobody serves: a Status below the groups that are built in, because their router answers, and else
/// a line of text (`notfoundhandler`; 1.37 says a Status everywhere).
pub fn not_found(app: &App, info: &RequestInfo) -> Result<Response<Body>, Status> {
    let mut parts = info.path.split('/').filter(|part| !part.is_empty());
    let routed = match (parts.next(), parts.next()) {
        (Some("api"), Some(_)) => true,
        (Some("apis"), Some(group)) => app.kinds.is_built_in(group),
        _ => false,
    };
    if routed {
        return Err(Status::not_found_path());
    }
    let mut response = respond(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", Body::from("404 page not found\n"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn json(value: &Value) -> Result<Response<Body>, Status> {
    let bytes = serde_json::to_vec(value).map_err(Status::internal)?;
    Ok(respond(StatusCode::OK, "application/json", Body::from(bytes)))
}

/// Keys and their description change rarely (`routes/openidmetadata.go`).
fn public(response: Result<Response<Body>, Status>) -> Result<Response<Body>, Status> {
    let mut response = response?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Ok(response)
}

fn found(value: Option<Value>, app: &App, info: &RequestInfo) -> Result<Response<Body>, Status> {
    value.as_ref().map_or_else(|| not_found(app, info), json)
}

fn aggregated(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    accept.split(',').any(|clause| {
        let has = |part: &str| clause.split(';').any(|p| p.trim() == part);
        has("application/json") && has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList")
    })
}

fn aggregate(headers: &HeaderMap, value: &Value) -> Result<Response<Body>, Status> {
    let bytes = serde_json::to_vec(value).map_err(Status::internal)?;
    Ok(tagged(headers, discovery::AGGREGATED, bytes.into()))
}

/// With an ETag, so that clients ask for the body once.
pub fn tagged(headers: &HeaderMap, media_type: &'static str, bytes: Bytes) -> Response<Body> {
    let digest: String = Sha256::digest(&bytes).iter().take(16).map(|b| format!("{b:02X}")).collect();
    let tag = format!("\"{digest}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains(&tag));
    let mut response = match known {
        true => respond(StatusCode::NOT_MODIFIED, media_type, Body::empty()),
        false => respond(StatusCode::OK, media_type, Body::from(bytes)),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

async fn health(
    app: &App,
    info: &RequestInfo,
    endpoint: &str,
    rest: &[&str],
    query: &str,
) -> Result<Response<Body>, Status> {
    let health = crate::server::health(app, endpoint).await;
    let answer = match rest {
        [] => Some(health.check(endpoint, query)),
        rest => health.check_one(&rest.join("/")),
    };
    let Some(answer) = answer else { return not_found(app, info) };
    let code = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(code, "text/plain; charset=utf-8", Body::from(answer.text));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn metrics(app: &App) -> Result<Response<Body>, Status> {
    for (resource, count) in app.cache.counts() {
        app.metrics.set_objects(&resource, count);
    }
    app.service_capacity.fill().iter().for_each(|fill| app.metrics.set_service_map(fill));
    let text = app.metrics.render().map_err(Status::internal)?;
    Ok(respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", Body::from(text)))
}
