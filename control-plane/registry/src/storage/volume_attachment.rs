//! VolumeAttachments: `ValidateVolumeAttachment`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;

use super::driver_name;
use crate::core::persistent_volume;
use crate::errors::Errors;
use crate::names::subdomain;
use crate::strategy::{Column, Fields, SPEC_AND_METADATA, Scope, Strategy, named};
use crate::value::{at, boolean, entries, integer, is_set, same, string};

const METADATA_BYTES_MAX: usize = 256 << 10;
const MESSAGE_BYTES_MAX: usize = 1024;

pub struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &crate::Context, attachment: &mut Value) {
        crate::value::set(attachment, "status", json!({"attached": false}));
    }

    fn prepare_for_status_update(&self, _context: &crate::Context, new: &mut Value, old: &Value) {
        crate::value::keep(new, old, "spec");
        crate::meta::keep_for_status(new, old);
    }

    fn status_resets(&self) -> Fields {
        SPEC_AND_METADATA
    }

    fn validate_object(&self, attachment: &Value, errors: &mut Errors) {
        let (spec, path) = (at(attachment, "spec"), Path::new("spec"));
        driver_name(string(spec, "attacher"), &path.child("attacher"), errors);
        source(at(spec, "source"), &path.child("source"), errors);
        subdomain(&path.child("nodeName"), string(spec, "nodeName"), errors);
        status(at(attachment, "status"), errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        if !same(at(new, "spec"), at(old, "spec")) {
            errors.invalid(&Path::new("spec"), at(new, "spec").clone(), "field is immutable");
        }
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        status(at(new, "status"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column { format: "name", ..Column::string("Attacher", "Who attaches the volume.") },
                Column::string("PV", "The volume."),
                Column::string("Node", "The node that the volume is for."),
                Column { kind: "boolean", ..Column::string("Attached", "Whether it is there.") },
                Column::AGE,
            ]
        }
    }

    fn row(&self, attachment: &Value, now: OffsetDateTime) -> Vec<Value> {
        let text = |path| json!(string(attachment, path));
        let attached = json!(boolean(attachment, "status.attached"));
        let cells = [text("spec.attacher"), text("spec.source.persistentVolumeName"), text("spec.nodeName"), attached];
        named(attachment, now, cells)
    }
}

fn source(source: &Value, path: &Path, errors: &mut Errors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let name_path = path.child("persistentVolumeName");
    match (is_set(source, "inlineVolumeSpec"), at(source, "persistentVolumeName").as_str()) {
        (false, None) => errors.required(path, ONE),
        (true, Some(_)) => errors.forbidden(path, ONE),
        (false, Some("")) => errors.required(&name_path, "must specify non empty persistentVolumeName"),
        (false, Some(name)) => subdomain(&name_path, name, errors),
        (true, None) => {
            let inline = at(source, "inlineVolumeSpec");
            persistent_volume::spec(inline, true, &path.child("inlineVolumeSpec"), errors);
        }
    }
}

fn status(status: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let metadata = entries(status, "attachmentMetadata");
    if metadata.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum::<usize>() > METADATA_BYTES_MAX {
        errors.too_long(&path.child("attachmentMetadata"), METADATA_BYTES_MAX);
    }
    for field in ["attachError", "detachError"] {
        let (error, path) = (at(status, field), path.child(field));
        if string(error, "message").len() > MESSAGE_BYTES_MAX {
            errors.too_long(&path.child("message"), METADATA_BYTES_MAX);
        }
        if let Some(code) = integer(error, "errorCode").filter(|code| *code < 0) {
            let detail = xebec_machinery::validation::inclusive_range_error(0, i64::from(i32::MAX));
            errors.invalid(&path.child("errorCode"), code, detail);
        }
    }
}
