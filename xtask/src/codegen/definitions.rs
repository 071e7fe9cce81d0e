//! OpenAPI definitions, and the lines of the table they become. `api/schema/src/table.rs` says how a line reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use super::proto::{Message, Messages, normal};

/// Definitions by full name.
pub type Definitions = BTreeMap<String, Value>;

/// Every definition of a stable version.
pub fn parse(document: &Value) -> Result<Definitions> {
    let all = document["$defs"].as_object().context("the document has $defs")?;
    let stable = |name: &str| !name.contains(".v1alpha") && !name.contains("beta");
    let mut found: Definitions =
        all.iter().filter(|(name, _)| stable(name)).map(|(name, def)| (name.clone(), def.clone())).collect();
    // Never in the OpenAPI document as definitions of their own, though clients send and receive them.
    found.extend(EXTRA.iter().map(|(name, fields)| ((*name).to_owned(), definition(name, fields, Some(("", "v1"))))));
    let kind = |name: &str| (!name.ends_with(".ContainerMetrics")).then_some(("metrics.k8s.io", "v1beta1"));
    found.extend(METRICS.iter().map(|(name, fields)| ((*name).to_owned(), definition(name, fields, kind(name)))));
    Ok(found)
}

type Properties = &'static [(&'static str, &'static str)];

/// A definition as the document would have it; `of` is the group and version of one that stands alone.
fn definition(name: &str, fields: Properties, of: Option<(&str, &str)>) -> Value {
    let properties =
        fields.iter().map(|(field, ty)| ((*field).to_owned(), serde_json::from_str(ty).unwrap_or_default()));
    let properties: serde_json::Map<_, _> = properties.collect();
    let mut definition = serde_json::json!({"properties": properties});
    if let Some((group, version)) = of {
        let kind = name.rsplit('.').next();
        definition["x-kubernetes-group-version-kind"] =
            serde_json::json!([{"group": group, "version": version, "kind": kind}]);
    }
    definition
}

const EXTRA: [(&str, Properties); 3] = [
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
        &[
            ("apiVersion", r#"{"type": "string"}"#),
            ("kind", r#"{"type": "string"}"#),
            ("metadata", r##"{"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}"##),
        ],
    ),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
        &[
            ("apiVersion", r#"{"type": "string"}"#),
            ("kind", r#"{"type": "string"}"#),
            ("metadata", r##"{"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"}"##),
            (
                "items",
                r##"{"type": "array", "items": {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata"}}"##,
            ),
        ],
    ),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.List",
        &[
            ("apiVersion", r#"{"type": "string"}"#),
            ("kind", r#"{"type": "string"}"#),
            ("metadata", r##"{"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"}"##),
            (
                "items",
                r##"{"type": "array", "items": {"$ref": "#/$defs/io.k8s.apimachinery.pkg.runtime.RawExtension"}}"##,
            ),
        ],
    ),
];

const METADATA: (&str, &str) = ("metadata", r##"{"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}"##);
const LIST_METADATA: (&str, &str) =
    ("metadata", r##"{"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"}"##);
const TIMESTAMP: (&str, &str) = ("timestamp", r##"{"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.Time"}"##);
const USAGE: (&str, &str) = (
    "usage",
    r##"{"type": "object", "additionalProperties": {"$ref": "#/$defs/io.k8s.apimachinery.pkg.api.resource.Quantity"}}"##,
);
const STRING: &str = r#"{"type": "string"}"#;

/// The resource metrics API (`k8s.io/metrics`): an API server of its own upstream, so no part of the document.
const METRICS: [(&str, Properties); 5] = [
    ("io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics", &[("name", STRING), USAGE]),
    (
        "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
        &[("apiVersion", STRING), ("kind", STRING), METADATA, TIMESTAMP, USAGE, ("window", STRING)],
    ),
    (
        "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetricsList",
        &[
            ("apiVersion", STRING),
            (
                "items",
                r##"{"type": "array", "items": {"$ref": "#/$defs/io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics"}}"##,
            ),
            ("kind", STRING),
            LIST_METADATA,
        ],
    ),
    (
        "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
        &[
            ("apiVersion", STRING),
            (
                "containers",
                r##"{"type": "array", "items": {"$ref": "#/$defs/io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics"}}"##,
            ),
            ("kind", STRING),
            METADATA,
            TIMESTAMP,
            ("window", STRING),
        ],
    ),
    (
        "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetricsList",
        &[
            ("apiVersion", STRING),
            (
                "items",
                r##"{"type": "array", "items": {"$ref": "#/$defs/io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics"}}"##,
            ),
            ("kind", STRING),
            LIST_METADATA,
        ],
    ),
];

/// Types that have a code of their own instead of fields.
fn scalar(name: &str) -> Option<&'static str> {
    Some(match name.rsplit('.').next()? {
        "Quantity" => "q",
        "IntOrString" => "x",
        "Time" => "t",
        "MicroTime" => "u",
        "RawExtension" => "R",
        "FieldsV1" => "F",
        "JSON" => "J",
        "JSONSchemaPropsOrArray" => "|[.JSONSchemaProps",
        "JSONSchemaPropsOrBool" => "|b.JSONSchemaProps",
        "JSONSchemaPropsOrStringArray" => "|s.JSONSchemaProps",
        "Patch" => "a",
        _ => return None,
    })
}

pub fn table(definitions: &Definitions, messages: &Messages) -> (String, Vec<String>) {
    let mut writer = Writer { out: String::new(), notes: Vec::new(), messages, package: String::new() };
    for (name, definition) in definitions.iter().filter(|(name, _)| scalar(name).is_none()) {
        writer.definition(name, definition);
    }
    (writer.out, writer.notes)
}

struct Writer<'a> {
    out: String,
    notes: Vec<String>,
    messages: &'a Messages,
    package: String,
}

/// Strings of a JSON array.
fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

impl Writer<'_> {
    fn definition(&mut self, full: &str, definition: &Value) {
        let (package, name) = full.rsplit_once('.').unwrap_or(("", full));
        if package != self.package {
            package.clone_into(&mut self.package);
            _ = writeln!(self.out, "package {package}");
        }
        _ = write!(self.out, "def {name}");
        if definition["x-kubernetes-map-type"] == "atomic" {
            self.out.push_str(" atomic");
        }
        if let Some([gvk, ..]) = definition["x-kubernetes-group-version-kind"].as_array().map(Vec::as_slice) {
            let part = |key: &str| gvk[key].as_str().unwrap_or_default();
            // DeleteOptions and WatchEvent belong to every group: they are named by the core group.
            let group = if package.ends_with(".meta.v1") { "" } else { part("group") };
            let version = if package.ends_with(".meta.v1") { "v1" } else { part("version") };
            _ = write!(self.out, " gvk={group}/{version}/{}", part("kind"));
        }
        self.out.push('\n');
        let Some(properties) = definition["properties"].as_object() else { return };
        let required: BTreeSet<&str> = strings(&definition["required"]).into_iter().collect();
        let tags = self.tags(full, properties.keys().map(String::as_str));
        for (field, property) in properties {
            let (path, wrapped) = tags.get(field.as_str()).cloned().unwrap_or_default();
            let ty = self.type_code(property, wrapped);
            _ = write!(self.out, " {field} {ty} {path}");
            if required.contains(field.as_str()) {
                self.out.push_str(" required");
            }
            self.attributes(property);
            if let Some((.., value)) = DEFAULTS.iter().find(|(def, of, _)| (*def, *of) == (full, field)) {
                _ = write!(self.out, " default={value}");
            }
            self.out.push('\n');
        }
    }

    fn attributes(&mut self, property: &Value) {
        match property["x-kubernetes-list-type"].as_str() {
            Some("map") => _ = write!(self.out, " map={}", strings(&property["x-kubernetes-list-map-keys"]).join(",")),
            Some("set") => self.out.push_str(" set"),
            // Lists are atomic unless something else is said.
            _ => {}
        }
        if property["x-kubernetes-map-type"] == "atomic" {
            self.out.push_str(" atomic");
        }
        let strategy = property["x-kubernetes-patch-strategy"].as_str().unwrap_or_default();
        if strategy.split(',').any(|s| s == "merge") {
            let key = property["x-kubernetes-patch-merge-key"].as_str().unwrap_or_default();
            _ = write!(self.out, " merge={key}");
        }
        if strategy.split(',').any(|s| s == "retainKeys") {
            self.out.push_str(" retain-keys");
        }
    }

    fn type_code(&self, property: &Value, wrapped: bool) -> String {
        if let Some(reference) = property["$ref"].as_str() {
            let name = reference.trim_start_matches("#/$defs/");
            return match (scalar(name), name.rsplit_once('.')) {
                (Some(code), _) => code.to_owned(),
                (None, Some((package, name))) if package == self.package => format!(".{name}"),
                _ => name.to_owned(),
            };
        }
        let ty = property["type"].as_str().or_else(|| property["type"][0].as_str()).unwrap_or_default();
        match (ty, property["format"].as_str()) {
            ("string", Some("byte")) => "y".into(),
            ("string", _) => "s".into(),
            ("boolean", _) => "b".into(),
            ("integer", Some("int64")) => "l".into(),
            ("integer", _) => "i".into(),
            ("number", _) => "f".into(),
            ("array", _) => format!("[{}", self.type_code(&property["items"], false)),
            ("object", _) if wrapped => "{e".into(),
            ("object", _) if property["additionalProperties"].is_object() => {
                format!("{{{}", self.type_code(&property["additionalProperties"], false))
            }
            _ => "a".into(),
        }
    }

    /// For each field its path of field numbers, and whether the values of a map are messages that wrap a list.
    fn tags<'f>(&mut self, full: &str, fields: impl Iterator<Item = &'f str>) -> BTreeMap<&'f str, (String, bool)> {
        let (package, name) = full.rsplit_once('.').unwrap_or(("", full));
        let package = package.trim_start_matches("io.k8s.").replace('.', "/").replace('-', "_");
        let Some(message) = self.messages.get(&format!("{package}/{}", normal(name))) else {
            self.notes.push(format!("no message for {full}"));
            return BTreeMap::new();
        };
        let mut found = BTreeMap::new();
        for field in fields {
            match find(message, &normal(field), self.messages, 0) {
                Some(hit) => _ = found.insert(field, hit),
                // Kind and version travel in the envelope.
                None if ["apiVersion", "kind"].contains(&field) => {}
                None => self.notes.push(format!("no field number for {full}.{field}")),
            }
        }
        found
    }
}

/// Finds a field in a message or, as Go embeds structs that protobuf nests, in its messages that no JSON field names.
fn find(message: &Message, name: &str, messages: &Messages, depth: usize) -> Option<(String, bool)> {
    if let Some(field) = message.get(name) {
        let wrapped = field.message.as_ref().is_some_and(|m| m.ends_with("/extravalue"));
        return Some((field.tag.to_string(), wrapped));
    }
    if depth == 2 {
        return None;
    }
    EMBEDDED.iter().filter_map(|outer| message.get(*outer)).find_map(|outer| {
        let (path, wrapped) = find(messages.get(outer.message.as_ref()?)?, name, messages, depth + 1)?;
        Some((format!("{}.{path}", outer.tag), wrapped))
    })
}

/// Defaults that upstream declares on the type; the definitions shipped do not carry them.
const DEFAULTS: [(&str, &str, &str); 2] =
    [("io.k8s.api.core.v1.ContainerPort", "protocol", "TCP"), ("io.k8s.api.core.v1.ServicePort", "protocol", "TCP")];

/// Fields that exist in protobuf only: the structs that Go embeds without a JSON name.
const EMBEDDED: [&str; 9] = [
    "deviceconfiguration",
    "ephemeralcontainercommon",
    "handler",
    "ingressrulevalue",
    "localobjectreference",
    "persistentvolumesource",
    "rule",
    "rulewithoperations",
    "volumesource",
];
