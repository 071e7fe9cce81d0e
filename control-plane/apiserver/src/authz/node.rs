//! What nodes may do: the rules of the ClusterRole `system:node`, and of Secrets and ConfigMaps those that a pod on the
//! node refers to (KEP-279, `plugin/pkg/auth/authorizer/node`).

use std::collections::HashMap;

use serde_json::Value;
use xebec_machinery::object;

use super::Attributes;
use crate::user::UserInfo;

pub const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
const LEASES: &str = "kube-node-lease";

/// A Secret, ConfigMap, ServiceAccount or ResourceClaim: resource, namespace, name.
type Reference = (&'static str, String, String);

/// Which objects the pods of each node refer to.
#[derive(Default)]
pub struct Graph {
    /// By namespace and name.
    pods: HashMap<(String, String), (String, Vec<Reference>)>,
    /// How many pods of the node refer to the object.
    counts: HashMap<(String, Reference), usize>,
}

/// The node that a user is.
pub fn node_of(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|_| user.in_group(GROUP))
}

impl Graph {
    /// Takes over a pod; null takes it away.
    pub fn put(&mut self, namespace: &str, name: &str, pod: &Value) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some((node, references)) = self.pods.remove(&key) {
            for reference in references {
                let entry = (node.clone(), reference);
                if let Some(count) = self.counts.get_mut(&entry) {
                    *count -= 1;
                    if *count == 0 {
                        self.counts.remove(&entry);
                    }
                }
            }
        }
        let node = object::str_at(pod, &["spec", "nodeName"]);
        if node.is_empty() {
            return;
        }
        let references = references(namespace, pod);
        for reference in &references {
            *self.counts.entry((node.to_owned(), reference.clone())).or_default() += 1;
        }
        self.pods.insert(key, (node.to_owned(), references));
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether a request that the role allows also stays within what concerns the node.
    pub fn allows(&self, node: &str, wanted: &Attributes) -> bool {
        let refers = |resource: &'static str| {
            let reference = (resource, wanted.namespace.clone(), wanted.name.clone());
            self.counts.contains_key(&(node.to_owned(), reference))
        };
        match (wanted.group.as_str(), wanted.resource.as_str(), wanted.subresource.as_str()) {
            ("", "secrets", "") => !wanted.name.is_empty() && refers("secrets"),
            ("", "configmaps", "") => !wanted.name.is_empty() && refers("configmaps"),
            ("resource.k8s.io", "resourceclaims", "") => refers("resourceclaims"),
            ("", "serviceaccounts", "token") => refers("serviceaccounts"),
            ("coordination.k8s.io", "leases", _) => {
                wanted.namespace == LEASES && (wanted.name == node || wanted.verb == "create")
            }
            _ => true,
        }
    }

    /// What nodes need beyond upstream's role: the agent serves the pod network and its services.
    pub fn of_agent(wanted: &Attributes) -> bool {
        let reads = matches!(wanted.verb.as_str(), "get" | "list" | "watch");
        let served = [("discovery.k8s.io", "endpointslices"), ("", "namespaces"), ("", "endpoints")];
        reads && wanted.subresource.is_empty() && served.contains(&(wanted.group.as_str(), wanted.resource.as_str()))
    }
}

/// What a pod refers to (`pkg/api/v1/pod.VisitPodSecretNames` and `VisitPodConfigmapNames`).
fn references(namespace: &str, pod: &Value) -> Vec<Reference> {
    let mut found: Vec<Reference> = Vec::new();
    let mut add = |resource: &'static str, name: Option<&Value>| {
        if let Some(name) = name.and_then(Value::as_str).filter(|n| !n.is_empty()) {
            found.push((resource, namespace.to_owned(), name.to_owned()));
        }
    };
    let items = |value: Option<&Value>| -> Vec<Value> { value.and_then(Value::as_array).cloned().unwrap_or_default() };
    let spec = &pod["spec"];
    add("serviceaccounts", spec.get("serviceAccountName"));
    items(spec.get("imagePullSecrets")).iter().for_each(|s| add("secrets", s.get("name")));
    for volume in items(spec.get("volumes")) {
        add("secrets", volume.pointer("/secret/secretName"));
        add("configmaps", volume.pointer("/configMap/name"));
        for source in items(volume.pointer("/projected/sources")) {
            add("secrets", source.pointer("/secret/name"));
            add("configmaps", source.pointer("/configMap/name"));
        }
    }
    items(spec.get("resourceClaims")).iter().for_each(|claim| add("resourceclaims", claim.get("resourceClaimName")));
    for generated in items(pod.pointer("/status/resourceClaimStatuses")) {
        add("resourceclaims", generated.get("resourceClaimName"));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(spec.get(list)) {
            for source in items(container.get("envFrom")) {
                add("secrets", source.pointer("/secretRef/name"));
                add("configmaps", source.pointer("/configMapRef/name"));
            }
            for variable in items(container.get("env")) {
                add("secrets", variable.pointer("/valueFrom/secretKeyRef/name"));
                add("configmaps", variable.pointer("/valueFrom/configMapKeyRef/name"));
            }
        }
    }
    found
}
