//! IngressClasses: `ValidateIngressClass`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use super::ingress::typed_reference;
use crate::errors::Errors;
use crate::names::domain_prefixed_path;
use crate::strategy::{Column, Scope, Strategy, named};
use crate::value::{at, default, is_set, string};

const CONTROLLER_BYTES_MAX: usize = 250;

pub struct IngressClass;

impl Strategy for IngressClass {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn default(&self, class: &mut Value) {
        if let Some(parameters) = crate::value::at_mut(class, "spec.parameters") {
            default(parameters, "scope", "Cluster");
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate_object(&self, class: &Value, errors: &mut Errors) {
        let (spec, path) = (at(class, "spec"), Path::new("spec"));
        let controller = string(spec, "controller");
        if controller.len() > CONTROLLER_BYTES_MAX {
            errors.too_long(&path.child("controller"), CONTROLLER_BYTES_MAX);
        }
        domain_prefixed_path(&path.child("controller"), controller, errors);
        if is_set(spec, "parameters") {
            parameters(at(spec, "parameters"), &path.child("parameters"), errors);
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::new("spec").child("controller");
        errors.immutable(&path, at(new, "spec.controller"), at(old, "spec.controller"));
        self.validate_object(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Controller", "Who handles ingresses of the class."),
                Column::string("Parameters", "The object with further parameters of the class."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, class: &Value, now: OffsetDateTime) -> Vec<Value> {
        let parameters = at(class, "spec.parameters");
        let text = match at(parameters, "apiGroup").as_str() {
            _ if parameters.is_null() => "<none>".to_owned(),
            Some(group) => format!("{}.{group}/{}", string(parameters, "kind"), string(parameters, "name")),
            None => format!("{}/{}", string(parameters, "kind"), string(parameters, "name")),
        };
        named(class, now, [json!(string(class, "spec.controller")), json!(text)])
    }
}

/// `validateIngressClassParametersReference`.
fn parameters(parameters: &Value, path: &Path, errors: &mut Errors) {
    typed_reference(parameters, path, errors);
    let (namespace, namespace_path) = (at(parameters, "namespace"), path.child("namespace"));
    match at(parameters, "scope").as_str() {
        None => errors.required(&path.child("scope"), ""),
        Some("Namespace") => match namespace.as_str() {
            None => errors.required(&namespace_path, "`parameters.scope` is set to 'Namespace'"),
            Some(name) => errors.invalid_each(&namespace_path, &json!(name), validation::dns1123_label(name)),
        },
        Some("Cluster") if !namespace.is_null() => {
            errors.forbidden(&namespace_path, "`parameters.scope` is set to 'Cluster'");
        }
        Some("Cluster") => {}
        Some(other) => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}
