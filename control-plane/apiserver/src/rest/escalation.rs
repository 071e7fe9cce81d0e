//! Nobody grants by RBAC what they do not have (`pkg/registry/rbac/.../policybased`).

use serde_json::Value;
use xebec_machinery::{Status, object};

use super::Call;
use crate::authz::{Attributes, Rule, Verdict, quoted};
use crate::user::SYSTEM_MASTERS;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses a role or binding whose rules exceed those of the user who writes it.
pub async fn check(call: &Call, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if call.resource.row.group != GROUP || call.user.in_group(SYSTEM_MASTERS) {
        return Ok(());
    }
    let plural = call.resource.row.plural;
    let of_role = plural == "roles" || plural == "clusterroles";
    let grants = |object: &Value| match of_role {
        true => (object.get("rules").cloned(), object.get("aggregationRule").cloned()),
        false => (object.get("roleRef").cloned(), object.get("subjects").cloned()),
    };
    if old.is_some_and(|old| grants(old) == grants(new)) {
        return Ok(());
    }
    let attributes = |verb: &str, resource: &str, name: &str| Attributes {
        verb: verb.into(),
        namespace: call.namespace().to_owned(),
        group: GROUP.into(),
        version: "v1".into(),
        resource: resource.into(),
        name: name.into(),
        ..Attributes::default()
    };
    let allowed =
        |attributes: &Attributes| matches!(call.app.authz.authorize(&call.user, attributes), Verdict::Allowed(_));
    if of_role && allowed(&attributes("escalate", plural, object::name(new))) {
        return Ok(());
    }
    let aggregates = new.get("aggregationRule").is_some_and(|rule| !rule.is_null());
    let rules = if of_role && aggregates {
        // What it will hold is for others to say, so only who holds everything may.
        [Rule::parse_all(new), vec![Rule::everything(), Rule::every_path()]].concat()
    } else if of_role {
        Rule::parse_all(new)
    } else {
        let name = object::str_at(new, &["roleRef", "name"]);
        let kind = object::str_at(new, &["roleRef", "kind"]);
        let resource = if kind == "Role" { "roles" } else { "clusterroles" };
        if allowed(&attributes("bind", resource, name)) {
            return Ok(());
        }
        call.app
            .authz
            .rules_of(kind, call.namespace(), name)
            .ok_or_else(|| Status::not_found(&xebec_machinery::GroupResource::new(GROUP, resource), name))?
    };
    let missing = call.app.authz.missing(&call.user, call.namespace(), &rules);
    if missing.is_empty() {
        return Ok(());
    }
    let (user, groups) = (&call.user.name, quoted(&call.user.groups));
    let message = format!(
        "user {user:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}",
        described(missing).join("\n")
    );
    Err(Status::forbidden(&call.resource.gr, object::name(new), message))
}

/// The rules as upstream tells them: those of one resource as one, all in alphabetical order (`CompactRules`, `CompactString`).
fn described(missing: Vec<Rule>) -> Vec<String> {
    let mut compact: Vec<Rule> = Vec::new();
    for rule in missing {
        let alike = |held: &&mut Rule| Rule { verbs: rule.verbs.clone(), ..(**held).clone() } == rule;
        match compact.iter_mut().filter(|held| !held.is_for_paths()).find(alike) {
            Some(held) => held.verbs.extend(rule.verbs),
            None => compact.push(rule),
        }
    }
    let mut lines: Vec<_> = compact.iter().map(ToString::to_string).collect();
    lines.sort();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn missing_rights_are_told_as_upstream_tells_them() {
        let role = json!({"rules": [
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["secrets", "pods"]},
            {"verbs": ["delete"], "apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["d"]},
            {"verbs": ["get"], "nonResourceURLs": ["/x"]},
        ]});
        let missing = Rule::parse_all(&role).iter().flat_map(Rule::atoms).collect();
        let expected = [
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#,
            r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}"#,
            r#"{APIGroups:["apps"], Resources:["deployments"], ResourceNames:["d"], Verbs:["delete"]}"#,
            r#"{NonResourceURLs:["/x"], Verbs:["get"]}"#,
        ];
        assert_eq!(described(missing), expected);
    }
}
