//! The roles and bindings that every cluster has: upstream's `bootstrappolicy`, put right at each start.

mod controllers;
mod roles;

use serde_json::{Value, json};

use super::Rule as PolicyRule;

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const NAMESPACE_PUBLIC: &str = "kube-public";
const NAMESPACE_SYSTEM: &str = "kube-system";

/// A policy rule, each part a list of words; `-` is the core group.
struct Rule {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    urls: &'static str,
}

const fn rule(verbs: &'static str, groups: &'static str, resources: &'static str) -> Rule {
    Rule { verbs, groups, resources, names: "", urls: "" }
}

const fn named(verbs: &'static str, groups: &'static str, resources: &'static str, names: &'static str) -> Rule {
    Rule { verbs, groups, resources, names, urls: "" }
}

const fn urls(verbs: &'static str, urls: &'static str) -> Rule {
    Rule { verbs, groups: "", resources: "", names: "", urls }
}

const EVENTS: Rule = rule("create update patch", "- events.k8s.io", "events");
const READ: &str = "get list watch";
const WRITE: &str = "create update patch delete deletecollection";

/// Who is bound to a role; the binding has the role's name unless it says otherwise.
enum Subject {
    User(&'static str),
    Group(&'static str),
    Account(&'static str, &'static str),
}

/// Every object, roles before the bindings to them.
pub fn objects() -> Vec<Value> {
    let mut objects: Vec<Value> = roles::CLUSTER_ROLES.iter().map(|(name, rules)| cluster_role(name, rules)).collect();
    objects.extend(roles::AGGREGATED.iter().map(|(name, aggregated_to, rules)| {
        let mut role = cluster_role(name, rules);
        role["metadata"]["labels"][label_of(aggregated_to)] = json!("true");
        role
    }));
    objects.extend(roles::AGGREGATING.iter().map(|(name, own_label)| aggregating(name, own_label)));
    objects.extend(controllers::ROLES.iter().map(|(name, rules)| cluster_role(&controller_role(name), rules)));
    objects.extend(roles::CLUSTER_BINDINGS.iter().map(|(name, role, subjects)| cluster_binding(name, role, subjects)));
    objects.extend(controllers::ROLES.iter().map(|(name, _)| {
        let role = controller_role(name);
        cluster_binding(&role, &role, &[Subject::Account(NAMESPACE_SYSTEM, name)])
    }));
    objects.extend(roles::ROLES.iter().map(|(namespace, name, rules)| {
        let mut role = object("Role", name);
        role["metadata"]["namespace"] = json!(namespace);
        role["rules"] = rules.iter().map(rule_value).collect();
        role
    }));
    objects.extend(roles::BINDINGS.iter().map(|(namespace, name, role, subjects)| {
        let mut binding = object("RoleBinding", name);
        binding["metadata"]["namespace"] = json!(namespace);
        binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "Role", "name": role});
        binding["subjects"] = subjects.iter().map(subject_value).collect();
        binding
    }));
    objects
}

/// Where an object of [`objects`] is created.
pub fn collection(object: &Value) -> String {
    let plural = format!("{}s", object["kind"].as_str().unwrap_or("").to_lowercase());
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/apis/{API_VERSION}/namespaces/{namespace}/{plural}"),
        None => format!("/apis/{API_VERSION}/{plural}"),
    }
}

/// What the stored object should become: missing rules, subjects, labels and annotations are added, what others added stays.
/// `None` when nothing is missing or the object opted out. A binding to another role has to be replaced: see [`replaces`].
pub fn reconcile(stored: &Value, wanted: &Value) -> Option<Value> {
    if stored["metadata"]["annotations"][AUTO_UPDATE] == "false" || replaces(stored, wanted) {
        return None;
    }
    let mut merged = stored.clone();
    for map in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][map].as_object().into_iter().flatten() {
            merged["metadata"][map][key] = value.clone();
        }
    }
    if wanted.get("aggregationRule").is_some() {
        let missing = missing_from(
            &stored["aggregationRule"]["clusterRoleSelectors"],
            &wanted["aggregationRule"]["clusterRoleSelectors"],
        );
        extend(&mut merged["aggregationRule"]["clusterRoleSelectors"], missing);
    }
    extend(&mut merged["rules"], uncovered(stored, wanted).iter().map(PolicyRule::to_value).collect());
    if wanted.get("subjects").is_some() {
        extend(&mut merged["subjects"], missing_from(&stored["subjects"], &wanted["subjects"]));
    }
    (merged != *stored).then_some(merged)
}

/// Whether a stored binding must be deleted and made anew, since a roleRef cannot change.
pub fn replaces(stored: &Value, wanted: &Value) -> bool {
    wanted.get("roleRef").is_some_and(|reference| *reference != stored["roleRef"])
        && stored["metadata"]["annotations"][AUTO_UPDATE] != "false"
}

/// What the rules of one role grant and those of another do not.
fn uncovered(stored: &Value, wanted: &Value) -> Vec<PolicyRule> {
    let held = PolicyRule::parse_all(stored);
    let atoms = PolicyRule::parse_all(wanted).into_iter().flat_map(|rule| rule.atoms());
    atoms.filter(|atom| !held.iter().any(|rule| rule.covers(atom))).collect()
}

fn missing_from(stored: &Value, wanted: &Value) -> Vec<Value> {
    let has = |item: &&Value| stored.as_array().is_some_and(|stored| stored.contains(item));
    wanted.as_array().into_iter().flatten().filter(|item| !has(item)).cloned().collect()
}

fn extend(list: &mut Value, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    match list {
        Value::Array(list) => list.extend(more),
        other => *other = Value::Array(more),
    }
}

fn object(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {AUTO_UPDATE: "true"},
        },
    })
}

fn cluster_role(name: &str, rules: &[Rule]) -> Value {
    let mut role = object("ClusterRole", name);
    role["rules"] = rules.iter().map(rule_value).collect();
    role
}

/// Its rules are those of the roles that it gathers, which are complete at once; later ones are the aggregation's to add.
fn aggregating(name: &str, own_label: &str) -> Value {
    let gathered: Vec<&str> =
        roles::AGGREGATING.iter().map(|(name, _)| *name).skip_while(|gathered| *gathered != name).collect();
    let parts = roles::AGGREGATED.iter().filter(|(_, by, _)| gathered.contains(by));
    let rules: Vec<&Rule> = parts.flat_map(|(_, _, rules)| rules.iter()).collect();
    let mut role = object("ClusterRole", name);
    if !own_label.is_empty() {
        role["metadata"]["labels"][label_of(own_label)] = json!("true");
    }
    role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label_of(name): "true"}}]});
    role["rules"] = rules.into_iter().map(rule_value).collect();
    role
}

fn label_of(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

fn controller_role(name: &str) -> String {
    format!("system:controller:{name}")
}

fn cluster_binding(name: &str, role: &str, subjects: &[Subject]) -> Value {
    let mut binding = object("ClusterRoleBinding", name);
    binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": role});
    if !subjects.is_empty() {
        binding["subjects"] = subjects.iter().map(subject_value).collect();
    }
    binding
}

fn rule_value(rule: &Rule) -> Value {
    let list =
        |words: &str| -> Value { words.split_whitespace().map(|word| if word == "-" { "" } else { word }).collect() };
    let mut value = json!({"verbs": list(rule.verbs)});
    for (field, words) in [
        ("apiGroups", rule.groups),
        ("resources", rule.resources),
        ("resourceNames", rule.names),
        ("nonResourceURLs", rule.urls),
    ] {
        if !words.is_empty() {
            value[field] = list(words);
        }
    }
    value
}

fn subject_value(subject: &Subject) -> Value {
    match subject {
        Subject::User(name) => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
        Subject::Group(name) => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
        Subject::Account(namespace, name) => json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}),
    }
}

#[cfg(test)]
mod tests;
