//! May they: RBAC, evaluated over an index that follows the watch cache.

mod follow;
mod index;
mod node;
pub mod policy;
mod rule;

use parking_lot::RwLock;
use serde_json::{Value, json};
use xebec_machinery::{GroupResource, Status};

use crate::config::AuthorizationMode;
use crate::request_info::RequestInfo;
use crate::user::{SYSTEM_MASTERS, UserInfo};

use index::Index;
use node::Graph;
pub use rule::{Rule, quoted};

const RETRIES: usize = 3;
const RETRY: std::time::Duration = std::time::Duration::from_millis(20);

/// What somebody wants to do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    pub verb: String,
    pub namespace: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// Of a request that is not about a resource.
    pub path: Option<String>,
}

impl Attributes {
    pub fn of(info: &RequestInfo) -> Self {
        if !info.is_resource {
            return Self { verb: info.verb.as_str().to_owned(), path: Some(info.path.clone()), ..Self::default() };
        }
        Self {
            verb: info.verb.as_str().to_owned(),
            namespace: info.namespace.clone(),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            name: if info.name.is_empty() { info.selected_name.clone() } else { info.name.clone() },
            path: None,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// With the reason.
    Allowed(String),
    Denied,
}

pub struct Authorizer {
    modes: Vec<AuthorizationMode>,
    index: RwLock<Index>,
    graph: RwLock<Graph>,
}

impl Authorizer {
    pub fn new(modes: &[AuthorizationMode]) -> Self {
        Self { modes: modes.to_vec(), index: RwLock::default(), graph: RwLock::default() }
    }

    pub fn authorize(&self, user: &UserInfo, attributes: &Attributes) -> Verdict {
        if user.in_group(SYSTEM_MASTERS) || self.modes.contains(&AuthorizationMode::AlwaysAllow) {
            return Verdict::Allowed(String::new());
        }
        if self.modes.contains(&AuthorizationMode::Node)
            && let Some(node) = node::node_of(user)
            && self.node_allows(node, attributes)
        {
            return Verdict::Allowed(String::new());
        }
        let index = self.index.read();
        let allowed = index
            .visit(user, &attributes.namespace, |binding, rule| rule.allows(attributes).then(|| binding.to_string()));
        allowed.map_or(Verdict::Denied, |binding| {
            Verdict::Allowed(format!("RBAC: allowed by {binding} to {user}", user = user.name))
        })
    }

    /// 403 in upstream's words.
    pub fn check(&self, user: &UserInfo, attributes: &Attributes) -> Result<(), Status> {
        match self.authorize(user, attributes) {
            Verdict::Allowed(_) => Ok(()),
            Verdict::Denied => Err(forbidden(user, attributes)),
        }
    }

    fn node_allows(&self, node: &str, attributes: &Attributes) -> bool {
        let index = self.index.read();
        let rules = index.rules("ClusterRole", "", "system:node").unwrap_or_default();
        let role = rules.iter().any(|rule| rule.allows(attributes));
        (role || Graph::of_agent(attributes)) && self.graph.read().allows(node, attributes)
    }

    /// 403 in upstream's words. A node may ask for what a pod refers to before the index has seen the pod, so it is
    /// asked again for a moment.
    pub async fn check_soon(&self, user: &UserInfo, attributes: &Attributes) -> Result<(), Status> {
        for _ in 0..RETRIES {
            match self.authorize(user, attributes) {
                Verdict::Denied if node::node_of(user).is_some() => tokio::time::sleep(RETRY).await,
                Verdict::Denied => break,
                Verdict::Allowed(_) => return Ok(()),
            }
        }
        self.check(user, attributes)
    }

    /// The rules of a Role or ClusterRole.
    pub fn rules_of(&self, kind: &str, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        self.index.read().rules(kind, namespace, name).map(|rules| rules.to_vec())
    }

    /// Of `wanted`, what the user may not do.
    pub fn missing(&self, user: &UserInfo, namespace: &str, wanted: &[Rule]) -> Vec<Rule> {
        let index = self.index.read();
        let held = index.all_rules(user, namespace);
        wanted.iter().flat_map(Rule::atoms).filter(|atom| !held.iter().any(|rule| rule.covers(atom))).collect()
    }

    /// `SelfSubjectRulesReview` status.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Value {
        let held = if user.in_group(SYSTEM_MASTERS) || self.modes.contains(&AuthorizationMode::AlwaysAllow) {
            vec![Rule::everything(), Rule::every_path()]
        } else {
            self.index.read().all_rules(user, namespace)
        };
        let (paths, resources): (Vec<_>, Vec<_>) = held.iter().partition(|rule| rule.is_for_paths());
        json!({
            "resourceRules": resources.iter().map(|r| r.to_value()).collect::<Vec<_>>(),
            "nonResourceRules": paths.iter().map(|r| r.to_value()).collect::<Vec<_>>(),
            "incomplete": false,
        })
    }
}

/// As apiserver's `responsewriters.ForbiddenStatusError`.
pub fn forbidden(user: &UserInfo, attributes: &Attributes) -> Status {
    let (name, verb) = (&user.name, &attributes.verb);
    if let Some(path) = &attributes.path {
        let message = format!("User {name:?} cannot {verb} path {path:?}");
        return Status::forbidden(&GroupResource::new("", ""), "", message);
    }
    let resource = match attributes.subresource.as_str() {
        "" => attributes.resource.clone(),
        subresource => format!("{}/{subresource}", attributes.resource),
    };
    let place = match attributes.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let group = &attributes.group;
    let message = format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {place}");
    let gr = GroupResource::new(group.clone(), attributes.resource.clone());
    Status::forbidden(&gr, &attributes.name, message)
}

#[cfg(test)]
mod tests;
