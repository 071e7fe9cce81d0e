//! Roles and bindings, by name and by subject.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use xebec_machinery::object;
use xebec_machinery::selector::LabelSelector;

use super::Rule;
use crate::user::{UserInfo, service_account_name};

#[derive(Default)]
pub struct Index {
    cluster_roles: HashMap<String, ClusterRole>,
    /// By namespace and name.
    roles: HashMap<(String, String), Arc<[Rule]>>,
    /// By namespace (empty: ClusterRoleBindings) and name.
    bindings: HashMap<(String, String), Binding>,
    /// Names of bindings by namespace and subject.
    by_subject: HashMap<(String, Subject), BTreeSet<String>>,
}

struct ClusterRole {
    own: Vec<Rule>,
    labels: Vec<(String, String)>,
    aggregates: Vec<LabelSelector>,
    /// Its own rules and those of the roles it aggregates.
    rules: Arc<[Rule]>,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Subject {
    User(String),
    Group(String),
}

pub struct Binding {
    namespace: String,
    name: String,
    role_kind: String,
    role_name: String,
    subjects: Vec<Subject>,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, role_kind, role_name, .. } = self;
        match namespace.as_str() {
            "" => write!(f, "ClusterRoleBinding {name:?} of {role_kind} {role_name:?}"),
            _ => write!(f, "RoleBinding \"{name}/{namespace}\" of {role_kind} {role_name:?}"),
        }
    }
}

impl Index {
    /// The first answer of `f` for a rule that applies to the user in the namespace.
    pub fn visit<T>(&self, user: &UserInfo, namespace: &str, f: impl Fn(&Binding, &Rule) -> Option<T>) -> Option<T> {
        let subjects = || {
            let groups = user.groups.iter().cloned().map(Subject::Group);
            std::iter::once(Subject::User(user.name.clone())).chain(groups)
        };
        let scopes = if namespace.is_empty() { &[""][..] } else { &["", namespace][..] };
        for scope in scopes {
            for subject in subjects() {
                let Some(names) = self.by_subject.get(&((*scope).to_owned(), subject)) else { continue };
                for binding in names.iter().filter_map(|name| self.bindings.get(&((*scope).to_owned(), name.clone()))) {
                    let rules = self.rules(&binding.role_kind, scope, &binding.role_name).unwrap_or_default();
                    if let Some(answer) = rules.iter().find_map(|rule| f(binding, rule)) {
                        return Some(answer);
                    }
                }
            }
        }
        None
    }

    pub fn all_rules(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let all = std::cell::RefCell::new(Vec::new());
        self.visit(user, namespace, |_, rule| {
            all.borrow_mut().push(rule.clone());
            None::<()>
        });
        all.into_inner()
    }

    pub fn rules(&self, kind: &str, namespace: &str, name: &str) -> Option<&[Rule]> {
        match kind {
            "ClusterRole" => self.cluster_roles.get(name).map(|role| &*role.rules),
            _ => self.roles.get(&(namespace.to_owned(), name.to_owned())).map(|rules| &**rules),
        }
    }

    /// Takes over an object of one of the four RBAC resources; null takes it away.
    pub fn put(&mut self, plural: &str, namespace: &str, name: &str, object: &Value) {
        let key = (namespace.to_owned(), name.to_owned());
        match plural {
            "clusterroles" => {
                match object {
                    Value::Null => _ = self.cluster_roles.remove(name),
                    role => _ = self.cluster_roles.insert(name.to_owned(), cluster_role(role)),
                }
                self.aggregate();
            }
            "roles" if object.is_null() => _ = self.roles.remove(&key),
            "roles" => _ = self.roles.insert(key, Rule::parse_all(object).into()),
            _ => self.put_binding(key, object),
        }
    }

    /// Forgets everything of a resource.
    pub fn clear(&mut self, plural: &str) {
        match plural {
            "clusterroles" => self.cluster_roles.clear(),
            "roles" => self.roles.clear(),
            _ => {
                let cluster = plural == "clusterrolebindings";
                self.bindings.retain(|(namespace, _), _| namespace.is_empty() != cluster);
                self.by_subject.retain(|(namespace, _), _| namespace.is_empty() != cluster);
            }
        }
    }

    fn put_binding(&mut self, key: (String, String), object: &Value) {
        if let Some(old) = self.bindings.remove(&key) {
            for subject in old.subjects {
                let entry = (key.0.clone(), subject);
                if let Some(names) = self.by_subject.get_mut(&entry) {
                    names.remove(&key.1);
                    if names.is_empty() {
                        self.by_subject.remove(&entry);
                    }
                }
            }
        }
        if object.is_null() {
            return;
        }
        let subjects: Vec<_> =
            object.get("subjects").and_then(Value::as_array).into_iter().flatten().filter_map(subject).collect();
        for subject in &subjects {
            self.by_subject.entry((key.0.clone(), subject.clone())).or_default().insert(key.1.clone());
        }
        let binding = Binding {
            namespace: key.0.clone(),
            name: key.1.clone(),
            role_kind: object::str_at(object, &["roleRef", "kind"]).to_owned(),
            role_name: object::str_at(object, &["roleRef", "name"]).to_owned(),
            subjects,
        };
        self.bindings.insert(key, binding);
    }

    /// Resolves aggregation rules; roles may come in any order.
    fn aggregate(&mut self) {
        let resolved: Vec<(String, Arc<[Rule]>)> = self
            .cluster_roles
            .iter()
            .filter(|(_, role)| !role.aggregates.is_empty())
            .map(|(name, role)| {
                let mut rules = role.own.clone();
                let others = self.cluster_roles.iter().filter(|(other, _)| *other != name);
                for (_, other) in others.filter(|(_, other)| role.aggregates.iter().any(|s| matches(s, &other.labels)))
                {
                    rules.extend(other.own.iter().filter(|rule| !role.own.contains(rule)).cloned());
                }
                (name.clone(), rules.into())
            })
            .collect();
        for (name, rules) in resolved {
            if let Some(role) = self.cluster_roles.get_mut(&name) {
                role.rules = rules;
            }
        }
    }
}

fn cluster_role(role: &Value) -> ClusterRole {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
    let own = Rule::parse_all(role);
    ClusterRole {
        rules: own.clone().into(),
        own,
        labels: object::labels(role).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        aggregates: selectors.into_iter().flatten().filter_map(|s| LabelSelector::from_object(s).ok()).collect(),
    }
}

fn matches(selector: &LabelSelector, labels: &[(String, String)]) -> bool {
    selector.matches(|key| labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()))
}

fn subject(subject: &Value) -> Option<Subject> {
    let text = |field: &str| subject.get(field).and_then(Value::as_str).unwrap_or("");
    match text("kind") {
        "User" => Some(Subject::User(text("name").to_owned())),
        "Group" => Some(Subject::Group(text("name").to_owned())),
        "ServiceAccount" => Some(Subject::User(service_account_name(text("namespace"), text("name")))),
        _ => None,
    }
}
