//! Definitions as JSON schemas: those asked for and all they refer to.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::Dialect;
use crate::describe::Descriptions;
use crate::{DefId, Definition, Field, ListType, Type, schema};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const FIELDS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

pub(super) struct Types {
    pub(super) dialect: Dialect,
    done: Map<String, Value>,
    queue: Vec<DefId>,
    /// The names of kinds that the table does not have.
    pub(super) extra: HashMap<(String, String, String), String>,
    descriptions: Descriptions,
}

impl Types {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            done: Map::new(),
            queue: Vec::new(),
            extra: HashMap::new(),
            descriptions: Descriptions::unpack(),
        }
    }

    /// A reference to a definition, which the document will then have.
    pub(super) fn reference(&mut self, def: DefId) -> Value {
        let name = schema().definition(def).full_name();
        let reference = self.dialect.reference(&name);
        if !self.done.contains_key(&name) {
            self.done.insert(name, Value::Null);
            self.queue.push(def);
        }
        reference
    }

    /// A reference to a kind, if it is known.
    pub(super) fn kind(&mut self, group: &str, version: &str, kind: &str) -> Option<Value> {
        if let Some(name) = self.extra.get(&(group.to_owned(), version.to_owned(), kind.to_owned())) {
            return Some(self.dialect.reference(name));
        }
        schema().kind(group, version, kind).map(|def| self.reference(def))
    }

    /// Adds a definition that is complete.
    pub(super) fn put(&mut self, name: &str, definition: Value) {
        self.done.insert(name.to_owned(), definition);
    }

    pub(super) fn patch(&mut self) -> Value {
        self.named(PATCH)
    }

    /// Every definition asked for, with what those refer to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some(def) = self.queue.pop() {
            let definition = schema().definition(def);
            let made = self.definition(definition);
            self.done.insert(definition.full_name(), made);
        }
        self.done
    }

    fn definition(&mut self, definition: &Definition) -> Value {
        let mut made = Map::new();
        let name = definition.full_name();
        if let Some(text) = self.descriptions.definition(&name) {
            made.insert("description".into(), text.into());
        }
        made.insert("type".into(), "object".into());
        let property = |field: &Field| (field.name.to_owned(), self.property(&name, field));
        let properties: Map<String, Value> = definition.fields.iter().map(property).collect();
        made.insert("properties".into(), properties.into());
        let required: Vec<&str> = definition.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
        if !required.is_empty() {
            made.insert("required".into(), required.into());
        }
        if definition.atomic {
            made.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        if let Some((group, version, kind)) = definition.gvk {
            let mut kinds = vec![json!({"group": group, "version": version, "kind": kind})];
            if ["DeleteOptions", "WatchEvent"].contains(&kind) {
                let others = schema().group_versions().into_iter().filter(|gv| !gv.group.is_empty());
                kinds.extend(others.map(|gv| json!({"group": gv.group, "version": gv.version, "kind": kind})));
            }
            made.insert("x-kubernetes-group-version-kind".into(), kinds.into());
        }
        made.into()
    }

    fn property(&mut self, owner: &str, field: &Field) -> Value {
        let mut made = match self.ty(field.ty) {
            // A reference may have no siblings in version 3.
            Value::Object(made) if made.contains_key("$ref") && self.dialect == Dialect::V3 => {
                Map::from_iter([("allOf".to_owned(), Value::Array(vec![made.into()]))])
            }
            Value::Object(made) => made,
            _ => Map::new(),
        };
        let mut set = |key: &str, value: Value| _ = made.insert(key.to_owned(), value);
        if let Some(text) = self.descriptions.field(owner, field.name) {
            set("description", text.into());
        }
        if let (Some(default), Dialect::V3) = (field.default, self.dialect) {
            set("default", default.into());
        }
        match field.list_type {
            ListType::Map(keys) => {
                set("x-kubernetes-list-type", "map".into());
                set("x-kubernetes-list-map-keys", keys.to_vec().into());
            }
            ListType::Set => set("x-kubernetes-list-type", "set".into()),
            ListType::Atomic if matches!(field.ty, Type::List(_)) => set("x-kubernetes-list-type", "atomic".into()),
            ListType::Atomic => {}
        }
        if field.atomic {
            set("x-kubernetes-map-type", "atomic".into());
        }
        let strategy = match (field.patch_merge_key, field.retain_keys) {
            (Some(_), true) => "merge,retainKeys",
            (Some(_), false) => "merge",
            (None, true) => "retainKeys",
            (None, false) => return made.into(),
        };
        set("x-kubernetes-patch-strategy", strategy.into());
        if let Some(key) = field.patch_merge_key.filter(|key| !key.is_empty()) {
            set("x-kubernetes-patch-merge-key", key.into());
        }
        made.into()
    }

    fn ty(&mut self, ty: Type) -> Value {
        match ty {
            Type::String => json!({"type": "string"}),
            Type::Bytes => json!({"type": "string", "format": "byte"}),
            Type::Bool => json!({"type": "boolean"}),
            Type::Int32 => json!({"type": "integer", "format": "int32"}),
            Type::Int64 => json!({"type": "integer", "format": "int64"}),
            Type::Double => json!({"type": "number", "format": "double"}),
            Type::Time => self.named(TIME),
            Type::MicroTime => self.named(MICRO_TIME),
            Type::Quantity => self.named(QUANTITY),
            Type::IntOrString => self.named(INT_OR_STRING),
            Type::RawExtension => self.named(RAW_EXTENSION),
            Type::FieldsV1 => self.named(FIELDS),
            Type::Json | Type::Any | Type::Or(..) => json!({}),
            Type::WrappedStrings => json!({"type": "array", "items": {"type": "string"}}),
            Type::Object(def) => self.reference(def),
            Type::List(item) => json!({"type": "array", "items": self.ty(*item)}),
            Type::Map(value) => json!({"type": "object", "additionalProperties": self.ty(*value)}),
        }
    }

    /// A reference to one of the types that have no fields.
    fn named(&mut self, name: &str) -> Value {
        let v3 = self.dialect == Dialect::V3;
        let mut made = match name {
            QUANTITY if v3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            INT_OR_STRING if v3 => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            QUANTITY => json!({"type": "string"}),
            INT_OR_STRING => json!({"type": "string", "format": "int-or-string"}),
            TIME | MICRO_TIME => json!({"type": "string", "format": "date-time"}),
            _ => json!({"type": "object"}),
        };
        if let Some(text) = self.descriptions.definition(name) {
            made["description"] = text.into();
        }
        self.done.insert(name.to_owned(), made);
        self.dialect.reference(name)
    }
}
