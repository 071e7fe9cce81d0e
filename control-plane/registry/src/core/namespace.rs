//! Namespaces, and how they end: `pkg/registry/core/namespace`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::{Error, Path};
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::meta;
use crate::strategy::{Column, Context, Scope, Strategy, named};
use crate::value::{at, is_set, items, keep, object_mut, set, string, strings};

const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub struct Namespace;

impl Strategy for Namespace {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        let name = if prefix { meta::mask_trailing_dash(name) } else { name.to_owned() };
        validation::dns1123_label(&name)
    }

    fn default(&self, namespace: &mut Value) {
        let name = meta::name(namespace).to_owned();
        if !name.is_empty() {
            object_mut(namespace, "metadata.labels").insert(NAME_LABEL.to_owned(), json!(name));
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &Context, namespace: &mut Value) {
        // The name may have been generated after defaulting.
        self.default(namespace);
        namespace["status"] = json!({"phase": "Active"});
        if !strings(namespace, "spec.finalizers").any(|finalizer| finalizer == FINALIZER) {
            let mut finalizers = items(namespace, "spec.finalizers").to_vec();
            finalizers.push(json!(FINALIZER));
            set(namespace, "spec.finalizers", finalizers);
        }
    }

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "spec.finalizers");
        keep(new, old, "status");
    }

    fn validate_object(&self, namespace: &Value, errors: &mut Errors) {
        finalizers(namespace, errors);
    }

    fn validate_object_update(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    fn prepare_for_status_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    /// `ValidateNamespaceStatusUpdate`.
    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let (phase, path) = (string(new, "status.phase"), Path::new("status").child("Phase"));
        match (is_set(new, "metadata.deletionTimestamp"), phase) {
            (false, "Active") | (true, "Terminating") => {}
            (false, phase) => errors.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty"),
            (true, phase) => {
                errors.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")
            }
        }
    }

    fn prepare_for_deletion(&self, _context: &Context, namespace: &mut Value) {
        set(namespace, "status.phase", "Terminating");
    }

    fn is_finalizing(&self, namespace: &Value) -> bool {
        !items(namespace, "spec.finalizers").is_empty() || !items(namespace, "metadata.finalizers").is_empty()
    }

    fn fields(&self, namespace: &Value) -> Vec<(&'static str, String)> {
        vec![("status.phase", string(namespace, "status.phase").to_owned())]
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Status", "Whether the namespace is active or ending."), Column::AGE] }
    }

    fn row(&self, namespace: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(namespace, now, [json!(string(namespace, "status.phase"))])
    }
}

/// PUT of `namespaces/finalize`: only `spec.finalizers` comes from the client.
pub fn prepare_for_finalize(new: &mut Value, old: &Value) {
    keep(new, old, "status");
    for field in ["labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp"] {
        keep(new, old, &format!("metadata.{field}"));
    }
}

/// `ValidateNamespaceFinalizeUpdate`.
pub fn validate_finalize(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Errors::default();
    meta::validate_update(new, old, Scope::Cluster, &mut errors);
    finalizers(new, &mut errors);
    errors.0
}

fn finalizers(namespace: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("finalizers");
    for (index, finalizer) in strings(at(namespace, "spec"), "finalizers").enumerate() {
        let path = path.index(index);
        errors.invalid_each(&path, &json!(finalizer), validation::qualified_name(finalizer));
        if !finalizer.contains('/') && finalizer != FINALIZER {
            errors.invalid(&path, finalizer, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
}
