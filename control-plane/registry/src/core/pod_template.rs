//! PodTemplates: `ValidatePodTemplate`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use crate::apps::layout;
use crate::errors::Errors;
use crate::strategy::{Column, Strategy};
use crate::value::{at, at_mut};
use crate::{meta, pod};

pub struct PodTemplate;

impl Strategy for PodTemplate {
    fn default(&self, template: &mut Value) {
        if let Some(spec) = at_mut(template, "template.spec") {
            pod::defaults::spec(spec);
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn spec_changed(&self, new: &Value, old: &Value) -> bool {
        !crate::value::same(at(new, "template"), at(old, "template"))
    }

    fn validate_object(&self, template: &Value, errors: &mut Errors) {
        pod::template(at(template, "template"), &Path::new("template"), errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some_and(|old| at(old, "template") == at(new, "template")) {
            return Vec::new();
        }
        pod::template_warnings(at(new, "template"), &Path::new("template"))
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Containers", "The names of the containers in the template."),
                Column::string("Images", "The images of the containers in the template."),
                Column::string("Pod Labels", "The labels of pods made from the template."),
            ]
        }
    }

    fn row(&self, template: &Value, _now: OffsetDateTime) -> Vec<Value> {
        let [names, images] = layout(at(template, "template"));
        let labels = meta::format_labels(at(template, "template.metadata.labels"));
        vec![json!(meta::name(template)), names, images, json!(labels)]
    }
}
