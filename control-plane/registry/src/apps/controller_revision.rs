//! ControllerRevisions: data that never changes.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use crate::errors::Errors;
use crate::meta;
use crate::names::NOT_NEGATIVE;
use crate::strategy::{Column, Strategy, named};
use crate::value::{at, integer, string};

pub struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate_object(&self, revision: &Value, errors: &mut Errors) {
        if at(revision, "data").is_null() {
            errors.required(&Path::new("data"), "data is mandatory");
        }
        if let Some(number) = integer(revision, "revision").filter(|number| *number < 0) {
            errors.invalid(&Path::new("revision"), number, NOT_NEGATIVE);
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        errors.immutable(&Path::new("data"), at(new, "data"), at(old, "data"));
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Controller", "The object whose revision this is."),
                Column::integer("Revision", "The number of the revision."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, revision: &Value, now: OffsetDateTime) -> Vec<Value> {
        let controller = meta::controller(revision).map_or_else(
            || "<none>".to_owned(),
            |owner| {
                let group = string(owner, "apiVersion").split_once('/').map_or("", |(group, _)| group);
                let kind = string(owner, "kind").to_lowercase();
                let dot = if group.is_empty() { "" } else { "." };
                format!("{kind}{dot}{group}/{}", string(owner, "name"))
            },
        );
        named(revision, now, [json!(controller), json!(integer(revision, "revision").unwrap_or(0))])
    }
}
