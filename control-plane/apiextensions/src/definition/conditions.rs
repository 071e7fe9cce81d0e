//! The names that a definition gets, and the conditions that say so (`pkg/controller/status/naming_controller.go`, `pkg/controller/establish`).

use serde_json::{Map, Value, json};
use xebec_machinery::object;
use xebec_registry::value::{at, items, object_mut, set, string, strings};

pub const ESTABLISHED: &str = "Established";
pub const NAMES_ACCEPTED: &str = "NamesAccepted";
const TERMINATING: &str = "Terminating";
const APPROVAL: &str = "KubernetesAPIApprovalPolicyConformant";

pub fn is_true(definition: &Value, condition: &str) -> bool {
    let of = |c: &&Value| string(c, "type") == condition;
    items(definition, "status.conditions").iter().find(of).is_some_and(|c| string(c, "status") == "True")
}

/// Whether what a definition defines is to be served.
pub fn is_served(definition: &Value) -> bool {
    is_true(definition, ESTABLISHED)
}

/// `now` as objects carry it, here and below.
pub fn set_terminating(definition: &mut Value, status: &str, reason: &str, message: &str, now: &str) {
    Conditions { definition, now }.set(TERMINATING, status, reason, message);
}

/// The conditions of a definition, to be set at a time.
struct Conditions<'a> {
    definition: &'a mut Value,
    now: &'a str,
}

impl Conditions<'_> {
    /// The time of a condition changes with its status only.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let mut list = items(self.definition, "status.conditions").to_vec();
        let before = list.iter().find(|c| string(c, "type") == kind);
        let since = before.filter(|c| string(c, "status") == status).map(|c| at(c, "lastTransitionTime").clone());
        let condition = json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or_else(|| self.now.into()),
        });
        match list.iter_mut().find(|c| string(c, "type") == kind) {
            Some(found) => *found = condition,
            None => list.push(condition),
        }
        set(self.definition, "status.conditions", list);
    }
}

/// The definition with the status that its names earn, given all definitions (itself among them); none if it has it.
pub fn settled(definition: &Value, all: &[&Value], now: &str) -> Option<Value> {
    // Schemas may be large, and decide nothing here.
    let spec = json!({ "group": at(definition, "spec.group"), "names": at(definition, "spec.names") });
    let slim = json!({ "metadata": at(definition, "metadata"), "spec": spec, "status": at(definition, "status") });
    let status = settled_status(slim, all, now);
    (status != *at(definition, "status")).then(|| {
        let mut new = definition.clone();
        set(&mut new, "status", status);
        new
    })
}

fn settled_status(definition: Value, all: &[&Value], now: &str) -> Value {
    let mut new = definition.clone();
    let (accepted, problem) = names(&definition, all);
    set(&mut new, "status.acceptedNames", accepted);
    let mut conditions = Conditions { definition: &mut new, now };
    match &problem {
        None => conditions.set(NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found"),
        Some((reason, message)) => conditions.set(NAMES_ACCEPTED, "False", reason, message),
    }
    // Once established, always: objects may be there.
    if !is_true(&definition, ESTABLISHED) {
        match problem {
            None => {
                let message = "the initial names have been accepted";
                conditions.set(ESTABLISHED, "True", "InitialNamesAccepted", message);
            }
            Some(_) => conditions.set(ESTABLISHED, "False", "NotAccepted", "not all names are accepted"),
        }
    }
    approval(&mut conditions);
    new["status"].take()
}

/// Groups of Kubernetes itself say whether their definitions were approved.
fn approval(conditions: &mut Conditions<'_>) {
    let group = string(conditions.definition, "spec.group");
    if !["k8s.io", "kubernetes.io"].iter().any(|p| group == *p || group.ends_with(&format!(".{p}"))) {
        return;
    }
    let text = object::annotation(conditions.definition, "api-approved.kubernetes.io").unwrap_or_default().to_owned();
    if text.starts_with("unapproved") {
        let message = format!("not approved: {text:?}");
        conditions.set(APPROVAL, "False", "UnapprovedAnnotation", &message);
    } else {
        conditions.set(APPROVAL, "True", "ApprovedAnnotation", &format!("approved in {text}"));
    }
}

type Problem = (&'static str, String);

/// The names that are free or already this definition's, and why the rest is not accepted.
fn names(definition: &Value, all: &[&Value]) -> (Map<String, Value>, Option<Problem>) {
    let own = object::uid(definition);
    let same_group =
        |other: &&&Value| object::uid(other) != own && string(other, "spec.group") == string(definition, "spec.group");
    let others: Vec<&Value> = all.iter().filter(same_group).map(|other| at(other, "status.acceptedNames")).collect();
    let resources = |name: &str| {
        others.iter().any(|o| {
            string(o, "plural") == name || string(o, "singular") == name || strings(o, "shortNames").any(|s| s == name)
        })
    };
    let kinds = |name: &str| others.iter().any(|o| string(o, "kind") == name || string(o, "listKind") == name);
    let (wanted, before) = (at(definition, "spec.names"), at(definition, "status.acceptedNames"));
    let mut accepted = Map::new();
    let mut problem = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    for (field, taken, reason) in [
        ("plural", &resources as &dyn Fn(&str) -> bool, "PluralConflict"),
        ("singular", &resources, "SingularConflict"),
        ("kind", &kinds, "KindConflict"),
        ("listKind", &kinds, "ListKindConflict"),
    ] {
        let name = string(wanted, field);
        if taken(name) {
            problem.get_or_insert((reason, in_use(name)));
            accepted.insert(field.into(), string(before, field).into());
        } else {
            accepted.insert(field.into(), name.into());
        }
    }
    let conflicts: Vec<&str> = strings(wanted, "shortNames").filter(|name| resources(name)).collect();
    if conflicts.is_empty() {
        insert_list(&mut accepted, "shortNames", at(wanted, "shortNames"));
    } else {
        let text = conflicts.iter().map(|name| in_use(name)).collect::<Vec<_>>().join(", ");
        problem.get_or_insert(("ShortNamesConflict", text));
        insert_list(&mut accepted, "shortNames", at(before, "shortNames"));
    }
    insert_list(&mut accepted, "categories", at(wanted, "categories"));
    (accepted, problem)
}

fn insert_list(accepted: &mut Map<String, Value>, field: &str, list: &Value) {
    if list.as_array().is_some_and(|list| !list.is_empty()) {
        accepted.insert(field.to_owned(), list.clone());
    }
}

/// A definition as it is served: with the names that it got.
pub fn with_accepted_names(definition: &Value) -> Value {
    let mut served = definition.clone();
    let accepted = at(definition, "status.acceptedNames").clone();
    if let (Value::Object(names), true) = (accepted, is_served(definition)) {
        *object_mut(&mut served, "spec.names") = names;
    }
    served
}
