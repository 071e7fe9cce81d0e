//! Taints of devices, and what tolerates them (KEP-5055).

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::validation;
use xebec_registry::errors::Errors;
use xebec_registry::names;
use xebec_registry::value::string;

use crate::limits;
use crate::set::list;

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];
const OPERATORS: &[&str] = &["Equal", "Exists"];

/// `validateDeviceTaint` of each.
pub fn taints(taints: &[Value], path: &Path, errors: &mut Errors) {
    list(taints, limits::TAINTS_MAX, path, errors, |taint, path, errors| {
        names::label_name(&path.child("key"), string(taint, "key"), errors);
        label_value(taint, path, errors);
        errors.one_of(&path.child("effect"), string(taint, "effect"), EFFECTS);
    });
}

/// `validateDeviceToleration` of each.
pub fn tolerations(tolerations: &[Value], path: &Path, errors: &mut Errors) {
    list(tolerations, limits::TOLERATIONS_MAX, path, errors, |toleration, path, errors| {
        let key = string(toleration, "key");
        if !key.is_empty() {
            names::label_name(&path.child("key"), key, errors);
        }
        match string(toleration, "operator") {
            "Exists" => {
                let value = string(toleration, "value");
                if !value.is_empty() {
                    errors.invalid(&path.child("value"), value, "must be empty for operator `Exists`");
                }
            }
            "Equal" => label_value(toleration, path, errors),
            operator => errors.one_of(&path.child("operator"), operator, OPERATORS),
        }
        let effect = string(toleration, "effect");
        if !effect.is_empty() {
            errors.one_of(&path.child("effect"), effect, EFFECTS);
        }
    });
}

fn label_value(of: &Value, path: &Path, errors: &mut Errors) {
    let value = string(of, "value");
    errors.invalid_each(&path.child("value"), &json!(value), validation::label_value(value));
}

/// Whether one of the tolerations is for the taint (`resourceclaim.ToleratesTaint`).
pub fn tolerated(taint: &Value, tolerations: &[Value]) -> bool {
    tolerations.iter().any(|toleration| {
        let (key, effect) = (string(toleration, "key"), string(toleration, "effect"));
        (effect.is_empty() || effect == string(taint, "effect"))
            && (key.is_empty() || key == string(taint, "key"))
            && match string(toleration, "operator") {
                "Exists" => true,
                "" | "Equal" => string(toleration, "value") == string(taint, "value"),
                _ => false,
            }
    })
}
