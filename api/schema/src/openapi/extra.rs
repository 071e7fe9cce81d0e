//! Resources that the table does not have: custom resources, with the schemas that their definitions declare
//! (`apiextensions-apiserver/pkg/controller/openapi/builder`).

use serde_json::{Map, Value, json};

use super::Dialect;
use super::types::Types;
use crate::{Resource, schema};

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// A resource of which only a schema is known.
pub struct Extra<'a> {
    pub row: Resource,
    pub list_kind: &'a str,
    /// `openAPIV3Schema`
    pub schema: &'a Value,
    /// Changes with anything above.
    pub fingerprint: u64,
}

impl Extra<'_> {
    /// `com.example.v1.Widget`: the group backwards, as upstream's `ToRESTFriendlyName`.
    fn name(&self, kind: &str) -> String {
        let group: Vec<&str> = self.row.group.rsplit('.').collect();
        format!("{}.{}.{kind}", group.join("."), self.row.version)
    }
}

impl Types {
    /// Makes a resource's kind and its list known.
    pub(super) fn add(&mut self, extra: &Extra<'_>) {
        let Resource { group, version, kind, .. } = extra.row;
        let (name, list) = (extra.name(kind), extra.name(extra.list_kind));
        let key = |kind: &str| (group.to_owned(), version.to_owned(), kind.to_owned());
        self.extra.insert(key(kind), name.clone());
        self.extra.insert(key(&format!("{kind}List")), list.clone());
        let mut object = match self.dialect {
            Dialect::V3 => extra.schema.clone(),
            Dialect::V2 => lowered(extra.schema),
        };
        let open = extra.schema["x-kubernetes-preserve-unknown-fields"] == true;
        if self.dialect == Dialect::V2 && open {
            // Version 2 cannot say both what is known and that more may come.
            object = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            if let Some(text) = extra.schema.get("description") {
                object["description"] = text.clone();
            }
        } else {
            self.embed(&mut object, true);
        }
        object["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": kind}]);
        self.put(&name, object);
        let metadata = self.described(LIST_META, METADATA);
        let items = self.dialect.reference(&name);
        let description = format!(
            "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
            extra.row.plural
        );
        self.put(
            &list,
            json!({
                "description": format!("{} is a list of {kind}", extra.list_kind),
                "type": "object", "required": ["items"],
                "properties": {
                    "apiVersion": {"description": API_VERSION, "type": "string"},
                    "items": {"description": description, "type": "array", "items": items},
                    "kind": {"description": KIND, "type": "string"},
                    "metadata": metadata,
                },
                "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": extra.list_kind}],
            }),
        );
    }

    /// Adds what every object has to a schema of objects, and to those of objects inside of it.
    fn embed(&mut self, node: &mut Value, is_object: bool) {
        let Value::Object(map) = node else { return };
        if is_object || map.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
            let metadata = self.described(OBJECT_META, METADATA);
            let properties = map.entry("properties").or_insert_with(|| Value::Object(Map::new()));
            properties["apiVersion"] = json!({"description": API_VERSION, "type": "string"});
            properties["kind"] = json!({"description": KIND, "type": "string"});
            properties["metadata"] = metadata;
        }
        for (field, child) in map.iter_mut() {
            match (field.as_str(), child) {
                ("properties", Value::Object(members)) => {
                    members.values_mut().for_each(|member| self.embed(member, false))
                }
                ("items" | "additionalProperties", child) => self.embed(child, false),
                _ => {}
            }
        }
    }

    fn described(&mut self, name: &str, description: &str) -> Value {
        let reference = schema().by_name(name).map(|def| self.reference(def)).unwrap_or_default();
        match self.dialect {
            Dialect::V3 => json!({"allOf": [reference], "description": description}),
            Dialect::V2 => {
                let mut made = reference;
                made["description"] = description.into();
                made
            }
        }
    }
}

/// What version 2 can say of a schema (`ToStructuralOpenAPIV2`).
fn lowered(node: &Value) -> Value {
    let Value::Object(map) = node else { return node.clone() };
    let flag = |name: &str| map.get(name) == Some(&Value::Bool(true));
    let open = flag("x-kubernetes-preserve-unknown-fields") || flag("nullable");
    let untyped = open || flag("x-kubernetes-int-or-string");
    let mut made = Map::new();
    for (field, child) in map {
        match (field.as_str(), child) {
            ("oneOf" | "anyOf" | "not" | "allOf" | "nullable" | "default", _) => {}
            ("type", _) if untyped => {}
            ("items" | "properties" | "additionalProperties", _) if open => {}
            ("properties", Value::Object(members)) => {
                let members = members.iter().map(|(name, member)| (name.clone(), lowered(member)));
                made.insert(field.clone(), Value::Object(members.collect()));
            }
            ("items" | "additionalProperties", child) => _ = made.insert(field.clone(), lowered(child)),
            (_, child) => _ = made.insert(field.clone(), child.clone()),
        }
    }
    Value::Object(made)
}
