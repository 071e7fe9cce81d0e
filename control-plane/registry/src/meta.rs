//! Validation of metadata, as `apimachinery/pkg/api/validation/objectmeta.go`.

use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::validation;

use crate::errors::Errors;
use crate::strategy::Scope;
use crate::value::{at, boolean, entries, integer, is_set, items, keep, string, strings};

pub const CREATED_AT: &str =
    "CreationTimestamp is the time at which the server created this object, in RFC3339 form and UTC.";

const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

pub fn name(object: &Value) -> &str {
    string(object, "metadata.name")
}

pub fn namespace(object: &Value) -> &str {
    string(object, "metadata.namespace")
}

/// A generateName may end in a dash, since something follows it (`maskTrailingDash`).
pub fn mask_trailing_dash(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => name.to_owned(),
    }
}

/// `ValidateObjectMeta`.
pub fn validate(object: &Value, scope: Scope, name_errors: impl Fn(&str, bool) -> Vec<String>, errors: &mut Errors) {
    let path = Path::new("metadata");
    let generate_name = string(object, "metadata.generateName");
    if !generate_name.is_empty() {
        errors.invalid_each(&path.child("generateName"), &json!(generate_name), name_errors(generate_name, true));
    }
    match name(object) {
        "" => errors.required(&path.child("name"), "name or generateName is required"),
        name => errors.invalid_each(&path.child("name"), &json!(name), name_errors(name, false)),
    }
    match (scope, namespace(object)) {
        (Scope::Namespaced, "") => errors.required(&path.child("namespace"), ""),
        (Scope::Namespaced, namespace) => {
            errors.invalid_each(&path.child("namespace"), &json!(namespace), validation::dns1123_label(namespace));
        }
        (Scope::Cluster, "") => {}
        (Scope::Cluster, _) => errors.forbidden(&path.child("namespace"), "not allowed on this type"),
    }
    if let Some(generation) = integer(object, "metadata.generation").filter(|generation| *generation < 0) {
        errors.invalid(&path.child("generation"), generation, "must be greater than or equal to 0");
    }
    common(object, &path, errors);
}

/// `ValidateObjectMetaUpdate`.
// Whoever calls checks `resourceVersion`: a store keeps objects without it.
pub fn validate_update(new: &Value, old: &Value, _scope: Scope, errors: &mut Errors) {
    let path = Path::new("metadata");
    if is_set(old, "metadata.deletionTimestamp") {
        let extra: Vec<&str> = strings(new, "metadata.finalizers")
            .filter(|f| !strings(old, "metadata.finalizers").any(|o| o == *f))
            .collect();
        if !extra.is_empty() {
            let list = extra.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            );
            errors.forbidden(&path.child("finalizers"), detail);
        }
    }
    let generation = |object| integer(object, "metadata.generation").unwrap_or(0);
    if generation(new) < generation(old) {
        errors.invalid(&path.child("generation"), generation(new), "must not be decremented");
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (at(at(new, "metadata"), field), at(at(old, "metadata"), field));
        if new.as_str().unwrap_or("") != old.as_str().unwrap_or("") || new.as_i64() != old.as_i64() {
            errors.invalid(&path.child(field), new.clone(), "field is immutable");
        }
    }
    common(new, &path, errors);
}

/// What a status update may not change: labels and most other metadata stay as stored (`ResetObjectMetaForStatus`).
pub fn keep_for_status(new: &mut Value, old: &Value) {
    for field in
        ["deletionTimestamp", "generation", "selfLink", "labels", "annotations", "finalizers", "ownerReferences"]
    {
        keep(new, old, &format!("metadata.{field}"));
    }
}

/// Labels anywhere: `v1validation.ValidateLabels`.
pub fn labels(labels: &Value, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.invalid_each(path, &json!(key), validation::qualified_name(key));
        let value = value.as_str().unwrap_or("");
        errors.invalid_each(path, &json!(value), validation::label_value(value));
    }
}

/// `metav1.LabelSelector`: `v1validation.ValidateLabelSelector`.
pub fn label_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    if selector.is_null() {
        return;
    }
    labels(at(selector, "matchLabels"), &path.child("matchLabels"), errors);
    for (index, requirement) in items(selector, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = items(requirement, "values");
        match string(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            operator => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
        let key = string(requirement, "key");
        errors.invalid_each(&path.child("key"), &json!(key), validation::qualified_name(key));
        for (index, value) in values.iter().enumerate() {
            errors.invalid_each(
                &path.child("values").index(index),
                value,
                validation::label_value(value.as_str().unwrap_or("")),
            );
        }
    }
}

/// Annotations anywhere: `ValidateAnnotations`.
pub fn annotations(annotations: &Value, path: &Path, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        errors.invalid_each(path, &json!(key), validation::qualified_name(&key.to_lowercase()));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

/// `metav1.Condition`s: `v1validation.ValidateConditions`.
pub fn conditions(status: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, condition) in items(status, "conditions").iter().enumerate() {
        let path = path.index(index);
        let kind = string(condition, "type");
        if seen.contains(&kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        seen.push(kind);
        errors.invalid_each(&path.child("type"), &json!(kind), validation::qualified_name(kind));
        let state = string(condition, "status");
        if !["True", "False", "Unknown"].contains(&state) {
            errors.not_supported(&path.child("status"), state, &["False", "True", "Unknown"]);
        }
        if let Some(generation) = integer(condition, "observedGeneration").filter(|generation| *generation < 0) {
            let detail = "must be greater than or equal to zero";
            errors.invalid(&path.child("observedGeneration"), generation, detail);
        }
        if !is_set(condition, "lastTransitionTime") {
            errors.required(&path.child("lastTransitionTime"), "must be set");
        }
        if string(condition, "reason").is_empty() {
            errors.required(&path.child("reason"), "must be set");
        }
    }
}

fn common(object: &Value, path: &Path, errors: &mut Errors) {
    labels(at(object, "metadata.labels"), &path.child("labels"), errors);
    annotations(at(object, "metadata.annotations"), &path.child("annotations"), errors);
    owner_references(object, &path.child("ownerReferences"), errors);
    finalizers(object, &path.child("finalizers"), errors);
}

fn owner_references(object: &Value, path: &Path, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for reference in items(object, "metadata.ownerReferences") {
        let api_version = string(reference, "apiVersion");
        let version = api_version.rsplit('/').next().unwrap_or("");
        if version.is_empty() {
            errors.invalid(&path.child("apiVersion"), api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if string(reference, field).is_empty() {
                errors.invalid(&path.child(field), "", "must not be empty");
            }
        }
        if api_version == "v1" && string(reference, "kind") == "Event" {
            errors.invalid(path, reference.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if boolean(reference, "controller") {
            let current = format!("{}/{}", string(reference, "kind"), string(reference, "name"));
            match &controller {
                None => controller = Some(current),
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {current}"
                    );
                    errors.invalid(path, at(object, "metadata.ownerReferences").clone(), detail);
                }
            }
        }
    }
}

fn finalizers(object: &Value, path: &Path, errors: &mut Errors) {
    let list: Vec<&str> = strings(object, "metadata.finalizers").collect();
    for finalizer in &list {
        errors.invalid_each(path, &json!(finalizer), validation::qualified_name(finalizer));
        // `validateKubeFinalizerName` (core kinds): a name without a domain must be one of the standard ones.
        if !finalizer.contains('/') && ![ORPHAN, FOREGROUND, "kubernetes"].contains(finalizer) {
            errors.invalid(path, *finalizer, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
    if list.contains(&ORPHAN) && list.contains(&FOREGROUND) {
        errors.invalid(path, json!(list), format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set"));
    }
}

/// The controller reference of an object.
pub fn controller(object: &Value) -> Option<&Value> {
    items(object, "metadata.ownerReferences").iter().find(|reference| boolean(reference, "controller"))
}

/// Labels as kubectl prints a selector: `a=b,c=d` or `<none>`.
pub fn format_labels(labels: &Value) -> String {
    let pairs: Vec<String> =
        entries(&json!({"l": labels}), "l").map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// Addresses as narrow tables show them: sixteen characters at most (`loadBalancerWidth`).
pub fn clip(text: &str) -> String {
    const WIDTH: usize = 16;
    match text.get(..WIDTH - 3) {
        Some(head) if text.len() > WIDTH => format!("{head}..."),
        _ => text.to_owned(),
    }
}

/// `metav1.FormatLabelSelector`.
pub fn format_selector(selector: &Value) -> String {
    if selector.is_null() {
        return "<none>".to_owned();
    }
    let mut terms: Vec<(String, String)> = entries(selector, "matchLabels")
        .map(|(key, value)| (key.clone(), format!("{key}={}", value.as_str().unwrap_or(""))))
        .collect();
    for requirement in items(selector, "matchExpressions") {
        let key = string(requirement, "key");
        let mut values: Vec<&str> = strings(requirement, "values").collect();
        values.sort_unstable();
        let text = match string(requirement, "operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), text));
    }
    if terms.is_empty() {
        return "<none>".to_owned();
    }
    terms.sort();
    terms.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
