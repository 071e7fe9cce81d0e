//! `LoadBalancerIPPool`, which administrators write, and the CustomResourceDefinition that makes it a kind.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xebec_client::Resource;
use xebec_client::kube::core::ClusterResourceScope;
use xebec_types::{Condition, LabelSelector, ObjectMeta};

pub const GROUP: &str = "xebec.io";
pub const VERSION: &str = "v1alpha1";
pub const PLURAL: &str = "loadbalancerippools";
const KIND: &str = "LoadBalancerIPPool";

/// Addresses for Services of type LoadBalancer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerIPPool {
    /// A custom resource has to say what it is.
    #[serde(default = "api_version")]
    pub api_version: String,
    #[serde(default = "kind")]
    pub kind: String,
    pub metadata: ObjectMeta,
    pub spec: PoolSpec,
    #[serde(default)]
    pub status: PoolStatus,
}

#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolSpec {
    pub blocks: Vec<Block>,
    /// Which Services, by label; `None`: all.
    pub service_selector: Option<LabelSelector>,
    /// Of which namespaces; none: of all.
    pub service_namespaces: Vec<String>,
    /// Gives no address; those that it gave stay.
    pub disabled: bool,
}

/// Either `cidr`, or `start` with or without `stop`.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Block {
    pub cidr: Option<String>,
    pub start: Option<String>,
    pub stop: Option<String>,
}

/// Numbers of addresses, and whether the pool gives any.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolStatus {
    pub total: i64,
    pub used: i64,
    pub available: i64,
    pub conditions: Vec<Condition>,
}

fn api_version() -> String {
    format!("{GROUP}/{VERSION}")
}

fn kind() -> String {
    KIND.to_owned()
}

impl Resource for LoadBalancerIPPool {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The name of [`definition`].
pub fn definition_name() -> String {
    format!("{PLURAL}.{GROUP}")
}

/// The CustomResourceDefinition.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": definition_name() },
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": KIND, "listKind": format!("{KIND}List"), "plural": PLURAL, "singular": "loadbalancerippool",
                "shortNames": ["lbpool"],
            },
            "versions": [{
                "name": VERSION, "served": true, "storage": true,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": schema() },
                "additionalPrinterColumns": [
                    column("Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status"),
                    column("Reason", "string", ".status.conditions[?(@.type==\"Ready\")].reason"),
                    column("Total", "integer", ".status.total"),
                    column("Available", "integer", ".status.available"),
                    column("Age", "date", ".metadata.creationTimestamp"),
                ],
            }],
        },
    })
}

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({ "name": name, "type": kind, "jsonPath": path })
}

fn schema() -> Value {
    json!({
        "type": "object",
        "description": "Addresses for Services of type LoadBalancer.",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": {
                "type": "object",
                "required": ["blocks"],
                "properties": {
                    "blocks": {
                        "type": "array", "minItems": 1, "maxItems": 128, "items": block(),
                        "description": "The addresses. They are in no other pool, and neither pods' nor Services' own.",
                    },
                    "serviceSelector": selector(),
                    "serviceNamespaces": {
                        "type": "array", "maxItems": 1024, "items": { "type": "string", "maxLength": 63 },
                        "description": "Namespaces whose Services get addresses; none: all.",
                    },
                    "disabled": {
                        "type": "boolean",
                        "description": "Whether the pool gives no more addresses. Services keep those that they have.",
                    },
                },
            },
            "status": {
                "type": "object",
                "properties": {
                    "total": { "type": "integer", "format": "int64" },
                    "used": { "type": "integer", "format": "int64" },
                    "available": { "type": "integer", "format": "int64" },
                    "conditions": {
                        "type": "array",
                        "items": condition(),
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                    },
                },
            },
        },
    })
}

/// `metav1.Condition`
fn condition() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["type", "status", "lastTransitionTime"],
        "properties": {
            "type": text, "status": text, "reason": text, "message": text,
            "lastTransitionTime": { "type": "string", "format": "date-time" },
            "observedGeneration": { "type": "integer", "format": "int64" },
        },
    })
}

fn block() -> Value {
    let rule = |rule: &str, message: &str| json!({ "rule": rule, "message": message });
    json!({
        "type": "object",
        "properties": {
            "cidr": {
                "type": "string", "format": "cidr", "maxLength": 43,
                "description": "A network whose hosts' addresses are the pool's.",
            },
            "start": { "type": "string", "maxLength": 39, "description": "The first address." },
            "stop": { "type": "string", "maxLength": 39, "description": "The last address; start, if absent." },
        },
        "x-kubernetes-validations": [
            rule("has(self.cidr) != has(self.start)", "either cidr or start is required"),
            rule("!has(self.stop) || has(self.start)", "stop is for start"),
            rule("!has(self.start) || isIP(self.start)", "start is not an address"),
            rule("!has(self.stop) || isIP(self.stop)", "stop is not an address"),
        ],
    })
}

fn selector() -> Value {
    json!({
        "type": "object",
        "description": "Labels of the Services that get addresses; absent: all.",
        "properties": {
            "matchLabels": { "type": "object", "additionalProperties": { "type": "string" } },
            "matchExpressions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string" },
                        "operator": { "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"] },
                        "values": { "type": "array", "items": { "type": "string" } },
                    },
                },
            },
        },
    })
}
