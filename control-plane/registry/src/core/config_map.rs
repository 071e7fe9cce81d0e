//! ConfigMaps: `ValidateConfigMap`.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::strategy::{Column, Strategy, named};
use crate::value::{at, boolean, entries, same};

/// `MaxSecretSize`, for both kinds.
pub const DATA_BYTES_MAX: usize = 1 << 20;
const IMMUTABLE: &str = "field is immutable when `immutable` is set";

pub struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate_object(&self, map: &Value, errors: &mut Errors) {
        let mut bytes = 0;
        for (key, value) in entries(map, "data") {
            let path = Path::new("data").key(key);
            errors.invalid_each(&path, &json!(key), validation::config_map_key(key));
            if at(map, "binaryData").get(key).is_some() {
                errors.invalid(&path, key.as_str(), "duplicate of key present in binaryData");
            }
            bytes += value.as_str().map_or(0, str::len);
        }
        for (key, value) in entries(map, "binaryData") {
            errors.invalid_each(&Path::new("binaryData").key(key), &json!(key), validation::config_map_key(key));
            bytes += decoded_len(value);
        }
        if bytes > DATA_BYTES_MAX {
            // The path of the object as a whole, as Go prints `field.NewPath("")`.
            errors.too_long(&Path::new("[]"), DATA_BYTES_MAX);
        }
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        immutable(new, old, &["data", "binaryData"], errors);
        self.validate_object(new, errors);
    }

    fn allow_create_on_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::integer("Data", "How many keys the map has."), Column::AGE] }
    }

    fn row(&self, map: &Value, now: OffsetDateTime) -> Vec<Value> {
        let keys = entries(map, "data").count() + entries(map, "binaryData").count();
        named(map, now, [json!(keys)])
    }
}

/// What `immutable: true` forbids.
pub fn immutable(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    if !boolean(old, "immutable") {
        return;
    }
    if !boolean(new, "immutable") {
        errors.forbidden(&Path::new("immutable"), IMMUTABLE);
    }
    for field in fields.iter().filter(|field| !same(at(new, field), at(old, field))) {
        errors.forbidden(&Path::new(field), IMMUTABLE);
    }
}

/// How many bytes a base64 text stands for.
pub fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or("").trim_end_matches('=');
    text.len() * 3 / 4
}
