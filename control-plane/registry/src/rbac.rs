//! Roles and bindings: `pkg/apis/rbac/validation`. What rules allow is the authorizer's to say.

mod validation;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::errors::Errors;
use crate::meta;
use crate::names::path_segment_errors;
use crate::strategy::{Column, Scope, Strategy, age};
use crate::value::{default_string, items, items_mut, string};

pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles (namespaced) and ClusterRoles.
pub struct Role(pub Scope);

/// RoleBindings (namespaced) and ClusterRoleBindings.
pub struct Binding(pub Scope);

impl Strategy for Role {
    fn scope(&self) -> Scope {
        self.0
    }

    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        path_segment_errors(name, prefix)
    }

    fn validate_object(&self, role: &Value, errors: &mut Errors) {
        validation::role(role, self.0, errors);
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Created At", meta::CREATED_AT)] }
    }
}

impl Strategy for Binding {
    fn scope(&self) -> Scope {
        self.0
    }

    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        path_segment_errors(name, prefix)
    }

    fn default(&self, binding: &mut Value) {
        if let Some(reference) = binding.get_mut("roleRef").filter(|reference| reference.is_object()) {
            default_string(reference, "apiGroup", GROUP);
        }
        for subject in items_mut(binding, "subjects") {
            if ["User", "Group"].contains(&string(subject, "kind")) {
                default_string(subject, "apiGroup", GROUP);
            }
        }
    }

    fn validate_object(&self, binding: &Value, errors: &mut Errors) {
        validation::binding(binding, self.0, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validation::binding(new, self.0, errors);
        if new["roleRef"] != old["roleRef"] {
            let path = xebec_machinery::field::Path::new("roleRef");
            errors.invalid(&path, new["roleRef"].clone(), "cannot change roleRef");
        }
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Role", "The role that is granted."),
                Column::AGE,
                Column::wide("Users", "The users that get the role."),
                Column::wide("Groups", "The groups that get the role."),
                Column::wide("ServiceAccounts", "The service accounts that get the role."),
            ]
        }
    }

    fn row(&self, binding: &Value, now: OffsetDateTime) -> Vec<Value> {
        let of_kind = |kind: &str| {
            let subjects = items(binding, "subjects").iter().filter(|subject| string(subject, "kind") == kind);
            let names = subjects.map(|subject| match kind {
                "ServiceAccount" => format!("{}/{}", string(subject, "namespace"), string(subject, "name")),
                _ => string(subject, "name").to_owned(),
            });
            json!(names.collect::<Vec<_>>().join(", "))
        };
        vec![
            json!(meta::name(binding)),
            json!(format!("{}/{}", string(binding, "roleRef.kind"), string(binding, "roleRef.name"))),
            age(binding, now),
            of_kind("User"),
            of_kind("Group"),
            of_kind("ServiceAccount"),
        ]
    }
}

#[cfg(test)]
mod tests;
