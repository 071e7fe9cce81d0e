//! DeviceClasses: `ValidateDeviceClass`.

use serde_json::Value;
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_registry::errors::Errors;
use xebec_registry::strategy::{Column, Context, Scope, Strategy, named};
use xebec_registry::value::{at, items, same};

use crate::set::list;
use crate::{gate, limits, request};

pub struct DeviceClass;

impl Strategy for DeviceClass {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &Context, class: &mut Value) {
        gate::class(class);
    }

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, _old: &Value) {
        gate::class(new);
    }

    fn validate_object(&self, class: &Value, errors: &mut Errors) {
        check(class, None, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        check(new, Some(old), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::AGE] }
    }

    fn row(&self, class: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(class, now, [])
    }
}

/// What is as it was stored is not looked into again, so that limits may become tighter.
fn check(class: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    let stored = |field| old.is_some_and(|old| same(at(class, field), at(old, field)));
    if !stored("spec.selectors") {
        request::selectors(items(class, "spec.selectors"), &path.child("selectors"), errors);
    }
    if !stored("spec.config") {
        list(items(class, "spec.config"), limits::CONFIG_MAX, &path.child("config"), errors, request::config);
    }
}
