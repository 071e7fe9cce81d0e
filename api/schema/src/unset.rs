//! What an object has in a field of which nothing was said.
//!
//! Upstream's objects are Go structs: one that is not behind a pointer is there in every object, and so is a field without `omitempty`. Ownership of fields
//! tells by it what a write added (structured-merge-diff compares Go values). No public definition says which fields these are; [`STRUCTS`] names the
//! optional ones (`types.go` of each group).

use serde_json::Value;

use crate::{Definition, Field, Type, decode};

/// Optional structs that are not behind pointers, beside metadata, and spec and status of objects. Sorted.
const STRUCTS: [&str; 26] = [
    "AllocationResult.devices",
    "Container.resources",
    "ContainerStatus.lastState",
    "ContainerStatus.state",
    "CustomResourceDefinitionStatus.acceptedNames",
    "DaemonSetSpec.updateStrategy",
    "DeploymentSpec.strategy",
    "Endpoint.conditions",
    "EphemeralContainer.resources",
    "Event.deprecatedSource",
    "Event.regarding",
    "Event.source",
    "IngressServiceBackend.port",
    "IngressStatus.loadBalancer",
    "JobTemplateSpec.spec",
    "NodeDaemonEndpoints.kubeletEndpoint",
    "NodeStatus.daemonEndpoints",
    "NodeStatus.nodeInfo",
    "PersistentVolumeClaimSpec.resources",
    "PodTemplate.template",
    "PodTemplateSpec.spec",
    "ReplicaSetSpec.template",
    "ResourceClaimSpec.devices",
    "ServiceStatus.loadBalancer",
    "StatefulSetSpec.updateStrategy",
    "TokenReviewStatus.user",
];

/// A required struct behind a pointer that its encoder leaves out.
const POINTER: &str = "IPAddressSpec.parentRef";

pub(crate) fn is_always_there(definition: &Definition, field: &Field) -> bool {
    let path = format!("{}.{}", definition.name, field.name);
    let whole = definition.gvk.is_some() && matches!(field.name, "spec" | "status");
    let of_object = matches!(field.ty, Type::Object(_)) && (field.name == "metadata" || whole);
    (field.required && path != POINTER) || of_object || STRUCTS.binary_search(&path.as_str()).is_ok()
}

/// The value of such a field.
pub(crate) fn value(ty: Type) -> Value {
    match ty {
        Type::List(_) | Type::WrappedStrings => Value::Array(Vec::new()),
        Type::Map(_) => Value::Object(serde_json::Map::new()),
        other => decode::zero(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_struct_is_a_field() {
        assert!(STRUCTS.is_sorted());
        for path in STRUCTS.iter().chain([&POINTER]) {
            let (definition, field) = path.split_once('.').unwrap_or_default();
            let named = |d: &&Definition| d.name == definition && d.field(field).is_some();
            let found = schema().definitions.iter().find(named).unwrap_or_else(|| panic!("{path} is nowhere"));
            let ty = found.field(field).map(|field| field.ty);
            assert!(matches!(ty, Some(Type::Object(_))), "{path} is {ty:?}");
        }
    }
}
