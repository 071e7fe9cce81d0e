//! A list of field errors under construction.

use serde_json::Value;
use xebec_machinery::field::{Error, Path};

/// Collects what validation finds; each method names the kind of error as upstream's `field` package does.
#[derive(Default, Debug)]
pub struct Errors(pub Vec<Error>);

impl Errors {
    pub fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.0.push(Error::required(path, detail));
    }

    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.0.push(Error::invalid(path, value, detail));
    }

    /// `field.OmitValueType`: the message alone says what is wrong.
    pub fn invalid_whole(&mut self, path: &Path, detail: impl Into<String>) {
        self.0.push(Error { value: None, ..Error::invalid(path, Value::Null, detail) });
    }

    /// One `invalid` per message.
    pub fn invalid_each<M: Into<String>>(&mut self, path: &Path, value: &Value, messages: impl IntoIterator<Item = M>) {
        self.0.extend(messages.into_iter().map(|message| Error::invalid(path, value.clone(), message)));
    }

    pub fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        self.0.push(Error::not_supported(path, value, supported));
    }

    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.0.push(Error::duplicate(path, value));
    }

    pub fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.0.push(Error::forbidden(path, detail));
    }

    pub fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.0.push(Error::not_found(path, value));
    }

    pub fn too_long(&mut self, path: &Path, max_bytes: usize) {
        self.0.push(Error::too_long(path, max_bytes));
    }

    pub fn too_many(&mut self, path: &Path, actual: usize, max: usize) {
        self.0.push(Error::too_many(path, actual, max));
    }

    /// Upstream's `validateEnum` idiom: required when empty, unsupported when unknown.
    pub fn one_of(&mut self, path: &Path, value: &str, supported: &[&str]) {
        if value.is_empty() {
            self.required(path, "");
        } else if !supported.contains(&value) {
            self.not_supported(path, value, supported);
        }
    }

    /// `ValidateImmutableField`.
    pub fn immutable(&mut self, path: &Path, new: &Value, old: &Value) {
        if !crate::value::same(new, old) {
            self.invalid(path, new.clone(), "field is immutable");
        }
    }
}
