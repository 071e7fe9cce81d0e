//! ReplicaSets: `ValidateReplicaSet`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use super::{
    CONTAINERS, IMAGES, SELECTOR, container_cells, default_template, replica_status, template_warnings,
    validate_selector_and_template,
};
use crate::errors::Errors;
use crate::names::{not_negative, pod_name_warning};
use crate::strategy::{Column, Context, Strategy, age};
use crate::value::{at, default, integer, set};

pub struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, set: &mut Value) {
        default_template(set);
        if let Some(spec) = set.get_mut("spec") {
            default(spec, "replicas", 1);
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({"replicas": 0}));
    }

    fn validate_object(&self, set: &Value, errors: &mut Errors) {
        let (spec, path) = (at(set, "spec"), Path::new("spec"));
        not_negative(spec, "replicas", &path, errors);
        not_negative(spec, "minReadySeconds", &path, errors);
        validate_selector_and_template(set, "replicaset", errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        errors.immutable(&Path::new("spec").child("selector"), at(new, "spec.selector"), at(old, "spec.selector"));
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        replica_status(new, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let name = pod_name_warning(new).filter(|_| old.is_none());
        name.into_iter().chain(template_warnings(new, old)).collect()
    }

    fn fields(&self, set: &Value) -> Vec<(&'static str, String)> {
        vec![("status.replicas", integer(set, "status.replicas").unwrap_or(0).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::integer("Desired", "How many pods are wanted."),
                Column::integer("Current", "How many pods there are."),
                Column::integer("Ready", "How many pods are ready."),
                Column::AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ]
        }
    }

    fn row(&self, set: &Value, now: OffsetDateTime) -> Vec<Value> {
        let count = |path| json!(integer(set, path).unwrap_or(0));
        let mut cells = vec![
            json!(crate::meta::name(set)),
            count("spec.replicas"),
            count("status.replicas"),
            count("status.readyReplicas"),
            age(set, now),
        ];
        cells.extend(container_cells(set));
        cells
    }
}
