//! ResourceClaims: `ValidateResourceClaim`, and their status.

mod status;

pub use status::node_selector;

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_registry::errors::Errors;
use xebec_registry::meta;
use xebec_registry::strategy::{Column, Context, Fields, SPEC_AND_METADATA, Strategy, named};
use xebec_registry::value::{at, at_mut, is_set, items, keep, set};

use crate::{gate, request};

pub struct ResourceClaim;

impl Strategy for ResourceClaim {
    fn default(&self, claim: &mut Value) {
        if let Some(found) = at_mut(claim, "spec") {
            request::defaults(found);
        }
        status::defaults(claim);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &Context, claim: &mut Value) {
        set(claim, "status", json!({}));
        if let Some(found) = at_mut(claim, "spec") {
            gate::claim(found);
        }
    }

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        if let Some(found) = at_mut(new, "spec") {
            gate::claim(found);
        }
    }

    fn prepare_for_status_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        meta::keep_for_status(new, old);
        if let Some(found) = at_mut(new, "status") {
            gate::status(found);
        }
        status::drop_deallocated(new, old);
    }

    fn status_resets(&self) -> Fields {
        SPEC_AND_METADATA
    }

    fn validate_object(&self, claim: &Value, errors: &mut Errors) {
        request::spec(at(claim, "spec"), &Path::new("spec"), errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable(&Path::new("spec"), at(new, "spec"), at(old, "spec"));
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        status::check(new, old, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("State", "Whether the claim is allocated and reserved."), Column::AGE] }
    }

    fn row(&self, claim: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(claim, now, [json!(state(claim))])
    }
}

/// `resourceClaimState`.
fn state(claim: &Value) -> String {
    let deleted = is_set(claim, "metadata.deletionTimestamp");
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if is_set(claim, "status.allocation") {
        states.push("allocated");
        if !items(claim, "status.reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",")
}
