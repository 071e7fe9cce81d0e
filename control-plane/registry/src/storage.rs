//! The storage group: `pkg/apis/storage/validation`.

pub mod class;
pub mod csi;
pub mod volume_attachment;

use serde_json::Value;
use xebec_machinery::field::Path;

use crate::errors::Errors;
use crate::value::entries;

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 << 10;

/// `validateParameters`.
fn parameters(class: &Value, may_be_empty: bool, errors: &mut Errors) {
    let path = Path::new("parameters");
    let all: Vec<_> = entries(class, "parameters").collect();
    if all.len() > PARAMETERS_MAX {
        errors.too_long(&path, PARAMETERS_MAX);
        return;
    }
    for _ in all.iter().filter(|(key, _)| key.is_empty()) {
        errors.invalid(&path, "", "field can not be empty.");
    }
    let bytes: usize = all.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > PARAMETERS_BYTES_MAX {
        errors.too_long(&path, PARAMETERS_BYTES_MAX);
    }
    if !may_be_empty && all.is_empty() {
        errors.required(&path, "must contain at least one key/value pair");
    }
}

/// `ValidateCSIDriverName`.
pub fn driver_name(name: &str, path: &Path, errors: &mut Errors) {
    const BYTES_MAX: usize = 63;
    if name.is_empty() {
        errors.required(path, "");
    }
    if name.len() > BYTES_MAX {
        errors.too_long(path, BYTES_MAX);
    }
    let lower = name.to_lowercase();
    errors.invalid_each(path, &Value::from(name), xebec_machinery::validation::dns1123_subdomain(&lower));
}

#[cfg(test)]
mod tests;
