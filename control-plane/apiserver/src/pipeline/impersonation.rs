//! `kubectl --as`: a user who may impersonate another becomes that other (apiserver's `WithImpersonation`).

use http::HeaderMap;
use xebec_machinery::Status;

use crate::app::App;
use crate::authz::Attributes;
use crate::user::{ANONYMOUS, UNAUTHENTICATED, UserInfo, split_service_account};

const EXTRA: &str = "impersonate-extra-";

pub fn apply(app: &App, user: UserInfo, headers: &HeaderMap) -> Result<UserInfo, Status> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let name = text("impersonate-user");
    let uid = text("impersonate-uid");
    let mut groups: Vec<String> =
        headers.get_all("impersonate-group").iter().filter_map(|v| v.to_str().ok().map(str::to_owned)).collect();
    let extra: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(key, value)| {
            let key = key.as_str().strip_prefix(EXTRA)?;
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().to_lowercase();
            Some((key, value.to_str().ok()?.to_owned()))
        })
        .collect();
    if name.is_empty() {
        if groups.is_empty() && extra.is_empty() && uid.is_empty() {
            return Ok(user);
        }
        return Err(Status::internal(format!("requested {groups:?} without impersonating a user")));
    }
    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let attributes = Attributes {
            verb: "impersonate".into(),
            group: group.into(),
            version: if group.is_empty() { "v1".into() } else { "v1".to_owned() },
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            path: None,
        };
        app.authz.check(&user, &attributes)
    };
    match split_service_account(&name) {
        Some((namespace, account)) => {
            may("", "serviceaccounts", "", namespace, account)?;
            if groups.is_empty() {
                groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        None => may("", "users", "", "", &name)?,
    }
    for group in headers.get_all("impersonate-group").iter().filter_map(|v| v.to_str().ok()) {
        may("", "groups", "", "", group)?;
    }
    for (key, value) in &extra {
        may("authentication.k8s.io", "userextras", key, "", value)?;
    }
    if !uid.is_empty() {
        may("authentication.k8s.io", "uids", "", "", &uid)?;
    }
    let mut other = UserInfo { name, uid, groups, ..UserInfo::default() };
    for (key, value) in extra {
        other.extra.entry(key).or_default().push(value);
    }
    if other.name == ANONYMOUS {
        if !other.in_group(UNAUTHENTICATED) {
            other.groups.push(UNAUTHENTICATED.into());
        }
        return Ok(other);
    }
    Ok(other.authenticated())
}
