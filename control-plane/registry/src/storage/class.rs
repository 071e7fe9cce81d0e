//! StorageClasses and VolumeAttributesClasses: `ValidateStorageClass`, `ValidateVolumeAttributesClass`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use super::parameters;
use crate::errors::Errors;
use crate::strategy::{Column, Scope, Strategy, age};
use crate::value::{at, boolean, default, items, same, string, strings};
use crate::{duration, meta};

const RECLAIM_POLICIES: &[&str] = &["Delete", "Retain"];
const BINDING_MODES: &[&str] = &["Immediate", "WaitForFirstConsumer"];
/// Marks the class that claims get which name none; the second is what it was called before it was stable.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub struct StorageClass;

impl Strategy for StorageClass {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn default(&self, class: &mut Value) {
        default(class, "reclaimPolicy", "Delete");
        default(class, "volumeBindingMode", "Immediate");
    }

    fn validate_object(&self, class: &Value, errors: &mut Errors) {
        provisioner(class, "provisioner", errors);
        parameters(class, true, errors);
        let policy = string(class, "reclaimPolicy");
        if !policy.is_empty() && !RECLAIM_POLICIES.contains(&policy) {
            errors.not_supported(&Path::new("reclaimPolicy"), policy, RECLAIM_POLICIES);
        }
        match at(class, "volumeBindingMode").as_str() {
            None => errors.required(&Path::new("volumeBindingMode"), ""),
            Some(mode) if BINDING_MODES.contains(&mode) => {}
            Some(other) => errors.not_supported(&Path::new("volumeBindingMode"), other, BINDING_MODES),
        }
        topologies(class, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for field in ["parameters", "provisioner", "reclaimPolicy"] {
            if !same(at(new, field), at(old, field)) {
                errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
            }
        }
        let field = "volumeBindingMode";
        errors.immutable(&Path::new(field), at(new, field), at(old, field));
    }

    fn allow_create_on_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Provisioner", "Who makes volumes of the class."),
                Column::string("ReclaimPolicy", "What becomes of a volume whose claim is gone."),
                Column::string("VolumeBindingMode", "Whether volumes are made before a pod needs them."),
                Column::string("AllowVolumeExpansion", "Whether volumes may grow."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, class: &Value, now: OffsetDateTime) -> Vec<Value> {
        let or = |field, default: &str| json!(at(class, field).as_str().unwrap_or(default));
        let marked = |name: &&str| at(class, "metadata.annotations").get(*name).is_some_and(|value| value == "true");
        let suffix = if DEFAULT_CLASS.iter().any(marked) { " (default)" } else { "" };
        vec![
            json!(format!("{}{suffix}", meta::name(class))),
            json!(string(class, "provisioner")),
            or("reclaimPolicy", "Delete"),
            or("volumeBindingMode", "Immediate"),
            json!(boolean(class, "allowVolumeExpansion")),
            age(class, now),
        ]
    }
}

pub struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn validate_object(&self, class: &Value, errors: &mut Errors) {
        provisioner(class, "driverName", errors);
        parameters(class, false, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        for field in ["driverName", "parameters"] {
            if !same(at(new, field), at(old, field)) {
                errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
            }
        }
        self.validate_object(new, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("DriverName", "The driver that knows the attributes."), Column::AGE] }
    }

    fn row(&self, class: &Value, now: OffsetDateTime) -> Vec<Value> {
        let created = duration::since(string(class, "metadata.creationTimestamp"), now);
        vec![json!(meta::name(class)), json!(string(class, "driverName")), json!(created)]
    }
}

/// `validateProvisioner`.
fn provisioner(class: &Value, field: &str, errors: &mut Errors) {
    let (name, path) = (string(class, field), Path::new(field));
    if name.is_empty() {
        errors.required(&path, "");
    } else {
        let lower = name.to_lowercase();
        errors.invalid_each(&path, &json!(lower), validation::qualified_name(&lower));
    }
}

/// `validateAllowedTopologies`, `ValidateTopologySelectorTerm`.
fn topologies(class: &Value, errors: &mut Errors) {
    let terms = items(class, "allowedTopologies");
    for (index, term) in terms.iter().enumerate() {
        let path = Path::new("allowedTopologies").index(index).child("matchLabelExpressions");
        let expressions = items(term, "matchLabelExpressions");
        for (index, expression) in expressions.iter().enumerate() {
            let path = path.index(index);
            let values: Vec<&str> = strings(expression, "values").collect();
            if values.is_empty() {
                errors.required(&path.child("values"), "");
            }
            for (index, value) in values.iter().enumerate().filter(|(index, value)| values[..*index].contains(value)) {
                errors.duplicate(&path.child("values").index(index), *value);
            }
            let key = string(expression, "key");
            errors.invalid_each(&path.child("key"), &json!(key), validation::qualified_name(key));
            if expressions[..index].iter().any(|earlier| string(earlier, "key") == key) {
                errors.duplicate(&path.child("key"), key);
            }
        }
        if terms[..index].contains(term) {
            errors.duplicate(&path, "");
        }
    }
}
