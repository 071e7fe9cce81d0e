//! Kinds that are questions: who am I, may I, whose token is this.

use serde_json::{Value, json};
use xebec_machinery::{Status, object};

use super::Call;
use crate::authz::{Attributes, Verdict};
use crate::user::UserInfo;

pub async fn answer(call: &Call, review: &Value) -> Result<Value, Status> {
    let mut answered = review.clone();
    if let Some(map) = answered.as_object_mut() {
        map.entry("metadata").or_insert_with(|| json!({}));
    }
    answered["status"] = match call.resource.row.kind {
        "SelfSubjectReview" => json!({ "userInfo": call.user.to_value() }),
        "TokenReview" => token_review(call, review).await?,
        "SelfSubjectAccessReview" => access(call, &call.user, review)?,
        "SubjectAccessReview" => access(call, &subject(review)?, review)?,
        "LocalSubjectAccessReview" => {
            let namespace = object::str_at(review, &["spec", "resourceAttributes", "namespace"]);
            if namespace != call.info.namespace {
                return Err(Status::bad_request(format!(
                    "spec.resourceAttributes.namespace must match namespace: {}",
                    call.info.namespace
                )));
            }
            access(call, &subject(review)?, review)?
        }
        "SelfSubjectRulesReview" => {
            let namespace = object::str_at(review, &["spec", "namespace"]);
            if namespace.is_empty() {
                return Err(Status::bad_request("no namespace on request"));
            }
            call.app.authz.rules_for(&call.user, namespace)
        }
        _ => return Err(call.method_not_allowed()),
    };
    Ok(answered)
}

fn subject(review: &Value) -> Result<UserInfo, Status> {
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect()
    };
    let spec = &review["spec"];
    let user = UserInfo {
        name: object::str_at(review, &["spec", "user"]).to_owned(),
        uid: object::str_at(review, &["spec", "uid"]).to_owned(),
        groups: strings(&spec["groups"]),
        extra: spec["extra"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), strings(v))).collect(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        use xebec_machinery::field::{Error, Path};
        let kind = xebec_machinery::GroupKind::new("authorization.k8s.io", "SubjectAccessReview");
        let error = Error::invalid(&Path::new("spec.user"), "", "at least one of user or group must be specified");
        return Err(Status::invalid(&kind, "", vec![error]));
    }
    Ok(user)
}

fn access(call: &Call, user: &UserInfo, review: &Value) -> Result<Value, Status> {
    let text = |part: &str, field: &str| object::str_at(review, &["spec", part, field]).to_owned();
    let of_resource = review.pointer("/spec/resourceAttributes").is_some_and(|v| !v.is_null());
    let of_path = review.pointer("/spec/nonResourceAttributes").is_some_and(|v| !v.is_null());
    if of_resource == of_path {
        use xebec_machinery::field::{Error, Path};
        let error = if of_path {
            let path = Path::new("spec.nonResourceAttributes");
            let value = review.pointer("/spec/nonResourceAttributes").cloned().unwrap_or_default();
            Error::invalid(&path, value, "cannot be specified in combination with resourceAttributes")
        } else {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Error::invalid(&Path::new("spec.resourceAttributes"), Value::Null, detail)
        };
        return Err(Status::invalid(&call.resource.gk, "", vec![error]));
    }
    let part = "resourceAttributes";
    let attributes = if of_resource {
        Attributes {
            verb: text(part, "verb"),
            namespace: text(part, "namespace"),
            group: text(part, "group"),
            version: text(part, "version"),
            resource: text(part, "resource"),
            subresource: text(part, "subresource"),
            name: text(part, "name"),
            path: None,
        }
    } else {
        let part = "nonResourceAttributes";
        Attributes { verb: text(part, "verb"), path: Some(text(part, "path")), ..Attributes::default() }
    };
    Ok(match call.app.authz.authorize(user, &attributes) {
        Verdict::Allowed(reason) => json!({ "allowed": true, "reason": reason }),
        Verdict::Denied => json!({ "allowed": false }),
    })
}

async fn token_review(call: &Call, review: &Value) -> Result<Value, Status> {
    let token = object::str_at(review, &["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> = review
        .pointer("/spec/audiences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    Ok(match call.app.authn.token(&call.app, token, &audiences).await? {
        Some(found) => {
            json!({ "authenticated": true, "user": found.user.to_value(), "audiences": found.audiences })
        }
        None => json!({ "user": {}, "error": "token is not valid" }),
    })
}
