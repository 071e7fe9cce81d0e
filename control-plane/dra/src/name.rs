//! Names of drivers, pools, devices, attributes and capacities.

use xebec_machinery::field::Path;
use xebec_machinery::validation;
use xebec_registry::errors::Errors;
use xebec_registry::names;
pub use xebec_registry::storage::driver_name as driver;

use crate::limits;

const IDENTIFIER: &str = "[A-Za-z_][A-Za-z0-9_]*";

/// A request, a device, a counter, a set of counters.
pub fn label(path: &Path, name: &str, errors: &mut Errors) {
    names::label(path, name, errors);
}

/// `validatePoolName`: subdomains with slashes between them.
pub fn pool(path: &Path, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > limits::POOL_NAME_BYTES_MAX {
        errors.too_long(path, limits::POOL_NAME_BYTES_MAX);
    }
    for part in name.split('/') {
        names::subdomain(path, part, errors);
    }
}

/// `validateQualifiedName`: an identifier, with or without a domain before it.
pub fn qualified(path: &Path, name: &str, errors: &mut Errors) {
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(path, id, errors),
        [domain, id] => {
            match domain {
                "" => errors.invalid(path, "", "the domain must not be empty"),
                domain => driver(domain, path, errors),
            }
            match id {
                "" => errors.invalid(path, "", "the name must not be empty"),
                id => identifier(path, id, errors),
            }
        }
        _ => errors.invalid(path, name, "must not contain more than one slash"),
    }
}

/// `validateFullyQualifiedName`.
pub fn fully_qualified(path: &Path, name: &str, errors: &mut Errors) {
    qualified(path, name, errors);
    if !name.contains('/') {
        errors.invalid(path, name, "a fully qualified name must be a domain and a name separated by a slash");
    }
}

/// `validateCIdentifier`.
fn identifier(path: &Path, id: &str, errors: &mut Errors) {
    if id.len() > limits::IDENTIFIER_BYTES_MAX {
        errors.too_long(path, limits::IDENTIFIER_BYTES_MAX);
    }
    let starts = id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        let message = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
        let message = validation::regex_error(message, IDENTIFIER, &["my_name", "MY_NAME", "MyName"]);
        errors.invalid(path, id, message);
    }
}
