//! Bootstrap tokens: how a node that has nothing yet asks for its certificate (KEP-130).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use xebec_machinery::{Status, object};

use super::same_secret;
use crate::app::{App, parse};
use crate::user::UserInfo;

const GROUP: &str = "system:bootstrappers";

/// The user of `<6>.<16>` if its Secret in kube-system allows authentication.
pub async fn authenticate(app: &App, token: &str) -> Result<Option<UserInfo>, Status> {
    let Some((id, secret)) = token.split_once('.').filter(|(id, s)| well_formed(id, 6) && well_formed(s, 16)) else {
        return Ok(None);
    };
    let Some(secrets) = app.kinds.find("", "secrets") else { return Ok(None) };
    let Some(stored) = app.find(secrets, "kube-system", &format!("bootstrap-token-{id}")).await? else {
        return Ok(None);
    };
    Ok(user(&parse(&stored)?, id, secret, app.now()))
}

fn user(stored: &Value, id: &str, secret: &str, now: time::OffsetDateTime) -> Option<UserInfo> {
    let data = |key: &str| -> String {
        let encoded = stored.get("data").and_then(|d| d.get(key)).and_then(Value::as_str).unwrap_or("");
        STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    };
    let usable = stored.get("type").and_then(Value::as_str) == Some("bootstrap.kubernetes.io/token")
        && object::deletion_timestamp(stored).is_none()
        && data("token-id") == id
        && same_secret(data("token-secret").as_bytes(), secret.as_bytes())
        && data("usage-bootstrap-authentication") == "true";
    let expiration = data("expiration");
    let expired = !expiration.is_empty()
        && xebec_machinery::time::parse(&expiration).is_none_or(|at| time::OffsetDateTime::from(at) <= now);
    if !usable || expired {
        return None;
    }
    let extra = data("auth-extra-groups");
    let extra = extra.split(',').filter(|g| g.starts_with("system:bootstrappers:")).map(str::to_owned);
    let groups = std::iter::once(GROUP.to_owned()).chain(extra).collect();
    Some(UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() })
}

fn well_formed(part: &str, length: usize) -> bool {
    part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
