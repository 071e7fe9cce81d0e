//! What policy rules allow, and whether some rules cover others: `component-helpers/auth/rbac/validation`.

use serde_json::{Value, json};

use crate::value::{items, strings};

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub enum Attributes<'a> {
    Resource {
        verb: &'a str,
        group: &'a str,
        /// `pods` or `pods/log`.
        resource: &'a str,
        name: &'a str,
    },
    NonResource {
        verb: &'a str,
        path: &'a str,
    },
}

/// `RuleAllows`.
pub fn allows(rule: &Value, attributes: Attributes<'_>) -> bool {
    match attributes {
        Attributes::Resource { verb, group, resource, name } => {
            has(rule, "verbs", verb)
                && has(rule, "apiGroups", group)
                && resource_matches(rule, resource)
                && name_matches(rule, name)
        }
        Attributes::NonResource { verb, path } => {
            has(rule, "verbs", verb) && strings(rule, "nonResourceURLs").any(|url| url_covers(url, path))
        }
    }
}

/// `Covers`: the parts of `wanted` that no rule of `owned` grants; none means covered.
pub fn uncovered(owned: &[Value], wanted: &[Value]) -> Vec<Value> {
    wanted.iter().flat_map(break_down).filter(|part| !owned.iter().any(|rule| covers(rule, part))).collect()
}

/// A rule as upstream's error texts show it (`CompactString`).
pub fn compact(rule: &Value) -> String {
    let mut parts = Vec::new();
    for (field, name) in [
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("nonResourceURLs", "NonResourceURLs"),
        ("resourceNames", "ResourceNames"),
        ("verbs", "Verbs"),
    ] {
        let values: Vec<String> = strings(rule, field).map(|value| format!("{value:?}")).collect();
        if !values.is_empty() {
            parts.push(format!("{name}:[{}]", values.join(" ")));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

/// `ConfirmNoEscalation`'s error: what the user would have to hold.
pub fn escalation_error(user: &str, groups: &[String], missing: &[Value]) -> String {
    let rules: Vec<String> = missing.iter().map(compact).collect();
    let groups = groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(" ");
    format!(
        "user {user:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{}",
        rules.join("\n")
    )
}

/// `BreakdownRule`: one rule per verb, group, resource and name, or per verb and URL.
fn break_down(rule: &Value) -> Vec<Value> {
    let mut parts = Vec::new();
    for verb in strings(rule, "verbs") {
        for group in strings(rule, "apiGroups") {
            for resource in strings(rule, "resources") {
                let part = json!({"verbs": [verb], "apiGroups": [group], "resources": [resource]});
                if items(rule, "resourceNames").is_empty() {
                    parts.push(part);
                    continue;
                }
                for name in strings(rule, "resourceNames") {
                    let mut part = part.clone();
                    part["resourceNames"] = json!([name]);
                    parts.push(part);
                }
            }
        }
        for url in strings(rule, "nonResourceURLs") {
            parts.push(json!({"verbs": [verb], "nonResourceURLs": [url]}));
        }
    }
    parts
}

/// `ruleCovers`, of a broken-down part.
fn covers(rule: &Value, part: &Value) -> bool {
    let first = |field: &str| strings(part, field).next();
    let verb = first("verbs").unwrap_or("");
    if let Some(url) = first("nonResourceURLs") {
        return has(rule, "verbs", verb) && strings(rule, "nonResourceURLs").any(|owner| url_covers(owner, url));
    }
    let name_covered = items(rule, "resourceNames").is_empty()
        || first("resourceNames").is_some_and(|name| strings(rule, "resourceNames").any(|owner| owner == name));
    has(rule, "verbs", verb)
        && has(rule, "apiGroups", first("apiGroups").unwrap_or(""))
        && resource_matches(rule, first("resources").unwrap_or(""))
        && name_covered
}

fn has(rule: &Value, field: &str, wanted: &str) -> bool {
    strings(rule, field).any(|value| value == "*" || value == wanted)
}

fn resource_matches(rule: &Value, resource: &str) -> bool {
    let subresource = resource.split_once('/').map(|(_, subresource)| subresource);
    strings(rule, "resources").any(|value| {
        value == "*" || value == resource || (subresource.is_some() && value.strip_prefix("*/") == subresource)
    })
}

fn name_matches(rule: &Value, name: &str) -> bool {
    items(rule, "resourceNames").is_empty() || strings(rule, "resourceNames").any(|value| value == name)
}

fn url_covers(owner: &str, path: &str) -> bool {
    owner == "*" || owner == path || owner.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}
