//! What runs after start: the objects that every cluster has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::LocalService;
use crate::app::App;
use crate::authz::policy;
use crate::bootstrap::{self, Bootstrap};
use crate::user::UserInfo;

/// The hooks, as `/readyz?verbose` names them.
pub const NAMES: [&str; 2] = ["poststarthook/bootstrap-controller", "poststarthook/rbac/bootstrap-roles"];

/// Writes that wait for the disk together.
const CONCURRENT: usize = 16;
const RETRY: Duration = Duration::from_millis(200);

/// Creates what every cluster has; tries again until it is there.
pub async fn run(app: Arc<App>) {
    let service = LocalService::new(app.clone(), UserInfo::loopback());
    for object in &bootstrap::objects(&app.config, &app.now().date().to_string()) {
        until_done(&app, NAMES[0], || ensure(&service, object)).await;
    }
    finished(&app, NAMES[0]);
    let policy = policy::objects();
    futures::stream::iter(&policy)
        .for_each_concurrent(CONCURRENT, |wanted| until_done(&app, NAMES[1], || ensure_policy(&service, wanted)))
        .await;
    finished(&app, NAMES[1]);
}

fn finished(app: &App, hook: &str) {
    app.pending_hooks.write().retain(|pending| *pending != hook);
}

/// Tries until it works or the server stops.
async fn until_done<F: Future<Output = Result<(), String>>>(app: &App, hook: &str, attempt: impl Fn() -> F) {
    while let Err(problem) = attempt().await {
        tracing::warn!(hook, problem, "bootstrap object");
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// A role or binding as the policy wants it; what the cluster's administrator added stays.
async fn ensure_policy(service: &LocalService, wanted: &Value) -> Result<(), String> {
    let collection = policy::collection(wanted);
    let name = wanted.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let path = format!("{collection}/{name}");
    let (code, stored) = send(service, Method::GET, &path, None).await?;
    let (method, target, object) = match code {
        404 => (Method::POST, &collection, wanted.clone()),
        200 if policy::replaces(&stored, wanted) => {
            send(service, Method::DELETE, &path, None).await?;
            (Method::POST, &collection, wanted.clone())
        }
        200 => match policy::reconcile(&stored, wanted) {
            Some(object) => (Method::PUT, &path, object),
            None => return Ok(()),
        },
        code => return Err(format!("GET {path}: {code}: {stored}")),
    };
    match send(service, method, target, Some(&object)).await? {
        (200..=299 | 409, _) => Ok(()),
        (code, body) => Err(format!("{target}: {code}: {body}")),
    }
}

/// Makes an object that every cluster has, or puts it right.
pub(super) async fn ensure(service: &LocalService, wanted: &Bootstrap) -> Result<(), String> {
    let name = wanted.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let path = format!("{}/{name}", wanted.collection);
    let (method, target, object) = match send(service, Method::GET, &path, None).await? {
        (404, _) => (Method::POST, &wanted.collection, wanted.object.clone()),
        (200, stored) => {
            let mut object = stored.clone();
            wanted.reconciled.iter().for_each(|&field| object[field] = wanted.object[field].clone());
            if object == stored {
                return Ok(());
            }
            (Method::PUT, &path, object)
        }
        (code, body) => return Err(format!("GET {path}: {code}: {body}")),
    };
    match send(service, method, target, Some(&object)).await? {
        (200..=299, _) => Ok(()),
        (code, body) => Err(format!("{target}: {code}: {}", body["message"])),
    }
}

pub(crate) async fn send(
    service: &LocalService,
    method: Method,
    path: &str,
    object: Option<&Value>,
) -> Result<(u16, Value), String> {
    let body = object.map(|o| Bytes::from(o.to_string())).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|e| e.to_string())?;
    let Ok(response) = tower::ServiceExt::oneshot(service.clone(), request).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    Ok((code, serde_json::from_slice(&bytes).unwrap_or_default()))
}
