//! A kubelet writes its own node, its own pods and its own lease only (`plugin/pkg/admission/noderestriction`).

use async_trait::async_trait;
use serde_json::Value;
use xebec_machinery::Status;
use xebec_registry::meta;
use xebec_registry::value::{at, entries, items, same, string};

use super::{Attributes, Operation, Plugin, Reader};

const NODES_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Labels of the kubernetes.io domains that a kubelet may set on its node (`kubeletapis.IsKubeletLabel`).
const LABELS: [&str; 15] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
    "kubernetes.io/cluster-service",
];
const LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

pub struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        if !attributes.user.in_group(NODES_GROUP) {
            return Ok(());
        }
        let forbid =
            |message: String| Status::forbidden(&attributes.resource.group_resource(), attributes.name, message);
        let Some(node) = attributes.user.name.strip_prefix(NODE_PREFIX) else {
            return Err(forbid(format!("could not determine node from user {:?}", attributes.user.name)));
        };
        let refused = match (&*attributes.resource.group, &*attributes.resource.resource, attributes.subresource) {
            ("", "pods", subresource) => {
                let stored = match attributes.old_object {
                    Some(old) => Some(old.clone()),
                    None => reader.get("", "pods", attributes.namespace, attributes.name),
                };
                pod(node, subresource, attributes.operation, &attributes.object, stored.as_ref())
            }
            ("", "nodes", "") => node_object(node, attributes),
            ("", "nodes", _) => own_node(node, attributes.name),
            ("coordination.k8s.io", "leases", _) => lease(node, attributes),
            ("", "serviceaccounts", "token") if attributes.operation == Operation::Create => {
                let reference = at(&attributes.object, "spec.boundObjectRef");
                let bound = reader.get("", "pods", attributes.namespace, string(reference, "name"));
                token(node, attributes.name, reference, bound.as_ref())
            }
            _ => None,
        };
        refused.map_or(Ok(()), |message| Err(forbid(message)))
    }
}

fn pod(node: &str, subresource: &str, operation: Operation, new: &Value, stored: Option<&Value>) -> Option<String> {
    let own = stored.is_some_and(|pod| string(pod, "spec.nodeName") == node);
    let unknown = stored.is_none();
    match (subresource, operation) {
        ("", Operation::Create) => {
            if at(new, "metadata.annotations").get(MIRROR).is_none() {
                Some(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"))
            } else if string(new, "spec.nodeName") != node {
                Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"))
            } else {
                None
            }
        }
        ("", Operation::Delete) if unknown || own => None,
        ("", Operation::Delete) => Some(format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
        ("status", Operation::Update) if !own => {
            Some(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))
        }
        ("status", Operation::Update)
            if stored.is_some_and(|old| !same(at(old, "metadata.labels"), at(new, "metadata.labels"))) =>
        {
            Some(format!("node {node:?} cannot update labels through pod status"))
        }
        ("status", Operation::Update) => None,
        ("eviction", Operation::Create) if unknown || own => None,
        ("eviction", Operation::Create) => {
            Some(format!("node {node:?} can only evict pods with spec.nodeName set to itself"))
        }
        ("", other) => {
            Some(format!("unexpected operation {other:?}, node {node:?} can only create and delete mirror pods"))
        }
        (subresource, _) => {
            Some(format!("unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed"))
        }
    }
}

fn own_node(node: &str, name: &str) -> Option<String> {
    (name != node).then(|| format!("node {node:?} is not allowed to modify node {name:?}"))
}

fn node_object(node: &str, attributes: &Attributes<'_>) -> Option<String> {
    let (new, name) = (&attributes.object, attributes.name);
    let name = if name.is_empty() { meta::name(new) } else { name };
    if let Some(refused) = own_node(node, name) {
        return Some(refused);
    }
    let none = Value::Null;
    let old = attributes.old_object.unwrap_or(&none);
    if attributes.operation == Operation::Update && !same(at(old, "spec.taints"), at(new, "spec.taints")) {
        return Some(format!("node {node:?} is not allowed to modify taints"));
    }
    if attributes.operation == Operation::Delete {
        return None;
    }
    if !items(new, "metadata.ownerReferences").is_empty()
        && !same(at(old, "metadata.ownerReferences"), at(new, "metadata.ownerReferences"))
    {
        return Some(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    let changed = entries(new, "metadata.labels")
        .filter(|(key, value)| at(old, "metadata.labels").get(key.as_str()) != Some(value));
    let forbidden: Vec<&str> = changed.map(|(key, _)| key.as_str()).filter(|key| !may_label(key)).collect();
    let verb = if old.is_null() { "set" } else { "modify" };
    (!forbidden.is_empty())
        .then(|| format!("node {node:?} is not allowed to {verb} the following labels: {}", forbidden.join(", ")))
}

/// Labels outside the kubernetes.io and k8s.io domains, and those that kubelets report.
fn may_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let within = |suffix: &str| domain == suffix || domain.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    !(within("kubernetes.io") || within("k8s.io"))
        || LABELS.contains(&key)
        || LABEL_DOMAINS.iter().any(|domain| within(domain))
}

fn lease(node: &str, attributes: &Attributes<'_>) -> Option<String> {
    let name = if attributes.name.is_empty() { meta::name(&attributes.object) } else { attributes.name };
    if attributes.namespace != LEASE_NAMESPACE {
        Some(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"))
    } else if name != node {
        Some("can only access node lease with the same name as the requesting node".to_owned())
    } else {
        None
    }
}

fn token(node: &str, account: &str, reference: &Value, pod: Option<&Value>) -> Option<String> {
    if string(reference, "kind") != "Pod" || string(reference, "name").is_empty() {
        return Some(format!("node {node:?} requested token not bound to a pod"));
    }
    let Some(pod) = pod else {
        return Some(format!("pod {:?} not found", string(reference, "name")));
    };
    let uid = string(reference, "uid");
    if uid.is_empty() {
        Some(format!("pod reference without uid: node {node:?} requested token with a pod binding without a uid"))
    } else if uid != string(pod, "metadata.uid") {
        Some(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ))
    } else if string(pod, "spec.nodeName") != node {
        Some(format!("node {node:?} requested token bound to a pod scheduled on a different node"))
    } else if string(pod, "spec.serviceAccountName") != account {
        Some(format!("node {node:?} requested token for a service account that its pod does not use"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_label(key: &str, expected: bool) {
        assert_eq!(may_label(key), expected, "{key}");
    }

    #[test]
    fn kubelets_report_facts_but_choose_no_roles() {
        check_label("disk", true);
        check_label("example.com/zone", true);
        check_label("notkubernetes.io/x", true);
        check_label("kubernetes.io/hostname", true);
        check_label("feature.node.kubernetes.io/x", true);
        check_label("node-role.kubernetes.io/control-plane", false);
        check_label("node-restriction.kubernetes.io/x", false);
        check_label("foo.k8s.io/x", false);
    }

    #[test]
    fn a_node_touches_its_own_pods_only() {
        let own = json!({"spec": {"nodeName": "n"}});
        let other = json!({"spec": {"nodeName": "m"}});
        let check = |subresource: &str, operation, stored: &Value, expected: bool| {
            assert_eq!(
                pod("n", subresource, operation, stored, Some(stored)).is_none(),
                expected,
                "{subresource} {operation:?}"
            );
        };
        check("status", Operation::Update, &own, true);
        check("status", Operation::Update, &other, false);
        check("", Operation::Delete, &own, true);
        check("", Operation::Delete, &other, false);
        check("", Operation::Create, &own, false);
        check("", Operation::Update, &own, false);
        check("eviction", Operation::Create, &other, false);
        check("binding", Operation::Create, &own, false);
    }

    #[test]
    fn a_token_is_for_a_pod_of_the_node() {
        let running = json!({"metadata": {"uid": "u"}, "spec": {"nodeName": "n", "serviceAccountName": "a"}});
        let reference = json!({"kind": "Pod", "name": "p", "uid": "u"});
        assert_eq!(token("n", "a", &reference, Some(&running)), None);
        assert!(token("m", "a", &reference, Some(&running)).is_some());
        assert!(token("n", "b", &reference, Some(&running)).is_some());
        assert!(token("n", "a", &Value::Null, None).is_some());
        assert!(token("n", "a", &json!({"kind": "Pod", "name": "p", "uid": "v"}), Some(&running)).is_some());
    }
}
