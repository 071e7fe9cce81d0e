//! PersistentVolumes: `ValidatePersistentVolume`, `printPersistentVolume`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::Quantity;
use xebec_machinery::field::Path;

use super::persistent_volume_claim::{BETA_CLASS, basic_resource, class_name, positive};
use super::volume_modes::{VOLUME_MODES, access_modes, class_of};
use crate::errors::Errors;
use crate::pod;
use crate::pod::resources::quantity;
use crate::strategy::{Column, Context, Scope, Strategy, age};
use crate::value::{at, default, default_string, entries, is_set, items, keep, remove, same, set, string, strings};
use crate::{meta, storage};

const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];
/// Where a volume may be, in the order upstream looks at it.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];
const MORE_THAN_ONE: &str = "may not specify more than 1 volume type";

pub struct PersistentVolume;

impl Strategy for PersistentVolume {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn default(&self, volume: &mut Value) {
        if string(volume, "status.phase").is_empty() {
            set(volume, "status.phase", "Pending");
        }
        let Some(spec) = volume.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        default_string(spec, "persistentVolumeReclaimPolicy", "Retain");
        default(spec, "volumeMode", "Filesystem");
        if let Some(path) = crate::value::at_mut(spec, "hostPath") {
            default(path, "type", "");
        }
        if let Some(target) = crate::value::at_mut(spec, "iscsi") {
            default_string(target, "iscsiInterface", "default");
        }
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, context: &Context, volume: &mut Value) {
        let now = context.now_rfc3339();
        set(volume, "status", json!({"phase": "Pending", "lastPhaseTransitionTime": now}));
    }

    fn prepare_for_status_update(&self, context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        // The time of a change is the server's to say, unless a client says one itself.
        let (phase, time) = ("status.phase", "status.lastPhaseTransitionTime");
        if at(new, phase) == at(old, phase) {
            if !is_set(new, time) {
                keep(new, old, time);
            }
        } else if !is_set(new, time) || at(new, time) == at(old, time) {
            set(new, time, context.now_rfc3339());
        }
    }

    fn validate_object(&self, volume: &Value, errors: &mut Errors) {
        spec(at(volume, "spec"), false, &Path::new("spec"), errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
        let source = |volume: &Value| {
            let mut fields = serde_json::Map::new();
            for kind in SOURCES.iter().filter(|kind| is_set(at(volume, "spec"), kind)) {
                fields.insert((*kind).to_owned(), at(at(volume, "spec"), kind).clone());
            }
            Value::Object(fields)
        };
        let (mut after, before) = (source(new), source(old));
        if !is_set(&before, "csi.controllerExpandSecretRef") {
            remove(&mut after, "csi.controllerExpandSecretRef");
        }
        if !same(&after, &before) {
            let path = Path::new("spec").child("persistentvolumesource");
            errors.forbidden(&path, "spec.persistentvolumesource is immutable after creation");
        }
        errors.immutable(&Path::new("volumeMode"), at(new, "spec.volumeMode"), at(old, "spec.volumeMode"));
        if is_set(old, "spec.nodeAffinity") {
            let path = Path::new("nodeAffinity");
            errors.immutable(&path, at(new, "spec.nodeAffinity"), at(old, "spec.nodeAffinity"));
        }
        let class = "spec.volumeAttributesClassName";
        if is_set(old, class) && !is_set(new, class) {
            let path = Path::new("spec").child("volumeAttributesClassName");
            errors.forbidden(&path, "update from non-nil value to nil is forbidden");
        }
    }

    fn warnings(&self, volume: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if at(volume, "metadata.annotations").get(BETA_CLASS).is_some() {
            warnings.push(format!(
                "metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
            ));
        }
        if string(volume, "spec.persistentVolumeReclaimPolicy") == "Recycle" {
            warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Capacity", "The size of the volume."),
                Column::string("Access Modes", "How the volume may be mounted."),
                Column::string("Reclaim Policy", "What becomes of the volume when its claim is gone."),
                Column::string("Status", "Whether the volume is free."),
                Column::string("Claim", "The claim that has the volume."),
                Column::string("StorageClass", "The class of the volume."),
                Column::string("VolumeAttributesClass", "The class of the volume's attributes."),
                Column::string("Reason", "Why the volume is in its state."),
                Column::AGE,
                Column::wide("VolumeMode", "Whether the volume is a filesystem or a block device."),
            ]
        }
    }

    fn row(&self, volume: &Value, now: OffsetDateTime) -> Vec<Value> {
        let (spec, claim) = (at(volume, "spec"), at(volume, "spec.claimRef"));
        let terminating = is_set(volume, "metadata.deletionTimestamp");
        let size = quantity(at(spec, "capacity.storage")).unwrap_or(Quantity::from_value(0));
        let claim_name = format!("{}/{}", string(claim, "namespace"), string(claim, "name"));
        vec![
            json!(meta::name(volume)),
            json!(size.to_string()),
            json!(access_modes(spec)),
            json!(string(spec, "persistentVolumeReclaimPolicy")),
            json!(if terminating { "Terminating" } else { string(volume, "status.phase") }),
            json!(if claim.is_null() { String::new() } else { claim_name }),
            json!(class_of(volume)),
            json!(at(spec, "volumeAttributesClassName").as_str().unwrap_or("<unset>")),
            json!(string(volume, "status.reason")),
            age(volume, now),
            json!(at(spec, "volumeMode").as_str().unwrap_or("<unset>")),
        ]
    }
}

/// `ValidatePersistentVolumeSpec`; `inline` in an attachment.
pub fn spec(spec: &Value, inline: bool, path: &Path, errors: &mut Errors) {
    let modes: Vec<&str> = strings(spec, "accessModes").collect();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    super::volume_modes::validate(&modes, &path.child("accessModes"), errors);
    if inline {
        for field in ["capacity", "claimRef", "persistentVolumeReclaimPolicy"].iter().filter(|f| is_set(spec, f)) {
            errors.forbidden(&path.child(field), "may not be specified in the context of inline volumes");
        }
    } else {
        capacity(spec, &path.child("capacity"), errors);
        let policy = string(spec, "persistentVolumeReclaimPolicy");
        if !policy.is_empty() && !RECLAIM_POLICIES.contains(&policy) {
            errors.not_supported(&path.child("persistentVolumeReclaimPolicy"), policy, RECLAIM_POLICIES);
        }
    }
    node_affinity(spec, &path.child("nodeAffinity"), errors);
    source(spec, path, errors);
    let root = string(spec, "hostPath.path").trim_end_matches('/').is_empty() && is_set(spec, "hostPath");
    if root && string(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let path = path.child("persistentVolumeReclaimPolicy");
        errors.forbidden(&path, "may not be 'recycle' for a hostPath mount of '/'");
    }
    class_name(spec, "storageClassName", path, errors);
    if let Some(mode) = at(spec, "volumeMode").as_str().filter(|mode| !VOLUME_MODES.contains(mode)) {
        errors.not_supported(&path.child("volumeMode"), mode, VOLUME_MODES);
    }
    if let Some(class) = at(spec, "volumeAttributesClassName").as_str() {
        if class.is_empty() {
            errors.required(&path.child("volumeAttributesClassName"), "an empty string is disallowed");
        }
        class_name(spec, "volumeAttributesClassName", path, errors);
        if !is_set(spec, "csi") {
            errors.required(&path.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn capacity(spec: &Value, path: &Path, errors: &mut Errors) {
    let all: Vec<_> = entries(spec, "capacity").collect();
    if all.is_empty() {
        errors.required(path, "");
    }
    if all.len() != 1 || all[0].0 != "storage" {
        errors.not_supported(path, at(spec, "capacity").clone(), &["storage"]);
    }
    for (name, size) in all {
        basic_resource(size, &path.key(name), errors);
        positive(size, &path.key(name), errors);
    }
}

/// `validateVolumeNodeAffinity`.
fn node_affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    if !is_set(spec, "nodeAffinity") {
        return;
    }
    let (required, path) = (at(spec, "nodeAffinity.required"), path.child("required"));
    if required.is_null() {
        errors.required(&path, "must specify required node constraints");
        return;
    }
    let (terms, path) = (items(required, "nodeSelectorTerms"), path.child("nodeSelectorTerms"));
    if terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        pod::node_selector_term(term, &path.index(index), errors);
    }
}

fn source(spec: &Value, path: &Path, errors: &mut Errors) {
    let found: Vec<&str> = SOURCES.into_iter().filter(|kind| is_set(spec, kind)).collect();
    let Some((first, others)) = found.split_first() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    let (source, source_path) = (at(spec, first), path.child(first));
    let required = |fields: &[&str], errors: &mut Errors| {
        for field in fields.iter().filter(|field| string(source, field).is_empty()) {
            errors.required(&source_path.child(field), "");
        }
    };
    match *first {
        "hostPath" => pod::host_path(source, &source_path, errors),
        "nfs" => {
            required(&["server", "path"], errors);
            if !string(source, "path").starts_with('/') {
                errors.invalid(&source_path.child("path"), string(source, "path"), "must be an absolute path");
            }
        }
        "local" => {
            required(&["path"], errors);
            if string(source, "path").split('/').any(|part| part == "..") {
                errors.invalid(&source_path.child("path"), string(source, "path"), "must not contain '..'");
            }
            if !is_set(spec, "nodeAffinity.required") {
                errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        "csi" => {
            storage::driver_name(string(source, "driver"), &source_path.child("driver"), errors);
            required(&["volumeHandle"], errors);
        }
        "iscsi" => required(&["targetPortal", "iqn"], errors),
        "rbd" => required(&["image"], errors),
        "cinder" | "awsElasticBlockStore" => required(&["volumeID"], errors),
        "gcePersistentDisk" => required(&["pdName"], errors),
        "flexVolume" => required(&["driver"], errors),
        _ => {}
    }
    for kind in others {
        errors.forbidden(&path.child(kind), MORE_THAN_ONE);
    }
}
