//! CertificateSigningRequests: `pkg/apis/certificates/validation`, `pkg/registry/certificates`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::{Error, Path};
use xebec_machinery::validation;

use crate::duration;
use crate::errors::Errors;
use crate::meta;
use crate::names::path_segment_errors;
use crate::strategy::{Column, Context, Fields, SPEC_AND_METADATA, Scope, Strategy, age};
use crate::value::{at, integer, items, keep, object_mut, remove, set, string, strings};

const SECONDS_MIN: i64 = 600;
const PEM: &str = "-----BEGIN CERTIFICATE REQUEST-----";
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub struct CertificateSigningRequest;

impl Strategy for CertificateSigningRequest {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    /// Names of requests are free, as long as they fit into a URL.
    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        path_segment_errors(name, prefix)
    }

    /// The request says who made it; nobody else can.
    fn prepare_for_create(&self, context: &Context, request: &mut Value) {
        let user = &context.user;
        for field in ["spec.username", "spec.uid", "spec.groups", "spec.extra"] {
            remove(request, field);
        }
        let spec = object_mut(request, "spec");
        spec.insert("username".to_owned(), json!(user.name));
        if !user.uid.is_empty() {
            spec.insert("uid".to_owned(), json!(user.uid));
        }
        if !user.groups.is_empty() {
            spec.insert("groups".to_owned(), json!(user.groups));
        }
        if !user.extra.is_empty() {
            spec.insert("extra".to_owned(), json!(user.extra));
        }
        request["status"] = json!({});
    }

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(new, old, "status");
    }

    fn validate_object(&self, request: &Value, errors: &mut Errors) {
        let (spec, path) = (at(request, "spec"), Path::new("spec"));
        let pem = STANDARD.decode(string(spec, "request")).unwrap_or_default();
        if !String::from_utf8_lossy(&pem).trim_start().starts_with(PEM) {
            let detail = "PEM block type must be CERTIFICATE REQUEST";
            errors.invalid(&path.child("request"), string(spec, "request"), detail);
        }
        let usages: Vec<&str> = strings(spec, "usages").collect();
        if usages.is_empty() {
            errors.required(&path.child("usages"), "");
        }
        for (index, usage) in usages.iter().enumerate() {
            let path = path.child("usages").index(index);
            if !USAGES.contains(usage) {
                errors.not_supported(&path, *usage, USAGES);
            }
            if usages[..index].contains(usage) {
                errors.duplicate(&path, *usage);
            }
        }
        signer_name(string(spec, "signerName"), &path.child("signerName"), errors);
        if let Some(seconds) = integer(spec, "expirationSeconds").filter(|seconds| *seconds < SECONDS_MIN) {
            let detail = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.invalid(&path.child("expirationSeconds"), seconds, detail);
        }
        conditions(request, errors);
    }

    fn validate_object_update(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    /// The status subresource writes the certificate and the condition Failed; decisions are made by `approval`.
    fn prepare_for_status_update(&self, context: &Context, new: &mut Value, old: &Value) {
        meta::keep_for_status(new, old);
        keep(new, old, "spec");
        let is_decision = |condition: &&Value| DECISIONS.contains(&string(condition, "type"));
        let mut kept: Vec<Value> =
            items(new, "status.conditions").iter().filter(|c| !is_decision(c)).cloned().collect();
        kept.extend(items(old, "status.conditions").iter().filter(is_decision).cloned());
        stamp(new, kept, old, context);
    }

    fn status_resets(&self) -> Fields {
        SPEC_AND_METADATA
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        conditions(new, errors);
        let path = Path::new("status").child("certificate");
        let (before, after) = (string(old, "status.certificate"), string(new, "status.certificate"));
        if !before.is_empty() && before != after {
            errors.forbidden(&path, "updates may not modify existing certificate content");
        }
    }

    fn fields(&self, request: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", string(request, "spec.signerName").to_owned())]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::AGE,
                Column::string("SignerName", "Who is to sign the request."),
                Column::string("Requestor", "Who made the request."),
                Column::string("RequestedDuration", "How long the certificate is to be valid."),
                Column::string("Condition", "Whether the request is approved, denied, failed or issued."),
            ]
        }
    }

    fn row(&self, request: &Value, now: OffsetDateTime) -> Vec<Value> {
        let seconds = integer(request, "spec.expirationSeconds");
        vec![
            json!(meta::name(request)),
            age(request, now),
            json!(string(request, "spec.signerName")),
            json!(string(request, "spec.username")),
            json!(
                seconds
                    .map_or_else(|| "<none>".to_owned(), |seconds| duration::human(time::Duration::seconds(seconds)))
            ),
            json!(condition(request)),
        ]
    }
}

/// PUT of `certificatesigningrequests/approval`: only the conditions come from the client.
pub fn prepare_for_approval(context: &Context, new: &mut Value, old: &Value) {
    meta::keep_for_status(new, old);
    keep(new, old, "spec");
    let conditions = items(new, "status.conditions").to_vec();
    keep(new, old, "status");
    stamp(new, conditions, old, context);
}

/// `ValidateCertificateSigningRequestApprovalUpdate`.
pub fn validate_approval(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Errors::default();
    meta::validate_update(new, old, Scope::Cluster, &mut errors);
    conditions(new, &mut errors);
    for decision in DECISIONS.iter().filter(|decision| has_condition(old, decision) && !has_condition(new, decision)) {
        let path = Path::new("status").child("conditions");
        errors.forbidden(&path, format!("updates may not remove a condition of type {decision:?}"));
    }
    errors.0
}

fn has_condition(request: &Value, kind: &str) -> bool {
    items(request, "status.conditions").iter().any(|condition| string(condition, "type") == kind)
}

/// Sets the conditions, with the times the server gives them.
fn stamp(new: &mut Value, mut conditions: Vec<Value>, old: &Value, context: &Context) {
    let now = context.now_rfc3339();
    for condition in &mut conditions {
        let kind = string(condition, "type").to_owned();
        let before = items(old, "status.conditions").iter().find(|before| string(before, "type") == kind);
        let changed = before.is_none_or(|before| string(before, "status") != string(condition, "status"));
        if string(condition, "lastUpdateTime").is_empty() {
            set(condition, "lastUpdateTime", now.as_str());
        }
        if changed && string(condition, "lastTransitionTime").is_empty() {
            set(condition, "lastTransitionTime", now.as_str());
        }
    }
    if conditions.is_empty() { remove(new, "status.conditions") } else { set(new, "status.conditions", conditions) }
}

fn signer_name(name: &str, path: &Path, errors: &mut Errors) {
    const FORM: &str = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
    let Some((domain, rest)) = name.split_once('/') else {
        if name.is_empty() {
            errors.required(path, "");
        } else {
            errors.invalid(path, name, FORM);
        }
        return;
    };
    if rest.is_empty() || !domain.contains('.') || rest.contains('/') {
        errors.invalid(path, name, FORM);
        return;
    }
    errors.invalid_each(
        path,
        &json!(name),
        validation::dns1123_subdomain(domain).into_iter().map(|m| format!("validating label {domain:?}: {m}")),
    );
}

fn conditions(request: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("conditions");
    for (index, condition) in items(request, "status.conditions").iter().enumerate() {
        let path = path.index(index);
        let (kind, status) = (string(condition, "type"), string(condition, "status"));
        if kind.is_empty() {
            errors.required(&path.child("type"), "");
        } else if DECISIONS.contains(&kind) || kind == "Failed" {
            if status.is_empty() {
                errors.required(&path.child("status"), "");
            } else if status != "True" {
                errors.not_supported(&path.child("status"), status, &["True"]);
            }
        }
    }
    if DECISIONS.iter().all(|decision| has_condition(request, decision)) {
        let detail = "Approved and Denied conditions are mutually exclusive";
        errors.invalid(&path, "Denied", detail);
    }
}

/// `extractCSRStatus`.
fn condition(request: &Value) -> String {
    let mut condition = match (has_condition(request, "Denied"), has_condition(request, "Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has_condition(request, "Failed") {
        condition.push_str(",Failed");
    }
    if !string(request, "status.certificate").is_empty() {
        condition.push_str(",Issued");
    }
    condition
}

#[cfg(test)]
mod tests;
