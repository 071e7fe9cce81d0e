//! PersistentVolumeClaims: `ValidatePersistentVolumeClaim`, `pkg/registry/core/persistentvolumeclaim`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::{Quantity, validation};

use super::volume_modes::{VOLUME_MODES, access_modes, class_of};
use crate::errors::Errors;
use crate::names::{POSITIVE, subdomain};
use crate::pod::resources::{amount, quantity};
use crate::strategy::{Column, Context, Strategy};
use crate::value::{at, default as fill, entries, is_set, keep, remove, same, set, string, strings};
use crate::{duration, meta};

pub const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const IMMUTABLE: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
const RESIZES: &[&str] = &[
    "ControllerResizeFailed",
    "ControllerResizeInProgress",
    "NodeResizeFailed",
    "NodeResizeInProgress",
    "NodeResizePending",
];

pub struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn default(&self, claim: &mut Value) {
        default(claim);
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, _context: &Context, claim: &mut Value) {
        set(claim, "status", json!({"phase": "Pending"}));
        normalize_data_sources(claim);
    }

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        normalize_data_sources(new);
    }

    fn validate_object(&self, claim: &Value, errors: &mut Errors) {
        spec(at(claim, "spec"), &Path::new("spec"), errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        update(new, old, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let (status, path) = (at(new, "status"), Path::new("status"));
        for (name, size) in entries(status, "capacity") {
            basic_resource(size, &path.child("capacity").key(name), errors);
        }
        for (name, state) in entries(status, "allocatedResourceStatuses") {
            let path = path.child("allocatedResourceStatus");
            resource_key(name, &path, errors);
            if !RESIZES.contains(&state.as_str().unwrap_or("")) {
                errors.not_supported(&path, name.as_str(), RESIZES);
            }
        }
        for (name, size) in entries(status, "allocatedResources") {
            resource_key(name, &path.child("allocatedResources"), errors);
            basic_resource(size, &path.child("allocatedResources").key(name), errors);
        }
    }

    fn warnings(&self, claim: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(claim)
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Status", "Whether the claim has a volume."),
                Column::string("Volume", "The volume of the claim."),
                Column::string("Capacity", "The size of the volume."),
                Column::string("Access Modes", "How the volume may be mounted."),
                Column::string("StorageClass", "The class of the volume."),
                Column::string("VolumeAttributesClass", "The class of the volume's attributes."),
                Column::AGE,
                Column::wide("VolumeMode", "Whether the volume is a filesystem or a block device."),
            ]
        }
    }

    fn row(&self, claim: &Value, now: OffsetDateTime) -> Vec<Value> {
        let (spec, status) = (at(claim, "spec"), at(claim, "status"));
        let terminating = is_set(claim, "metadata.deletionTimestamp");
        let bound = !string(spec, "volumeName").is_empty();
        let capacity = quantity(at(status, "capacity.storage")).unwrap_or(Quantity::from_value(0));
        vec![
            json!(meta::name(claim)),
            json!(if terminating { "Terminating" } else { string(status, "phase") }),
            json!(string(spec, "volumeName")),
            json!(if bound { capacity.to_string() } else { String::new() }),
            json!(if bound { access_modes(status) } else { String::new() }),
            json!(class_of(claim)),
            json!(at(spec, "volumeAttributesClassName").as_str().unwrap_or("<unset>")),
            json!(duration::since(string(claim, "metadata.creationTimestamp"), now)),
            json!(at(spec, "volumeMode").as_str().unwrap_or("<unset>")),
        ]
    }
}

/// `SetDefaults_PersistentVolumeClaim`, also for the claims that a StatefulSet will make.
pub fn default(claim: &mut Value) {
    if string(claim, "status.phase").is_empty() {
        set(claim, "status.phase", "Pending");
    }
    if let Some(spec) = claim.get_mut("spec").filter(|spec| spec.is_object()) {
        fill(spec, "volumeMode", "Filesystem");
        fill(spec, "resources", json!({}));
    }
}

/// What a claim says that will not be heeded (`GetWarningsForPersistentVolumeClaim`).
pub fn warnings(claim: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if at(claim, "metadata.annotations").get(BETA_CLASS).is_some() {
        warnings.push(format!(
            "metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    for field in ["requests", "limits"] {
        let found = at(at(claim, "spec.resources"), field).get("storage").and_then(quantity);
        if let Some(size) = found.filter(|size| *size != Quantity::from_value(size.value())) {
            warnings.push(format!(
                "spec.resources.{field}[storage]: fractional byte value {:?} is invalid, must be an integer",
                size.to_string()
            ));
        }
    }
    warnings
}

/// `ValidatePersistentVolumeClaimSpec`.
pub fn spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let modes: Vec<&str> = strings(spec, "accessModes").collect();
    let modes_path = path.child("accessModes");
    if modes.is_empty() {
        errors.required(&modes_path, "at least 1 access mode is required");
    }
    meta::label_selector(at(spec, "selector"), &path.child("selector"), errors);
    super::volume_modes::validate(&modes, &modes_path, errors);
    let storage_path = path.child("resources").key("storage");
    match at(spec, "resources.requests.storage") {
        Value::Null => errors.required(&storage_path, ""),
        size => {
            if !positive(size, &storage_path, errors) {
                amount("storage", size, &storage_path, errors);
            }
        }
    }
    class_name(spec, "storageClassName", path, errors);
    if let Some(mode) = at(spec, "volumeMode").as_str().filter(|mode| !VOLUME_MODES.contains(mode)) {
        errors.not_supported(&path.child("volumeMode"), mode, VOLUME_MODES);
    }
    data_sources(spec, path, errors);
    class_name(spec, "volumeAttributesClassName", path, errors);
}

/// `ValidatePositiveQuantityValue`: whether something was wrong.
pub fn positive(size: &Value, path: &Path, errors: &mut Errors) -> bool {
    let Some(size) = quantity(size).filter(|size| *size <= Quantity::from_value(0)) else { return false };
    errors.invalid(path, size.to_string(), POSITIVE);
    true
}

/// `validateBasicResource`.
pub fn basic_resource(size: &Value, path: &Path, errors: &mut Errors) {
    if let Some(size) = quantity(size).filter(|size| size.is_negative()) {
        errors.invalid(path, size.to_string(), "must be a valid resource quantity");
    }
}

/// A reference to a class, by a name that may be empty.
pub fn class_name(spec: &Value, field: &str, path: &Path, errors: &mut Errors) {
    let name = string(spec, field);
    if !name.is_empty() {
        subdomain(&path.child(field), name, errors);
    }
}

fn data_sources(spec: &Value, path: &Path, errors: &mut Errors) {
    let (source, reference) = (at(spec, "dataSource"), at(spec, "dataSourceRef"));
    for (source, field) in [(source, "dataSource"), (reference, "dataSourceRef")] {
        if !source.is_null() {
            data_source(source, &path.child(field), errors);
        }
    }
    if source.is_null() || reference.is_null() {
        return;
    }
    let detail = if string(reference, "namespace").is_empty() {
        if ["apiGroup", "kind", "name"].iter().all(|field| at(source, field) == at(reference, field)) {
            return;
        }
        "must match dataSourceRef"
    } else {
        "may not be specified when dataSourceRef.namespace is specified"
    };
    errors.invalid(path, path.child("dataSource").to_string(), detail);
}

fn data_source(source: &Value, path: &Path, errors: &mut Errors) {
    for field in ["name", "kind"] {
        if string(source, field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    let (group, kind) = (string(source, "apiGroup"), string(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        errors.invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    if !group.is_empty() {
        subdomain(&path.child("apiGroup"), group, errors);
    }
    let namespace = string(source, "namespace");
    if !namespace.is_empty() {
        let messages = validation::dns1123_label(namespace);
        errors.invalid_each(&path.child("namespace"), &json!(namespace), messages);
    }
}

/// `NormalizeDataSources`: each of the two fields says what the other says.
fn normalize_data_sources(claim: &mut Value) {
    let (source, reference) = (at(claim, "spec.dataSource").clone(), at(claim, "spec.dataSourceRef").clone());
    if reference.is_null() && !source.is_null() {
        set(claim, "spec.dataSourceRef", source);
    } else if source.is_null() && !reference.is_null() && string(&reference, "namespace").is_empty() {
        let mut source = reference;
        remove(&mut source, "namespace");
        set(claim, "spec.dataSource", source);
    }
}

/// `ValidatePersistentVolumeClaimUpdate`.
fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (mut after, mut before) = (at(new, "spec").clone(), at(old, "spec").clone());
    if string(old, "spec.volumeName").is_empty() {
        keep(&mut before, &after, "volumeName");
    }
    let annotation = |claim| at(claim, "metadata.annotations").get(BETA_CLASS);
    let beta = annotation(old);
    let class = at(new, "spec.storageClassName");
    if !is_set(old, "spec.storageClassName") && !class.is_null() && beta.is_none_or(|beta| beta == class) {
        // A claim made before there was a default class gets one later.
        keep(&mut before, &after, "storageClassName");
    } else if annotation(new) != annotation(old) {
        let path = Path::new("metadata").child("annotations").key(BETA_CLASS);
        errors.invalid(&path, annotation(new).cloned().unwrap_or_default(), "field is immutable");
    }
    if string(new, "status.phase") == "Bound" && is_set(&after, "resources.requests") {
        keep(&mut after, &before, "resources.requests.storage");
    }
    keep(&mut after, &before, "volumeAttributesClassName");
    if !same(&after, &before) {
        errors.forbidden(&path, IMMUTABLE);
    }
    shrink(new, old, errors);
    errors.immutable(&Path::new("volumeMode"), at(new, "spec.volumeMode"), at(old, "spec.volumeMode"));
    let attributes = |claim| at(claim, "spec.volumeAttributesClassName").as_str();
    if attributes(old).is_some() && attributes(old) != attributes(new) {
        let path = path.child("volumeAttributesClassName");
        match attributes(new) {
            None => errors.forbidden(&path, "update from non-nil value to nil is forbidden"),
            Some("") => errors.forbidden(&path, "update from non-nil value to an empty string is forbidden"),
            Some(_) => {}
        }
    }
}

/// A request may go down again to what the volume has, after an expansion that failed.
fn shrink(new: &Value, old: &Value, errors: &mut Errors) {
    let size = |claim, path| quantity(at(claim, path)).unwrap_or(Quantity::from_value(0));
    let request = "spec.resources.requests.storage";
    let (after, before) = (size(new, request), size(old, request));
    if after < before && after <= size(old, "status.capacity.storage") {
        let path = Path::new("spec").child("resources").child("requests").child("storage");
        errors.forbidden(&path, "field can not be less than status.capacity");
    }
}

/// `validatePersistentVolumeClaimResourceKey`.
fn resource_key(name: &str, path: &Path, errors: &mut Errors) {
    let messages = validation::qualified_name(name);
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    if messages.is_empty() && native && name != "storage" {
        errors.not_supported(path, name, &["storage"]);
    }
    errors.invalid_each(path, &json!(name), messages);
}
