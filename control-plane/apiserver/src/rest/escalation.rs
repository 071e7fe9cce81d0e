//! Nobody grants by RBAC what they do not have (`pkg/registry/rbac/.../policybased`).

use serde_json::Value;
use xebec_machinery::{Status, object};

use super::Call;
use crate::authz::{Attributes, Rule, Verdict};
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
    let rules = if of_role {
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
    if missing.is_empty() && new.get("aggregationRule").is_none_or(Value::is_null) {
        return Ok(());
    }
    let (user, groups) = (&call.user.name, &call.user.groups);
    let message = format!(
        "user {user:?} (groups={groups:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    );
    Err(Status::forbidden(&call.resource.gr, object::name(new), message))
}
