//! RuntimeClasses: `ValidateRuntimeClass`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::strategy::{Column, Scope, Strategy, named};
use crate::value::{at, is_set, items, string};
use crate::{meta, pod};

pub struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn validate_object(&self, class: &Value, errors: &mut Errors) {
        let handler = string(class, "handler");
        errors.invalid_each(&Path::new("handler"), &json!(handler), validation::dns1123_label(handler));
        if is_set(class, "overhead") {
            let limits = json!({"limits": at(class, "overhead.podFixed")});
            pod::resources::validate(&limits, &Path::new("overhead"), errors);
        }
        if is_set(class, "scheduling") {
            let path = Path::new("scheduling");
            meta::labels(at(class, "scheduling.nodeSelector"), &path.child("nodeSelector"), errors);
            let (tolerations, path) = (items(class, "scheduling.tolerations"), path.child("tolerations"));
            pod::tolerations(tolerations, &path, errors);
            for (index, toleration) in tolerations.iter().enumerate() {
                if tolerations[..index].contains(toleration) {
                    errors.duplicate(&path.index(index), toleration.clone());
                }
            }
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable(&Path::new("handler"), at(new, "handler"), at(old, "handler"));
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Handler", "The runtime's name for it."), Column::AGE] }
    }

    fn row(&self, class: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(class, now, [json!(string(class, "handler"))])
    }
}
