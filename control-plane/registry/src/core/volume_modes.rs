//! What volumes and claims have in common.

use serde_json::Value;
use xebec_machinery::field::Path;

use crate::errors::Errors;
use crate::value::{at, string, strings};

pub const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// Access modes as kubectl prints them: `RWO,ROX` (`GetAccessModesAsString`).
pub fn access_modes(object: &Value) -> String {
    let shorts =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |long: &str| strings(object, "accessModes").any(|mode| mode == long);
    shorts.iter().filter(|(long, _)| has(long)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The class of a volume or a claim: by annotation in old objects.
pub fn class_of(object: &Value) -> &str {
    let beta = at(object, "metadata.annotations").get(super::persistent_volume_claim::BETA_CLASS);
    beta.and_then(Value::as_str).unwrap_or_else(|| string(object, "spec.storageClassName"))
}

pub fn validate(modes: &[&str], path: &Path, errors: &mut Errors) {
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.not_supported(path, *mode, ACCESS_MODES);
    }
    let known: Vec<&&str> = modes.iter().filter(|mode| ACCESS_MODES.contains(mode)).collect();
    let single = known.iter().any(|mode| **mode == "ReadWriteOncePod");
    if single && known.iter().any(|mode| **mode != "ReadWriteOncePod") {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}
