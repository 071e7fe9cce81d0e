//! A custom resource: one served version of a definition, and how its objects behave.

use std::sync::OnceLock;

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::field::{Error, ErrorKind, Path};
use xebec_machinery::object;
use xebec_registry::errors::Errors;
use xebec_registry::meta;
use xebec_registry::strategy::{Context, Fields, SPEC_AND_METADATA, Scope, Strategy};
use xebec_registry::value::{at, boolean, entries, items, same, string, strings};
use xebec_schema::{Resource as Row, Subresource};

use crate::cel::{self, Budget};
use crate::columns::Columns;
use crate::definition::conditions;
use crate::jsonpath::JsonPath;
use crate::schema::Schema;
use crate::view::View;
use crate::{decode, default, intern, prune, validate};

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const PART: &[&str] = &["get", "patch", "update"];
const STATUS: Subresource = Subresource { name: "status", gvk: None, verbs: PART };
const SCALE: Subresource = Subresource { name: "scale", gvk: Some(("autoscaling", "v1", "Scale")), verbs: PART };

/// `subresources.scale`.
#[derive(Debug)]
pub struct Scale {
    pub spec_replicas: JsonPath,
    pub status_replicas: JsonPath,
    pub selector: Option<JsonPath>,
}

/// A schema that is compiled when it is first needed.
#[derive(Debug)]
struct Lazy {
    raw: Value,
    compiled: OnceLock<Schema>,
}

impl Lazy {
    fn new(version: &Value) -> Self {
        Self { raw: at(version, "schema.openAPIV3Schema").clone(), compiled: OnceLock::new() }
    }

    fn get(&self) -> &Schema {
        self.compiled.get_or_init(|| Schema::compile(&self.raw))
    }
}

#[derive(Debug)]
pub struct CustomResource {
    pub row: Row,
    /// The definition that it comes from, and which state of it.
    pub definition: String,
    pub uid: String,
    pub generation: i64,
    /// Objects written after this revision were written under this very schema, in this very version.
    as_written_after: Option<u64>,
    pub terminating: bool,
    pub scale: Option<Scale>,
    pub list_kind: String,
    /// What clients of a deprecated version are told.
    pub deprecation: Option<String>,
    /// Differs whenever anything does that a client could see.
    pub fingerprint: u64,
    storage_version: String,
    schema: Lazy,
    storage_schema: Option<Lazy>,
    columns: OnceLock<Columns>,
    version: Value,
    selectable: Vec<(&'static str, Vec<String>)>,
}

impl CustomResource {
    /// Every served version of a definition that the store has at `revision`.
    pub fn served(definition: &Value, fingerprint: u64, revision: u64) -> Vec<Self> {
        let definition = conditions::with_accepted_names(definition);
        let served = served_versions(&definition);
        served.map(|version| Self::new(&definition, version, fingerprint, revision)).collect()
    }

    fn new(definition: &Value, version: &Value, fingerprint: u64, revision: u64) -> Self {
        let row = row(definition, version);
        let storage = items(definition, "spec.versions").iter().find(|v| boolean(v, "storage")).unwrap_or(version);
        let same_version = string(storage, "name") == row.version;
        // With other versions around, objects may have been written by other rules.
        let only = items(definition, "spec.versions").len() == 1
            && strings(definition, "status.storedVersions").all(|stored| stored == row.version);
        let path = |name: &str| JsonPath::parse(string(version, &format!("subresources.scale.{name}"))).ok();
        let scale = at(version, "subresources.scale").is_object().then(|| {
            let selector = Some(path("labelSelectorPath")?).filter(|p| p.names().is_some_and(|n| !n.is_empty()));
            Some(Scale {
                spec_replicas: path("specReplicasPath")?,
                status_replicas: path("statusReplicasPath")?,
                selector,
            })
        });
        let api_version = row.api_version();
        let deprecation = boolean(version, "deprecated").then(|| match string(version, "deprecationWarning") {
            "" => format!("{api_version} {} is deprecated", row.kind),
            text => text.to_owned(),
        });
        Self {
            definition: meta::name(definition).to_owned(),
            uid: object::uid(definition).to_owned(),
            generation: object::generation(definition),
            as_written_after: only.then_some(revision),
            terminating: object::deletion_timestamp(definition).is_some(),
            scale: scale.flatten(),
            fingerprint,
            list_kind: string(definition, "spec.names.listKind").to_owned(),
            deprecation,
            storage_version: format!("{}/{}", row.group, string(storage, "name")),
            schema: Lazy::new(version),
            storage_schema: (!same_version).then(|| Lazy::new(storage)),
            columns: OnceLock::new(),
            version: version.clone(),
            selectable: selectable(version),
            row,
        }
    }

    pub fn schema(&self) -> &Schema {
        self.schema.get()
    }

    /// The schema as it was declared.
    pub fn declared_schema(&self) -> &Value {
        &self.schema.raw
    }

    /// The type of its objects, for patches.
    pub fn patch_schema(&self) -> View<'_> {
        View::Root(self.schema())
    }

    /// Whether an object written at `revision` is stored exactly as this version shows it.
    pub fn shows_as_stored(&self, revision: u64) -> bool {
        self.as_written_after.is_some_and(|after| revision > after)
    }

    /// Checks what a client sent, makes it canonical and answers its unknown fields, worded as the strict decoder does.
    pub fn decode(&self, value: &mut Value) -> Result<Vec<String>, String> {
        decode::check(value, self.schema())
    }

    /// A stored object in this version.
    pub fn shown(&self, mut value: Value) -> Value {
        object::set_type(&mut value, &self.row.api_version(), self.row.kind);
        // What the schema forbids now may have been allowed when the object was written.
        _ = prune::prune(&mut value, self.schema());
        prune::prune_nulls(&mut value, self.schema());
        default::apply(&mut value, self.schema());
        if object::generation(&value) == 0 {
            object::set_generation(&mut value, 1);
        }
        value
    }

    /// An object of this version in the version that is stored; none if that is the same.
    pub fn stored(&self, value: &Value) -> Option<Value> {
        let schema = self.storage_schema.as_ref()?;
        let mut value = value.clone();
        object::set_type(&mut value, &self.storage_version, self.row.kind);
        _ = prune::prune(&mut value, schema.get());
        Some(value)
    }

    pub fn columns(&self) -> &Columns {
        self.columns.get_or_init(|| Columns::new(&self.version))
    }

    /// Whether validation runs CEL.
    pub fn has_rules(&self) -> bool {
        self.schema().has_rules
    }

    fn has(&self, subresource: &str) -> bool {
        self.row.subresource(subresource).is_some()
    }

    /// Errors of a new state of an object, apart from its metadata.
    fn content_errors(&self, new: &Value, old: Option<&Value>) -> Vec<Error> {
        let schema = self.schema();
        let mut errors = validate::check(new, old, schema);
        errors.extend(validate::identities(new, old, schema));
        let blocks = |e: &Error| {
            matches!(e.kind, ErrorKind::Required | ErrorKind::TooLong | ErrorKind::TooMany | ErrorKind::TypeInvalid)
        };
        if !schema.has_rules {
            return errors;
        }
        if errors.iter().any(blocks) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(Error::invalid(&Path::root(), Value::Null, why));
        } else {
            errors.extend(cel::check(new, old, schema, &Budget::new()));
        }
        errors
    }

    /// What metadata may say. Finalizers of custom resources need no domain.
    fn metadata_errors(errors: Errors) -> Vec<Error> {
        let of_core = "name is neither a standard finalizer name nor is it fully qualified";
        errors.0.into_iter().filter(|error| error.detail != of_core).collect()
    }
}

/// Differs whenever what a definition serves does (FNV-1a).
pub fn fingerprint(definition: &Value) -> u64 {
    let metadata = [object::uid(definition), object::deletion_timestamp(definition).unwrap_or_default()].join("/");
    let status = [at(definition, "status.storedVersions"), at(definition, "status.acceptedNames")];
    let text = format!("{metadata}{}{}{}", at(definition, "spec"), status[0], status[1]);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn served_versions(definition: &Value) -> impl Iterator<Item = &Value> {
    items(definition, "spec.versions").iter().filter(|version| boolean(version, "served"))
}

fn row(definition: &Value, version: &Value) -> Row {
    let names = at(definition, "spec.names");
    let status = at(version, "subresources.status").is_object();
    let scale = at(version, "subresources.scale").is_object();
    Row {
        group: intern::text(string(definition, "spec.group")),
        version: intern::text(string(version, "name")),
        kind: intern::text(string(names, "kind")),
        plural: intern::text(string(names, "plural")),
        singular: intern::text(string(names, "singular")),
        short_names: intern::list(strings(names, "shortNames")),
        categories: intern::list(strings(names, "categories")),
        namespaced: string(definition, "spec.scope") == "Namespaced",
        verbs: VERBS,
        subresources: match (scale, status) {
            (true, true) => &[SCALE, STATUS],
            (true, false) => &[SCALE],
            (false, true) => &[STATUS],
            (false, false) => &[],
        },
        // All that every object has; the rest is the schema's.
        def: decode::metadata_only(),
    }
}

fn selectable(version: &Value) -> Vec<(&'static str, Vec<String>)> {
    let fields = items(version, "selectableFields").iter().filter_map(|field| {
        let path = string(field, "jsonPath");
        let names = JsonPath::parse(path).ok()?.names()?.into_iter().map(str::to_owned).collect();
        Some((intern::text(path.trim_start_matches('.')), names))
    });
    fields.collect()
}

impl Strategy for CustomResource {
    fn scope(&self) -> Scope {
        if self.row.namespaced { Scope::Namespaced } else { Scope::Cluster }
    }

    fn default(&self, object: &mut Value) {
        default::apply(object, self.schema());
    }

    fn prepare_for_create(&self, _context: &Context, new: &mut Value) {
        if let (true, Value::Object(map)) = (self.has("status"), new) {
            map.remove("status");
        }
    }

    fn has_status(&self) -> bool {
        self.has("status")
    }

    fn validate(&self, new: &Value) -> Vec<Error> {
        let mut errors = Errors::default();
        meta::validate(new, self.scope(), |name, prefix| self.name_errors(name, prefix), &mut errors);
        let mut errors = Self::metadata_errors(errors);
        errors.extend(self.content_errors(new, None));
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<Error> {
        let mut errors = Errors::default();
        meta::validate_update(new, old, self.scope(), &mut errors);
        let mut errors = Self::metadata_errors(errors);
        errors.extend(self.content_errors(new, Some(old)));
        errors
    }

    fn prepare_for_status_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        let mut kept = old.clone();
        if let (Value::Object(kept), Value::Object(new)) = (&mut kept, &mut *new) {
            match new.remove("status") {
                Some(status) => _ = kept.insert("status".into(), status),
                None => _ = kept.remove("status"),
            }
        }
        let metadata = object::metadata_mut(&mut kept);
        for field in ["managedFields", "resourceVersion"] {
            match new.pointer(&format!("/metadata/{field}")) {
                Some(value) => _ = metadata.insert(field.into(), value.clone()),
                None => _ = metadata.remove(field),
            }
        }
        *new = kept;
    }

    fn status_resets(&self) -> Fields {
        SPEC_AND_METADATA
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<Error> {
        self.validate_update(new, old)
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// Everything counts but metadata, and the status if it has a path of its own.
    fn spec_changed(&self, new: &Value, old: &Value) -> bool {
        let content = |object: &Value| {
            let skipped = |name: &str| name == "metadata" || (name == "status" && self.has("status"));
            let fields = object.as_object().into_iter().flatten().filter(|(name, _)| !skipped(name));
            Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
        };
        !same(&content(new), &content(old))
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let value = |path: &[String]| path.iter().try_fold(object, |value, name| value.get(name.as_str()));
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        self.selectable.iter().map(|(name, path)| (*name, value(path).map(text).unwrap_or_default())).collect()
    }

    fn column_definitions(&self) -> Vec<Value> {
        self.columns().definitions()
    }

    fn row(&self, object: &Value, now: OffsetDateTime) -> Vec<Value> {
        self.columns().row(object, now)
    }
}

/// The `autoscaling/v1` Scale of an object; an error names a path that should hold a number.
pub fn scale_of(resource: &CustomResource, object: &Value) -> Option<Value> {
    let paths = resource.scale.as_ref()?;
    let count = |path: &JsonPath| path.first(object).and_then(Value::as_i64);
    let selector = paths.selector.as_ref().and_then(|path| path.first(object)).and_then(Value::as_str).unwrap_or("");
    let fields = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    let metadata: serde_json::Map<String, Value> = entries(object, "metadata")
        .filter(|(name, _)| fields.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {}, "status": { "replicas": count(&paths.status_replicas).unwrap_or(0) },
    });
    if let Some(replicas) = count(&paths.spec_replicas).filter(|n| *n != 0) {
        scale["spec"]["replicas"] = replicas.into();
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    Some(scale)
}
