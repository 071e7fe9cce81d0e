//! `serviceaccounts/token`: tokens bound to an audience, a time and perhaps a pod (TokenRequest).

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use xebec_machinery::field::{Error, Path};
use xebec_machinery::{GroupKind, GroupVersionKind, Status, object};

use super::{Answer, Call, decode, encode};
use crate::app::parse;
use crate::authn::service_account::{Bound, Claims};
use crate::options::WriteOptions;

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// Longest life that is granted.
const GRANTED_SECONDS_MAX: i64 = 365 * 24 * 3600;

pub async fn request(call: &Call, body: &Bytes) -> Answer {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let gvk = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let definition = xebec_schema::schema().by_kind(&gvk);
    let mut request = decode::object(call, body, &gvk, definition, options.field_validation)?;
    let found = call.app.find(&call.resource, call.namespace(), call.name()).await?;
    let account = parse(&*found.ok_or_else(|| call.resource.not_found(call.name()))?)?;
    let seconds = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_SECONDS);
    check(call, &request, seconds)?;
    let audiences: Vec<String> = request
        .pointer("/spec/audiences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    let audiences = if audiences.is_empty() { call.app.config.audiences() } else { audiences };
    let bound = bound(call, &request).await?;
    let at = call.app.now();
    let now = at.unix_timestamp();
    let expires = now + seconds.min(GRANTED_SECONDS_MAX);
    let claims = Claims::new(&call.app.config, &audiences, now, expires, call.namespace(), &account, bound);
    let token = call.app.authn.service_accounts.sign(&claims)?;
    let expires = time::OffsetDateTime::from_unix_timestamp(expires).map_err(Status::internal)?;
    let spec = object::ensure_map(&mut request, "spec");
    spec.insert("audiences".into(), json!(audiences));
    spec.insert("expirationSeconds".into(), seconds.into());
    request["metadata"] = json!({
        "name": call.name(),
        "namespace": call.namespace(),
        "creationTimestamp": xebec_machinery::time::rfc3339(at.into()),
    });
    request["status"] = json!({
        "token": token,
        "expirationTimestamp": xebec_machinery::time::rfc3339(expires.into()),
    });
    encode::value(call, StatusCode::CREATED, request)
}

fn check(call: &Call, request: &Value, seconds: i64) -> Result<(), Status> {
    let path = Path::new("spec.expirationSeconds");
    let kind = GroupKind::new("authentication.k8s.io", "TokenRequest");
    let named = object::name(request);
    if !named.is_empty() && named != call.name() {
        let detail = "must match the service account name if specified";
        let error = Error::invalid(&Path::new("metadata.name"), named, detail);
        return Err(Status::invalid(&kind, call.name(), vec![error]));
    }
    let mut errors = Vec::new();
    if seconds < MIN_SECONDS {
        errors.push(Error::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > MAX_SECONDS {
        errors.push(Error::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    // Without the name, upstream too.
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&kind, "", errors)) }
}

/// The object that the token lives and dies with.
async fn bound(call: &Call, request: &Value) -> Result<Option<Bound>, Status> {
    let Some(reference) = request.pointer("/spec/boundObjectRef").filter(|r| r.is_object()) else { return Ok(None) };
    let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (plural, namespace) = match kind.as_str() {
        "Pod" => ("pods", call.namespace()),
        "Secret" => ("secrets", call.namespace()),
        "Node" => ("nodes", ""),
        other => {
            let version = text("apiVersion");
            let slash = if version.contains('/') { "" } else { "/" };
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {slash}{version}, Kind={other}"
            )));
        }
    };
    let resource = call.app.kinds.find("", plural).ok_or_else(Status::not_found_path)?;
    let found = call.app.find(resource, namespace, &name).await?;
    let object = parse(&*found.ok_or_else(|| resource.not_found(&name))?)?;
    if !uid.is_empty() && uid != object::uid(&object) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&resource.gr, &name, why));
    }
    let account = object::str_at(&object, &["spec", "serviceAccountName"]);
    if plural == "pods" && account != call.name() {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            call.name()
        )));
    }
    let node = match plural {
        "pods" => {
            let node = object::str_at(&object, &["spec", "nodeName"]);
            let nodes = call.app.kinds.find("", "nodes");
            let found = match nodes {
                Some(nodes) if !node.is_empty() => call.app.find(nodes, "", node).await?,
                _ => None,
            };
            found.map(|n| parse(&n)).transpose()?.map(|n| (node.to_owned(), object::uid(&n).to_owned()))
        }
        _ => None,
    };
    Ok(Some(Bound { kind, name, uid: object::uid(&object).to_owned(), node }))
}
