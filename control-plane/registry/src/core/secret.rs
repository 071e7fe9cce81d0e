//! Secrets: `ValidateSecret`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use super::config_map::{DATA_BYTES_MAX, decoded_len, immutable};
use crate::errors::Errors;
use crate::strategy::{Column, Context, Strategy, named};
use crate::value::{at, default_string, entries, object_mut, remove, string};

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

pub struct Secret;

impl Strategy for Secret {
    fn default(&self, secret: &mut Value) {
        default_string(secret, "type", "Opaque");
    }

    fn prepare_for_create(&self, _context: &Context, secret: &mut Value) {
        fold_string_data(secret);
    }

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, _old: &Value) {
        fold_string_data(new);
    }

    fn validate_object(&self, secret: &Value, errors: &mut Errors) {
        let path = Path::new("data");
        let mut bytes = 0;
        for (key, value) in entries(secret, "data") {
            errors.invalid_each(&path.key(key), &json!(key), validation::config_map_key(key));
            bytes += decoded_len(value);
        }
        if bytes > DATA_BYTES_MAX {
            errors.too_long(&path, DATA_BYTES_MAX);
        }
        of_type(secret, &path, errors);
    }

    fn validate_object_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        errors.immutable(&Path::new("type"), at(new, "type"), at(old, "type"));
        immutable(new, old, &["data"], errors);
        self.validate_object(new, errors);
    }

    fn fields(&self, secret: &Value) -> Vec<(&'static str, String)> {
        vec![("type", string(secret, "type").to_owned())]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Type", "What the secret is used for."),
                Column::integer("Data", "How many keys the secret has."),
                Column::AGE,
            ]
        }
    }

    fn row(&self, secret: &Value, now: OffsetDateTime) -> Vec<Value> {
        named(secret, now, [json!(string(secret, "type")), json!(entries(secret, "data").count())])
    }
}

/// `stringData` is write-only: its values go into `data`, over what is there.
fn fold_string_data(secret: &mut Value) {
    let texts: Vec<(String, Value)> = entries(secret, "stringData")
        .map(|(key, value)| (key.clone(), json!(STANDARD.encode(value.as_str().unwrap_or("")))))
        .collect();
    remove(secret, "stringData");
    if !texts.is_empty() {
        object_mut(secret, "data").extend(texts);
    }
}

fn of_type(secret: &Value, path: &Path, errors: &mut Errors) {
    let data = at(secret, "data");
    let mut require = |key: &str| {
        if data.get(key).is_none() {
            errors.required(&path.key(key), "");
        }
    };
    match string(secret, "type") {
        "kubernetes.io/service-account-token"
            if at(secret, "metadata.annotations")
                .get(ACCOUNT_NAME)
                .and_then(Value::as_str)
                .unwrap_or("")
                .is_empty() =>
        {
            errors.required(&Path::new("metadata").child("annotations").key(ACCOUNT_NAME), "");
        }
        "kubernetes.io/dockercfg" => docker_config(data, ".dockercfg", path, errors),
        "kubernetes.io/dockerconfigjson" => docker_config(data, ".dockerconfigjson", path, errors),
        "kubernetes.io/basic-auth" if data.get("username").is_none() && data.get("password").is_none() => {
            require("username");
            require("password");
        }
        "kubernetes.io/ssh-auth" if data["ssh-privatekey"] == "" => errors.required(&path.key("ssh-privatekey"), ""),
        "kubernetes.io/ssh-auth" => require("ssh-privatekey"),
        "kubernetes.io/tls" => {
            require("tls.crt");
            require("tls.key");
        }
        _ => {}
    }
}

fn docker_config(data: &Value, key: &str, path: &Path, errors: &mut Errors) {
    let path = path.key(key);
    let Some(text) = data.get(key).and_then(Value::as_str) else {
        errors.required(&path, "");
        return;
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    if let Err(error) = xebec_machinery::json::check_object(&bytes) {
        errors.invalid(&path, "<secret contents redacted>", error.to_string());
    }
}
