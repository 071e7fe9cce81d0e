//! The behaviour of a kind, as the generic pipeline asks for it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
pub use time::OffsetDateTime;
use xebec_machinery::field::Error;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::value::{at, items, keep, same, set, string};
use crate::{duration, meta};

/// Paths from an object's root.
pub type Fields = &'static [&'static [&'static str]];

/// Of kinds whose status subresource restores all else.
pub const SPEC_AND_METADATA: Fields = &[&["spec"], &["metadata"]];

/// Who asks, for what, and when.
#[derive(Clone, Debug)]
pub struct Context {
    pub user: UserInfo,
    pub now: OffsetDateTime,
}

impl Context {
    /// The time as API objects carry it, to the second.
    pub fn now_rfc3339(&self) -> String {
        duration::format(self.now)
    }
}

/// `authentication.k8s.io` UserInfo.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// `metav1.DeleteOptions`, as far as a strategy looks at it.
#[derive(Clone, Default, Debug)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
}

/// Whether an object goes at once or only gets a deletionTimestamp until something else finishes the deletion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grace {
    /// Remove now.
    None,
    /// Set `deletionTimestamp = now + seconds` and `deletionGracePeriodSeconds = seconds`; zero removes now.
    Seconds(i64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// `metav1.TableColumnDefinition`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: &'static str,
    pub format: &'static str,
    pub description: &'static str,
    pub priority: i32,
}

impl Column {
    pub const fn string(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "string", format: "", description, priority: 0 }
    }

    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "integer", format: "", description, priority: 0 }
    }

    /// Shown by `-o wide` only.
    pub const fn wide(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "string", format: "", description, priority: 1 }
    }

    pub const NAME: Self = Self {
        name: "Name",
        kind: "string",
        format: "name",
        description: "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically.",
        priority: 0,
    };

    pub const AGE: Self = Self::string(
        "Age",
        "CreationTimestamp is the time at which the server created this object, in RFC3339 form and UTC.",
    );
}

/// One kind's behaviour. The pipeline calls, for a create: `default`, (mutating admission), `prepare_for_create`, `validate`; for an update: `default`, (admission),
/// `prepare_for_update`, `validate_update`; for an update of the status subresource the `status` twins. Objects were decoded and type-checked before.
pub trait Strategy: Send + Sync {
    fn scope(&self) -> Scope {
        Scope::Namespaced
    }

    /// Why `name` cannot name an object of this kind; `prefix` for a generateName.
    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        let name = if prefix { meta::mask_trailing_dash(name) } else { name.to_owned() };
        validation::dns1123_subdomain(&name)
    }

    /// Defaults that the schema does not carry.
    fn default(&self, _object: &mut Value) {}

    /// Clears what a client cannot set on create (status), and fills in what the server decides.
    fn prepare_for_create(&self, _context: &Context, new: &mut Value) {
        if self.has_status() {
            set(new, "status", json!({}));
        }
    }

    /// Whether the kind has a status that only the status subresource writes.
    fn has_status(&self) -> bool {
        false
    }

    /// Field errors of an object to create: metadata, then [`Strategy::validate_object`].
    fn validate(&self, new: &Value) -> Vec<Error> {
        let mut errors = Errors::default();
        meta::validate(new, self.scope(), |name, prefix| self.name_errors(name, prefix), &mut errors);
        self.validate_object(new, &mut errors);
        errors.0
    }

    /// What is wrong with the object apart from its metadata.
    fn validate_object(&self, _new: &Value, _errors: &mut Errors) {}

    fn prepare_for_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        if self.has_status() {
            keep(new, old, "status");
        }
    }

    /// Field errors of an update: metadata, then [`Strategy::validate_object_update`].
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<Error> {
        let mut errors = Errors::default();
        meta::validate_update(new, old, self.scope(), &mut errors);
        self.validate_object_update(new, old, &mut errors);
        errors.0
    }

    fn validate_object_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_object(new, errors);
    }

    /// Restores what the status subresource does not write. Of metadata upstream restores nothing, but for a few kinds.
    fn prepare_for_status_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    /// The fields that it restores, which a write of the status does not come to own (upstream's `GetResetFields`).
    fn status_resets(&self) -> Fields {
        &[&["spec"]]
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<Error> {
        let mut errors = Errors::default();
        meta::validate_update(new, old, self.scope(), &mut errors);
        self.validate_status(new, old, &mut errors);
        errors.0
    }

    fn validate_status(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    /// Texts for the Warning header; `old` is none on create.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Whether `metadata.generation` counts the changes of this kind's spec.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether an update makes a new generation.
    fn spec_changed(&self, new: &Value, old: &Value) -> bool {
        !same(at(new, "spec"), at(old, "spec"))
    }

    /// Whether PUT of a name that does not exist creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without a resourceVersion overwrites whatever is there.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Field selector labels and their values; `metadata.name` and `metadata.namespace` always are.
    fn selectable_fields(&self, object: &Value) -> Vec<(String, String)> {
        let mut fields = vec![("metadata.name".to_owned(), meta::name(object).to_owned())];
        if self.scope() == Scope::Namespaced {
            fields.push(("metadata.namespace".to_owned(), meta::namespace(object).to_owned()));
        }
        fields.extend(self.fields(object).into_iter().map(|(name, value)| (name.to_owned(), value)));
        fields
    }

    /// The kind's own selectable fields.
    fn fields(&self, _object: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// How a DELETE of this object begins.
    fn graceful_delete(&self, _object: &Value, _options: &DeleteOptions) -> Grace {
        Grace::None
    }

    /// Whether a DELETE that says nothing of dependents leaves them behind, as the oldest kinds do (`DefaultGarbageCollectionPolicy`).
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// A text for the Warning header of a DELETE that says nothing of dependents.
    fn deletion_warning(&self) -> Option<&'static str> {
        None
    }

    /// Called when a DELETE leaves the object for a finalizer or a grace period, after the deletionTimestamp was set.
    fn prepare_for_deletion(&self, _context: &Context, _object: &mut Value) {}

    /// Whether something still has to finish before a deleted object may go.
    fn is_finalizing(&self, object: &Value) -> bool {
        !items(object, "metadata.finalizers").is_empty()
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("Created At", meta::CREATED_AT)] }
    }

    /// The columns as a Table carries them.
    fn column_definitions(&self) -> Vec<Value> {
        let definition = |c: &Column| json!({ "name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority });
        self.columns().iter().map(definition).collect()
    }

    /// What keeps an object whose deletion begins until its controller has done its part.
    fn deletion_finalizers(&self, _object: &Value) -> &'static [&'static str] {
        &[]
    }

    /// The cells of one object, in the order of [`Strategy::columns`].
    fn row(&self, object: &Value, _now: OffsetDateTime) -> Vec<Value> {
        vec![json!(meta::name(object)), at(object, "metadata.creationTimestamp").clone()]
    }
}

/// A kind without behaviour of its own.
pub struct Generic;

impl Strategy for Generic {}

/// The cells Name and Age, for kinds whose columns start and end with them.
pub fn named(object: &Value, now: OffsetDateTime, between: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let mut cells = vec![json!(meta::name(object))];
    cells.extend(between);
    cells.push(age(object, now));
    cells
}

/// The Age cell.
pub fn age(object: &Value, now: OffsetDateTime) -> Value {
    json!(duration::since(string(object, "metadata.creationTimestamp"), now))
}
