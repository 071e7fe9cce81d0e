//! Parts of objects with paths of their own.

mod binding;
mod eviction;

use http::StatusCode;
use serde_json::Value;
use xebec_machinery::{Status, object};

use super::update::{Part, update_part};
use super::{Answer, Call, encode, get, patch, read, review, scale, token};
use crate::app::parse;
use crate::authz;
use crate::body::Incoming;
use crate::negotiate::Shape;
use crate::request_info::Verb;

pub async fn serve(call: &Call, body: Incoming) -> Answer {
    let row = call.resource.row.subresource(&call.info.subresource).ok_or_else(Status::not_found_path)?;
    if !row.verbs.contains(&call.info.verb.as_str()) || call.name().is_empty() {
        return Err(call.method_not_allowed());
    }
    match (call.resource.row.plural, row.name) {
        ("certificatesigningrequests", "status") => {
            may_use_signer(call, "sign").await?;
            part(call, body, Part::Status).await
        }
        (_, "status") => part(call, body, Part::Status).await,
        (_, "scale") => scale::serve(call, body).await,
        ("certificatesigningrequests", "approval") => {
            may_use_signer(call, "approve").await?;
            part(call, body, Part::Approval).await
        }
        ("namespaces", "finalize") => update_part(call, read(body).await?, Part::Finalize).await,
        ("pods", "ephemeralcontainers") => part(call, body, Part::EphemeralContainers).await,
        ("pods", "resize") => part(call, body, Part::Resize).await,
        ("pods", "binding") => binding::bind(call, &read(body).await?).await,
        ("pods", "eviction") => eviction::evict(call, &read(body).await?).await,
        ("serviceaccounts", "token") => token::request(call, &read(body).await?).await,
        _ => Err(call.method_not_allowed()),
    }
}

async fn part(call: &Call, body: Incoming, part: Part) -> Answer {
    match call.info.verb {
        Verb::Get => get::get(call).await,
        Verb::Update => update_part(call, read(body).await?, part).await,
        Verb::Patch => patch::patch_part(call, read(body).await?, part).await,
        _ => Err(call.method_not_allowed()),
    }
}

/// Who approves or signs for a signer needs a right to it (upstream's CertificateApproval and CertificateSigning plugins).
async fn may_use_signer(call: &Call, verb: &str) -> Result<(), Status> {
    if call.info.verb == Verb::Get {
        return Ok(());
    }
    let found = call.app.find(&call.resource, call.namespace(), call.name()).await?;
    let request = parse(&*found.ok_or_else(|| call.resource.not_found(call.name()))?)?;
    let signer = object::str_at(&request, &["spec", "signerName"]);
    let domain = format!("{}/*", signer.split('/').next().unwrap_or(""));
    let may = |name: &str| {
        let attributes = authz::Attributes {
            verb: verb.into(),
            group: "certificates.k8s.io".into(),
            version: "*".into(),
            resource: "signers".into(),
            name: name.into(),
            ..authz::Attributes::default()
        };
        call.app.authz.authorize(&call.user, &attributes) != authz::Verdict::Denied
    };
    if may(signer) || may(&domain) {
        return Ok(());
    }
    let message = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(Status::forbidden(&call.resource.gr, call.name(), message))
}

/// Answers kinds that are questions and never stored; `None` for all others.
pub async fn review(call: &Call, value: &Value) -> Option<Result<Value, Status>> {
    let stored = !matches!(call.resource.row.group, "authentication.k8s.io" | "authorization.k8s.io");
    if !stored && call.accept.shape != Shape::Object {
        // What is never stored has neither rows nor metadata to show.
        return Some(Err(Status::not_acceptable(&[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ])));
    }
    let answer = match (call.resource.row.group, call.resource.row.plural) {
        ("authentication.k8s.io" | "authorization.k8s.io", _) => review::answer(call, value).await,
        ("", "bindings") => binding::bind_named(call, value).await,
        _ => return None,
    };
    Some(answer)
}

/// `Success`, as bindings and evictions answer.
fn success(call: &Call, code: StatusCode) -> Answer {
    let mut status = serde_json::to_value(Status::success(None)).map_err(Status::internal)?;
    status["code"] = code.as_u16().into();
    encode::value(call, code, status)
}
