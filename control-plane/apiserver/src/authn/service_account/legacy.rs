//! Tokens that live in Secrets of type `kubernetes.io/service-account-token`: they have no end and no audience, and are good as
//! long as the Secret has them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xebec_machinery::{Status, object};
use xebec_store::Expect;

use super::super::{Authenticated, same_secret};
use crate::app::{App, parse};
use crate::rest::store;
use crate::user::{UserInfo, service_account_name};

pub const ISSUER: &str = "kubernetes/serviceaccount";
/// The day on which a token was used last.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// Since when a token that nobody used is refused.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Claims {
    pub iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret_name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account_name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
    pub sub: String,
}

impl Claims {
    pub fn new(namespace: &str, account_name: &str, account_uid: &str, secret_name: &str) -> Self {
        Self {
            iss: ISSUER.into(),
            namespace: namespace.into(),
            secret_name: secret_name.into(),
            account_name: account_name.into(),
            account_uid: account_uid.into(),
            sub: service_account_name(namespace, account_name),
        }
    }

    pub fn user(&self) -> UserInfo {
        UserInfo {
            name: service_account_name(&self.namespace, &self.account_name),
            uid: self.account_uid.clone(),
            groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{}", self.namespace)],
            ..UserInfo::default()
        }
        .authenticated()
    }
}

/// Whom a token with our signature speaks for, if its Secret and its account are still there.
pub async fn authenticate(
    app: &App,
    token: &str,
    claims: &Claims,
    audiences: &[String],
) -> Result<Option<Authenticated>, Status> {
    // Such a token is meant for the API server alone.
    let own = app.config.audiences();
    let matched: Vec<String> = audiences.iter().filter(|audience| own.contains(audience)).cloned().collect();
    if matched.is_empty() || claims.sub != service_account_name(&claims.namespace, &claims.account_name) {
        return Ok(None);
    }
    let Some(account) = find(app, "serviceaccounts", &claims.namespace, &claims.account_name).await? else {
        return Ok(None);
    };
    let Some(secret) = find(app, "secrets", &claims.namespace, &claims.secret_name).await? else { return Ok(None) };
    let stored = secret.pointer("/data/token").and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
    let deleted = [&account, &secret].iter().any(|object| object::deletion_timestamp(object).is_some());
    if deleted
        || object::uid(&account) != claims.account_uid
        || !stored.is_some_and(|stored| same_secret(&stored, token.as_bytes()))
        || object::label(&secret, INVALID_SINCE).is_some()
    {
        return Ok(None);
    }
    note_use(app, secret).await;
    Ok(Some(Authenticated { user: claims.user(), audiences: matched }))
}

async fn find(app: &App, plural: &str, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
    let Some(resource) = app.kinds.find("", plural) else { return Ok(None) };
    app.find(resource, namespace, name).await?.map(|found| parse(&found)).transpose()
}

/// At most one write a day. Whoever changes the Secret at the same moment wins: the next request tries again.
async fn note_use(app: &App, mut secret: Value) {
    let today = app.now().date().to_string();
    if object::label(&secret, LAST_USED) == Some(today.as_str()) {
        return;
    }
    let Some(resource) = app.kinds.find("", "secrets") else { return };
    let Ok(revision) = object::resource_version(&secret).parse().map(xebec_store::Revision) else { return };
    let key = resource.key(object::namespace(&secret), object::name(&secret));
    object::set_label(&mut secret, LAST_USED, &today);
    if let Err(status) = store::put(app, &key, Expect::Revision(revision), &mut secret).await {
        tracing::warn!(key, error = status.message, "note the use of a ServiceAccount token");
    }
}
