//! ResourceClaimTemplates: `ValidateResourceClaimTemplate`.

use serde_json::Value;
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_registry::errors::Errors;
use xebec_registry::meta;
use xebec_registry::strategy::{Column, Context, Strategy, named};
use xebec_registry::value::{at, at_mut};

use crate::{gate, request};

pub struct ResourceClaimTemplate;

impl Strategy for ResourceClaimTemplate {
    fn default(&self, template: &mut Value) {
        if let Some(found) = at_mut(template, "spec.spec") {
            request::defaults(found);
        }
    }

    fn prepare_for_create(&self, _context: &Context, template: &mut Value) {
        if let Some(found) = at_mut(template, "spec.spec") {
            gate::claim(found);
        }
    }

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, _old: &Value) {
        if let Some(found) = at_mut(new, "spec.spec") {
            gate::claim(found);
        }
    }

    fn validate_object(&self, template: &Value, errors: &mut Errors) {
        let (path, metadata) = (Path::new("spec"), at(template, "spec.metadata"));
        let metadata_path = path.child("metadata");
        meta::labels(at(metadata, "labels"), &metadata_path.child("labels"), errors);
        meta::annotations(at(metadata, "annotations"), &metadata_path.child("annotations"), errors);
        request::spec(at(template, "spec.spec"), &path.child("spec"), errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable(&Path::new("spec"), at(new, "spec"), at(old, "spec"));
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::AGE] }
    }

    fn row(&self, template: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(template, now, [])
    }
}
