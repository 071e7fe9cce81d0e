//! ReplicationControllers: `ValidateReplicationController`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::selector::LabelSelector;

use crate::apps::template_warnings;
use crate::apps::{CONTAINERS, IMAGES, SELECTOR, default_template, layout, replica_status};
use crate::errors::Errors;
use crate::names::{not_negative, pod_name_warning};
use crate::strategy::{Column, Context, Strategy, age};
use crate::value::{at, default, entries, integer, is_set, set, string};
use crate::{meta, pod};

pub struct ReplicationController;

impl Strategy for ReplicationController {
    fn default(&self, controller: &mut Value) {
        default_template(controller);
        let labels = at(controller, "spec.template.metadata.labels").clone();
        let Some(spec) = controller.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        default(spec, "replicas", 1);
        if labels.is_object() {
            for path in ["spec.selector", "metadata.labels"] {
                if entries(controller, path).next().is_none() {
                    set(controller, path, labels.clone());
                }
            }
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &Context, controller: &mut Value) {
        set(controller, "status", json!({"replicas": 0}));
    }

    fn validate_object(&self, controller: &Value, errors: &mut Errors) {
        let (spec, path) = (at(controller, "spec"), Path::new("spec"));
        not_negative(spec, "minReadySeconds", &path, errors);
        if entries(spec, "selector").next().is_none() {
            errors.required(&path.child("selector"), "");
        }
        not_negative(spec, "replicas", &path, errors);
        template(spec, &path.child("template"), errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        replica_status(new, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let name = pod_name_warning(new).filter(|_| old.is_none());
        name.into_iter().chain(template_warnings(new, old)).collect()
    }

    fn fields(&self, controller: &Value) -> Vec<(&'static str, String)> {
        vec![("status.replicas", integer(controller, "status.replicas").unwrap_or(0).to_string())]
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

    fn row(&self, controller: &Value, now: OffsetDateTime) -> Vec<Value> {
        let count = |path| json!(integer(controller, path).unwrap_or(0));
        let [names, images] = layout(at(controller, "spec.template"));
        vec![
            json!(meta::name(controller)),
            count("spec.replicas"),
            count("status.replicas"),
            count("status.readyReplicas"),
            age(controller, now),
            names,
            images,
            json!(meta::format_labels(at(controller, "spec.selector"))),
        ]
    }
}

/// `ValidatePodTemplateSpecForRC`.
fn template(spec: &Value, path: &Path, errors: &mut Errors) {
    let template = at(spec, "template");
    if template.is_null() {
        errors.required(path, "");
        return;
    }
    let labels = entries(spec, "selector").map(|(key, value)| (key.as_str(), value.as_str().unwrap_or("")));
    if !LabelSelector::from_map(labels).matches_object(template) {
        let labels = at(template, "metadata.labels").clone();
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&path.child("metadata").child("labels"), labels, detail);
    }
    pod::template(template, path, errors);
    let (spec, path) = (at(template, "spec"), path.child("spec"));
    if string(spec, "restartPolicy") != "Always" {
        errors.not_supported(&path.child("restartPolicy"), string(spec, "restartPolicy"), &["Always"]);
    }
    if is_set(spec, "activeDeadlineSeconds") {
        let deadline = at(spec, "activeDeadlineSeconds").clone();
        errors.invalid(&path.child("activeDeadlineSeconds"), deadline, "must not be specified");
    }
}
