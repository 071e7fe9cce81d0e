//! One RBAC PolicyRule (`pkg/apis/rbac/v1/evaluation_helpers.go`).

use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Attributes;

#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// The rules of a role.
    pub fn parse_all(role: &Value) -> Vec<Self> {
        let rules = role.get("rules").and_then(Value::as_array);
        rules.into_iter().flatten().filter_map(|rule| Self::deserialize(rule).ok()).collect()
    }

    pub fn everything() -> Self {
        let all = || vec!["*".to_owned()];
        Self { verbs: all(), api_groups: all(), resources: all(), ..Self::default() }
    }

    pub fn every_path() -> Self {
        Self { verbs: vec!["*".into()], non_resource_urls: vec!["*".into()], ..Self::default() }
    }

    pub fn is_for_paths(&self) -> bool {
        !self.non_resource_urls.is_empty()
    }

    pub fn allows(&self, wanted: &Attributes) -> bool {
        if !has(&self.verbs, &wanted.verb) {
            return false;
        }
        match &wanted.path {
            Some(path) => self.non_resource_urls.iter().any(|url| path_matches(url, path)),
            None => {
                has(&self.api_groups, &wanted.group)
                    && self.allows_resource(&wanted.resource, &wanted.subresource)
                    && (self.resource_names.is_empty() || self.resource_names.contains(&wanted.name))
            }
        }
    }

    fn allows_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|allowed| match allowed.split_once('/') {
            _ if allowed == "*" => true,
            None => subresource.is_empty() && allowed == resource,
            Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
            Some((res, sub)) => res == resource && sub == subresource,
        })
    }

    /// Rules of one verb, group, resource and name, or of one verb and path.
    pub fn atoms(&self) -> Vec<Self> {
        let mut atoms = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let atom =
                        Self { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Self::default() };
                    if self.resource_names.is_empty() {
                        atoms.push(atom);
                    } else {
                        atoms.extend(
                            self.resource_names.iter().map(|n| Self { resource_names: one(n), ..atom.clone() }),
                        );
                    }
                }
            }
            atoms.extend(self.non_resource_urls.iter().map(|url| Self {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..Self::default()
            }));
        }
        atoms
    }

    /// Whether this rule grants all that an atom does.
    pub fn covers(&self, atom: &Self) -> bool {
        let first = |list: &'_ [String]| list.first().cloned().unwrap_or_default();
        if !has(&self.verbs, &first(&atom.verbs)) {
            return false;
        }
        if let Some(url) = atom.non_resource_urls.first() {
            return self.non_resource_urls.iter().any(|held| held == url || path_matches(held, url));
        }
        let resource = first(&atom.resources);
        let (name, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
        has(&self.api_groups, &first(&atom.api_groups))
            && (self.resources.contains(&resource) || self.allows_resource(name, subresource))
            && (self.resource_names.is_empty()
                || atom.resource_names.first().is_some_and(|name| self.resource_names.contains(name)))
    }

    pub fn to_value(&self) -> Value {
        if self.is_for_paths() {
            return json!({ "verbs": self.verbs, "nonResourceURLs": self.non_resource_urls });
        }
        let mut value = json!({ "verbs": self.verbs, "apiGroups": self.api_groups, "resources": self.resources });
        if !self.resource_names.is_empty() {
            value["resourceNames"] = json!(self.resource_names);
        }
        value
    }
}

/// As upstream prints a rule that somebody lacks: `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<_> = parts
            .iter()
            .filter(|(_, l)| !l.is_empty())
            .map(|(name, list)| format!("{name}:{}", quoted(list)))
            .collect();
        write!(f, "{{{}}}", shown.join(", "))
    }
}

/// A list of strings as Go's `%q` prints it: `["a" "b"]`.
pub fn quoted(list: &[String]) -> String {
    let quoted: Vec<_> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}
