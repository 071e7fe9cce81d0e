//! How CustomResourceDefinitions behave (`apiextensions-apiserver/pkg/registry/customresourcedefinition/strategy.go`).

pub mod conditions;
mod cost;
mod schema;
mod spec;
mod structural;

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::{field::Path, object};
use xebec_registry::errors::Errors;
use xebec_registry::meta;
use xebec_registry::strategy::{Column, Context, Fields, SPEC_AND_METADATA, Scope, Strategy};
use xebec_registry::value::{
    at, boolean, default, default_string, items, keep, object_mut, same, set, string, strings,
};

/// Keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

pub struct Definition;

impl Strategy for Definition {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn default(&self, object: &mut Value) {
        let kind = string(object, "spec.names.kind").to_owned();
        if !kind.is_empty() {
            let names = object_mut(object, "spec.names");
            let mut names = Value::Object(std::mem::take(names));
            default_string(&mut names, "singular", &kind.to_lowercase());
            default_string(&mut names, "listKind", &format!("{kind}List"));
            set(object, "spec.names", names);
        }
        if at(object, "spec").is_object() {
            let spec = object_mut(object, "spec");
            let mut spec = Value::Object(std::mem::take(spec));
            default(&mut spec, "conversion", json!({ "strategy": "None" }));
            set(object, "spec", spec);
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_for_create(&self, _context: &Context, new: &mut Value) {
        let stored: Vec<Value> = storage_versions(new).map(Value::from).collect();
        let status = json!({
            "acceptedNames": { "kind": "", "plural": "" }, "conditions": null, "storedVersions": stored,
        });
        set(new, "status", status);
        drop_false(new);
    }

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        drop_false(new);
        let stored: Vec<String> = strings(new, "status.storedVersions").map(str::to_owned).collect();
        let added: Vec<String> =
            storage_versions(new).filter(|v| !stored.iter().any(|s| s == v)).map(str::to_owned).collect();
        if !added.is_empty() {
            set(new, "status.storedVersions", stored.into_iter().chain(added).collect::<Vec<_>>());
        }
    }

    fn prepare_for_status_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        // The controller that removes the last objects takes its finalizer away with the status.
        let finalizers: Vec<String> = object::finalizers(new).map(str::to_owned).collect();
        meta::keep_for_status(new, old);
        object::set_finalizers(new, &finalizers.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn status_resets(&self) -> Fields {
        SPEC_AND_METADATA
    }

    fn validate_object(&self, new: &Value, errors: &mut Errors) {
        spec::check(new, None, errors);
        stored_versions(new, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if same(at(new, "spec"), at(old, "spec")) {
            // What is only being deleted must not fail for what it said before.
            return;
        }
        spec::check(new, Some(old), errors);
        spec::check_update(new, old, errors);
        stored_versions(new, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        spec::names(at(new, "status.acceptedNames"), &Path::new("status").child("acceptedNames"), errors);
        stored_versions(new, errors);
    }

    fn deletion_finalizers(&self, object: &Value) -> &'static [&'static str] {
        // Nothing was ever served of a definition that was not established.
        if object::deletion_timestamp(object).is_some() { &[] } else { &[CLEANUP] }
    }

    fn prepare_for_deletion(&self, context: &Context, object: &mut Value) {
        conditions::set_terminating(
            object,
            "True",
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            &context.now_rfc3339(),
        );
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column { kind: "date", ..Column::string("Created At", meta::CREATED_AT) }] }
    }

    fn row(&self, object: &Value, _now: OffsetDateTime) -> Vec<Value> {
        vec![json!(meta::name(object)), at(object, "metadata.creationTimestamp").clone()]
    }
}

/// Go leaves out what is false.
fn drop_false(new: &mut Value) {
    if !boolean(new, "spec.preserveUnknownFields") {
        xebec_registry::value::remove(new, "spec.preserveUnknownFields");
    }
}

fn storage_versions(definition: &Value) -> impl Iterator<Item = &str> {
    items(definition, "spec.versions").iter().filter(|v| boolean(v, "storage")).map(|v| string(v, "name"))
}

/// `ValidateCustomResourceDefinitionStoredVersions`.
fn stored_versions(definition: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("storedVersions");
    let stored: Vec<&str> = strings(definition, "status.storedVersions").collect();
    if stored.is_empty() {
        return errors.invalid(&path, json!([]), "must have at least one stored version");
    }
    let versions: Vec<&str> = items(definition, "spec.versions").iter().map(|v| string(v, "name")).collect();
    for (index, version) in stored.iter().enumerate().filter(|(_, version)| !versions.contains(version)) {
        let why = format!(
            "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
        );
        errors.invalid(&path.index(index), *version, why);
    }
    for version in storage_versions(definition).filter(|version| !stored.contains(version)) {
        errors.invalid(&path, json!(stored), format!("must have the storage version {version}"));
    }
}

#[cfg(test)]
mod tests;
