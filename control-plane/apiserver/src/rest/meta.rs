//! What the server decides about an object's metadata, whatever its kind.

use rand::Rng;
use serde_json::Value;
use time::OffsetDateTime;
use xebec_machinery::{Status, object};

use super::Call;
use crate::kinds::Resource;

/// As apiserver's `names.SimpleNameGenerator`: no vowels, so no words.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const BASE_LENGTH_MAX: usize = 63 - SUFFIX_LENGTH;

/// `base` and five random characters.
pub fn generate_name(base: &str) -> String {
    let mut cut = base.len().min(BASE_LENGTH_MAX);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut rng = rand::rng();
    let suffix = (0..SUFFIX_LENGTH).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    base[..cut].chars().chain(suffix).collect()
}

/// The namespace of the object must be the one of the path (`EnsureObjectNamespaceMatchesRequestNamespace`).
pub fn match_namespace(call: &Call, value: &mut Value) -> Result<(), Status> {
    let given = object::namespace(value).to_owned();
    if !call.resource.namespaced() {
        if !given.is_empty() {
            object::set_namespace(value, "");
        }
        return Ok(());
    }
    if given.is_empty() {
        object::set_namespace(value, call.namespace());
    } else if given != call.namespace() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// The name and namespace that an object has must be those of the path (apiserver's `checkName`).
pub fn check_name(call: &Call, value: &Value) -> Result<(), Status> {
    let (name, namespace) = (object::name(value), object::namespace(value));
    if name.is_empty() {
        return Err(unnamed(call));
    }
    if name != call.name() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    if call.resource.namespaced() && !namespace.is_empty() && namespace != call.namespace() {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            call.namespace()
        )));
    }
    Ok(())
}

pub fn unnamed(call: &Call) -> Status {
    let name = call.name();
    Status::bad_request(format!(
        "the name of the object ({name} based on URL) was undeterminable: name must be provided"
    ))
}

/// The name of the object must be the one of the path.
pub fn match_name(call: &Call, value: &mut Value) -> Result<(), Status> {
    let given = object::name(value).to_owned();
    if given.is_empty() {
        object::set_name(value, call.name());
    } else if given != call.name() {
        let on_url = call.name();
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({on_url})"
        )));
    }
    Ok(())
}

/// Identity and birth of a new object (`rest.FillObjectMetaSystemFields`, `BeforeCreate`).
pub fn born(resource: &Resource, value: &mut Value, now: OffsetDateTime) {
    let metadata = object::metadata_mut(value);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "selfLink", "generation"] {
        metadata.remove(field);
    }
    object::set_uid(value, &uuid::Uuid::new_v4().to_string());
    object::set_creation_timestamp(value, &xebec_machinery::time::rfc3339(now.into()));
    if resource.strategy.has_generation() {
        object::set_generation(value, 1);
    }
}

/// What an update leaves out stays; what the server owns cannot be written (`ValidateObjectMetaAccessorUpdate`).
pub fn carry_over(new: &mut Value, old: &Value) {
    let Some(before) = old.get("metadata").and_then(Value::as_object) else { return };
    let after = object::metadata_mut(new);
    after.remove("selfLink");
    for field in ["uid", "creationTimestamp", "generateName"] {
        let unset = after.get(field).is_none_or(|v| v.is_null() || v.as_str() == Some(""));
        if let Some(value) = before.get(field).filter(|_| unset) {
            after.insert(field.into(), value.clone());
        }
    }
    // A deletion that has begun cannot be taken back.
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        match before.get(field) {
            Some(value) if after.get(field).is_none_or(Value::is_null) => {
                after.insert(field.into(), value.clone());
            }
            Some(_) => {}
            None => _ = after.remove(field),
        }
    }
    match before.get("generation") {
        Some(value) => _ = after.insert("generation".into(), value.clone()),
        None => _ = after.remove("generation"),
    }
}
