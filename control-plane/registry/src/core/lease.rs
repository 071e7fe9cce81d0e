//! Leases: `pkg/apis/coordination/validation`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use crate::errors::Errors;
use crate::names::not_negative;
use crate::strategy::{Column, Strategy, named};
use crate::value::{at, integer, string};

pub struct Lease;

impl Strategy for Lease {
    fn validate_object(&self, lease: &Value, errors: &mut Errors) {
        let (spec, path) = (at(lease, "spec"), Path::new("spec"));
        if let Some(seconds) = integer(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
            errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        not_negative(spec, "leaseTransitions", &path, errors);
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Holder", "Who holds the lease."), Column::AGE] }
    }

    fn row(&self, lease: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(lease, now, [json!(string(lease, "spec.holderIdentity"))])
    }
}
