//! Who makes a request.

use std::collections::BTreeMap;

/// Members may do anything, whatever the policy says.
pub const SYSTEM_MASTERS: &str = "system:masters";
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";

/// An authenticated user (`authentication.k8s.io` `UserInfo`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|&g| g.to_owned()).collect(), ..Self::default() }
    }

    /// The identity of parts that run in the server's own process.
    pub fn loopback() -> Self {
        Self::new("system:apiserver", &[SYSTEM_MASTERS, AUTHENTICATED])
    }

    /// An account of a namespace, as its tokens say it.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        let groups = ["system:serviceaccounts", &of_namespace, AUTHENTICATED];
        Self::new(service_account_name(namespace, name), &groups)
    }

    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Adds `system:authenticated`, as every authenticator but the anonymous one does.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if !self.in_group(AUTHENTICATED) && !self.in_group(UNAUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// As the API shows it.
    pub fn to_value(&self) -> serde_json::Value {
        let mut value = serde_json::json!({ "username": self.name });
        if !self.uid.is_empty() {
            value["uid"] = self.uid.clone().into();
        }
        if !self.groups.is_empty() {
            value["groups"] = self.groups.clone().into();
        }
        if !self.extra.is_empty() {
            value["extra"] = serde_json::json!(self.extra);
        }
        value
    }
}

/// `system:serviceaccount:<namespace>:<name>`
pub fn service_account_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The namespace and name in a ServiceAccount's user name.
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
