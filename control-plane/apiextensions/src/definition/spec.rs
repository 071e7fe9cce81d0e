//! What the spec of a definition may say (`apiextensions/validation/validation.go`).

use std::collections::HashSet;

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::validation;
use xebec_registry::errors::Errors;
use xebec_registry::meta;
use xebec_registry::value::{at, boolean, is_set, items, string};

use super::{conditions, schema};
use crate::jsonpath::JsonPath;
use crate::schema::{Schema, Type};

const APPROVED: &str = "api-approved.kubernetes.io";
const SELECTABLE_MAX: usize = 8;
/// An API of more versions than this is not meant.
const VERSIONS_MAX: usize = 128;

pub fn check(definition: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    let (plural, group) = (string(definition, "spec.names.plural"), string(definition, "spec.group"));
    if meta::name(definition) != format!("{plural}.{group}") {
        let name = Path::new("metadata").child("name");
        errors.invalid(&name, meta::name(definition), "must be spec.names.plural+\".\"+spec.group");
    }
    check_approval(definition, group, errors);
    check_group(group, &path.child("group"), errors);
    let scope = string(definition, "spec.scope");
    errors.one_of(&path.child("scope"), scope, &["Cluster", "Namespaced"]);
    if boolean(definition, "spec.preserveUnknownFields") {
        errors.invalid(&path.child("preserveUnknownFields"), true, "must be false");
    }
    check_versions(definition, old, &path.child("versions"), errors);
    let spec_names = at(definition, "spec.names");
    for field in ["plural", "singular", "kind", "listKind"] {
        if string(spec_names, field).is_empty() {
            errors.required(&path.child("names").child(field), "");
        }
    }
    names(spec_names, &path.child("names"), errors);
    check_conversion(at(definition, "spec.conversion"), &path.child("conversion"), errors);
}

/// Groups of Kubernetes are for what its reviewers approved.
fn check_approval(definition: &Value, group: &str, errors: &mut Errors) {
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|p| group == *p || group.ends_with(&format!(".{p}")));
    let approved = definition.pointer("/metadata/annotations").and_then(|a| a.get(APPROVED)).and_then(Value::as_str);
    if !protected {
        return;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVED);
    match approved {
        None | Some("") => errors.required(
            &path,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        ),
        Some(text) if text.starts_with("unapproved") || text.starts_with("https://") => {}
        Some(text) => errors.invalid(
            &path,
            text,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
        ),
    }
}

fn check_group(group: &str, path: &Path, errors: &mut Errors) {
    let messages = validation::dns1123_subdomain(group);
    if group.is_empty() {
        errors.required(path, "");
    } else if !messages.is_empty() {
        errors.invalid(path, group, messages.join(","));
    } else if !group.contains('.') {
        errors.invalid(path, group, "should be a domain with at least one dot");
    }
}

fn check_versions(definition: &Value, old: Option<&Value>, path: &Path, errors: &mut Errors) {
    let versions = items(definition, "spec.versions");
    if versions.len() > VERSIONS_MAX {
        return errors.too_many(path, versions.len(), VERSIONS_MAX);
    }
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        let messages = validation::dns1035_label(string(version, "name"));
        if !messages.is_empty() {
            errors.invalid(&path.child("name"), string(version, "name"), messages.join(","));
        }
        let before = old
            .and_then(|old| items(old, "spec.versions").iter().find(|v| string(v, "name") == string(version, "name")));
        check_version(version, before, &path, errors);
    }
    let all = || at(definition, "spec.versions").clone();
    let names: HashSet<&str> = versions.iter().map(|v| string(v, "name")).collect();
    if names.len() != versions.len() {
        errors.invalid(path, all(), "must contain unique version names");
    }
    if versions.iter().filter(|v| boolean(v, "storage")).count() != 1 {
        errors.invalid(path, all(), "must have exactly one version marked as storage version");
    }
}

fn check_version(version: &Value, before: Option<&Value>, path: &Path, errors: &mut Errors) {
    let warning = string(version, "deprecationWarning");
    if is_set(version, "deprecationWarning") {
        let path = path.child("deprecationWarning");
        if !boolean(version, "deprecated") {
            errors.invalid(&path, warning, "can only be set for deprecated versions");
        }
        if warning.len() > 256 {
            errors.invalid(&path, warning, "must be <= 256 characters long");
        }
        if warning.is_empty() {
            errors.invalid(&path, warning, "must not be an empty string");
        }
    }
    let raw = at(version, "schema.openAPIV3Schema");
    let schema_path = path.child("schema").child("openAPIV3Schema");
    if !raw.is_object() {
        errors.required(&schema_path, "schemas are required");
    } else {
        let before = before.map(|before| at(before, "schema.openAPIV3Schema"));
        if before != Some(raw) {
            schema::check(raw, before, &schema_path, errors);
        }
    }
    check_subresources(at(version, "subresources"), &path.child("subresources"), errors);
    for (index, column) in items(version, "additionalPrinterColumns").iter().enumerate() {
        check_column(column, &path.child("additionalPrinterColumns").index(index), errors);
    }
    check_selectable(version, raw, &path.child("selectableFields"), errors);
}

fn check_column(column: &Value, path: &Path, errors: &mut Errors) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    if string(column, "name").is_empty() {
        errors.required(&path.child("name"), "");
    }
    match string(column, "type") {
        "" => errors.required(&path.child("type"), &format!("must be one of {}", TYPES.join(","))[..]),
        kind if !TYPES.contains(&kind) => {
            errors.invalid(&path.child("type"), kind, format!("must be one of {}", TYPES.join(",")));
        }
        _ => {}
    }
    let format = string(column, "format");
    if !format.is_empty() && !FORMATS.contains(&format) {
        errors.invalid(&path.child("format"), format, format!("must be one of {}", FORMATS.join(",")));
    }
    match string(column, "jsonPath") {
        "" => errors.required(&path.child("JSONPath"), ""),
        text => {
            if let Err(why) = JsonPath::parse(text) {
                errors.invalid(&path.child("JSONPath"), text, why);
            }
        }
    }
}

fn check_subresources(subresources: &Value, path: &Path, errors: &mut Errors) {
    if !at(subresources, "scale").is_object() {
        return;
    }
    for (field, prefix, required) in [
        ("specReplicasPath", ".spec.", true),
        ("statusReplicasPath", ".status.", true),
        ("labelSelectorPath", "", false),
    ] {
        let (path, text) = (path.child("scale").child(field), string(subresources, &format!("scale.{field}")));
        let below = if prefix.is_empty() {
            text.starts_with(".spec.") || text.starts_with(".status.")
        } else {
            text.starts_with(prefix)
        };
        if text.is_empty() {
            if required {
                errors.required(&path, "");
            }
        } else if !text.starts_with('.') {
            errors.invalid(&path, text, "must be a simple json path starting with .");
        } else if !JsonPath::parse(text).is_ok_and(|p| p.names().is_some()) {
            errors.invalid(&path, text, "must be a simple json path with only field names");
        } else if !below {
            let parent = if prefix.is_empty() { "either .spec or .status" } else { prefix.trim_end_matches('.') };
            errors.invalid(&path, text, format!("should be a json path under {parent}"));
        }
    }
}

fn check_selectable(version: &Value, raw: &Value, path: &Path, errors: &mut Errors) {
    let fields = items(version, "selectableFields");
    if fields.len() > SELECTABLE_MAX {
        errors.too_many(path, fields.len(), SELECTABLE_MAX);
    }
    let compiled = Schema::compile(raw);
    let mut seen = HashSet::new();
    for (index, field) in fields.iter().enumerate() {
        let (path, text) = (path.index(index).child("jsonPath"), string(field, "jsonPath"));
        if text.is_empty() {
            errors.required(&path, "");
            continue;
        }
        if !seen.insert(text) {
            errors.duplicate(&path, text);
        }
        if let Err(why) = selectable_type(text, &compiled) {
            errors.invalid(&path, text, why);
        }
    }
}

fn selectable_type(text: &str, schema: &Schema) -> Result<(), String> {
    let invalid = |why: &str| format!("is an invalid path: {why}");
    if text.contains('[') {
        return Err(invalid("array notation is not allowed"));
    }
    let path = JsonPath::parse(text).map_err(|why| invalid(&why))?;
    let names = path.names().filter(|_| text.starts_with('.')).ok_or_else(|| invalid("expected [ or . but got: "))?;
    if names.first() == Some(&"metadata") {
        return Err("must not point to fields in metadata".into());
    }
    let mut at = schema;
    for name in names {
        at = at.properties.get(name).ok_or_else(|| invalid("does not refer to a valid field"))?;
    }
    match at.ty {
        Some(Type::String | Type::Boolean | Type::Integer) => Ok(()),
        _ => Err("must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.".into()),
    }
}

fn check_conversion(conversion: &Value, path: &Path, errors: &mut Errors) {
    let strategy = string(conversion, "strategy");
    match strategy {
        "" => errors.required(&path.child("strategy"), ""),
        "None" if is_set(conversion, "webhook") => {
            errors.forbidden(&path.child("webhook"), "should not be set when strategy is not set to Webhook");
        }
        "None" => {}
        "Webhook" => {
            errors.forbidden(&path.child("strategy"), "conversion webhooks are not supported by this server; use None")
        }
        other => errors.not_supported(&path.child("strategy"), other, &["None", "Webhook"]),
    }
}

/// `ValidateCustomResourceDefinitionNames`.
pub fn names(names: &Value, path: &Path, errors: &mut Errors) {
    for field in ["plural", "singular"] {
        label(string(names, field), &path.child(field), errors);
    }
    for field in ["kind", "listKind"] {
        let name = string(names, field);
        let messages = validation::dns1035_label(&name.to_lowercase());
        if !name.is_empty() && !messages.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", messages.join(","));
            errors.invalid(&path.child(field), name, why);
        }
    }
    let (kind, list_kind) = (string(names, "kind"), string(names, "listKind"));
    for field in ["shortNames", "categories"] {
        for (index, name) in items(names, field).iter().enumerate() {
            label(name.as_str().unwrap_or(" "), &path.child(field).index(index), errors);
        }
        if field == "shortNames" && !kind.is_empty() && kind == list_kind {
            errors.invalid(&path.child("listKind"), list_kind, "kind and listKind may not be the same");
        }
    }
}

fn label(name: &str, path: &Path, errors: &mut Errors) {
    let messages = validation::dns1035_label(name);
    if !name.is_empty() && !messages.is_empty() {
        errors.invalid(path, name, messages.join(","));
    }
}

/// What an update may not change.
pub fn check_update(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::new("spec");
    let mut immutable = |field: &str| {
        let path = field.split('.').fold(spec.clone(), |path, name| path.child(name));
        let field = format!("spec.{field}");
        let (new, old) = (at(new, &field), at(old, &field));
        if new != old {
            errors.invalid(&path, if new.is_null() { json!("") } else { new.clone() }, "field is immutable");
        }
    };
    if conditions::is_true(old, conditions::ESTABLISHED) {
        immutable("scope");
        immutable("names.kind");
    }
    immutable("group");
    immutable("names.plural");
}
