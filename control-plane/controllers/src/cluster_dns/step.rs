//! The Service and the slices as they should be.

use crate::{control, nodeipam};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::sync::Arc;
use xebec_types::core::{Node, Service, ServicePort, ServiceSpec};
use xebec_types::discovery::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use xebec_types::{IntOrString, ObjectMeta, label, namespace, object};

pub(super) const NAME: &str = "kube-dns";
const MANAGED_BY: &str = "cluster-dns-controller.xebec.io";
const PORT: i32 = 53;
/// The address that kubelets give their pods: number 10 of the Service network.
const ADDRESS_INDEX: u32 = 10;
const MAX_ENDPOINTS: usize = 100;

#[derive(Default, Debug)]
pub struct Plan {
    pub create: Option<Service>,
    /// Slices to create (no resourceVersion) or replace.
    pub put: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// `slices` are those labelled with the Service's name. A Service with a selector is somebody
/// else's DNS: it is left alone.
#[must_use]
pub fn step(service: Option<&Service>, nodes: &[Arc<Node>], slices: &[Arc<EndpointSlice>], network: Ipv4Net) -> Plan {
    let is_ours =
        |s: &&Arc<EndpointSlice>| object::label(&s.metadata, label::ENDPOINTSLICE_MANAGED_BY) == Some(MANAGED_BY);
    let slices: Vec<_> = slices.iter().filter(is_ours).collect();
    let Some(service) = service else {
        // Slices follow when the Service has a uid.
        return Plan { create: Some(new_service(network)), ..Plan::default() };
    };
    let spec = service.spec.as_ref();
    if spec.is_some_and(|s| s.selector.iter().flatten().next().is_some()) {
        return Plan { delete: slices.into_iter().cloned().collect(), ..Plan::default() };
    }
    let endpoints: Vec<Endpoint> = nodes.iter().filter_map(|node| endpoint(node)).collect();
    let mut plan = Plan::default();
    let mut wanted = Vec::new();
    for (index, chunk) in endpoints.chunks(MAX_ENDPOINTS).enumerate() {
        let name = format!("{NAME}-nodes-{index}");
        let known = slices.iter().find(|s| object::name(&s.metadata) == name);
        let slice = slice(service, &name, chunk.to_vec(), known.map(|s| &***s));
        if known.is_none_or(|k| ***k != slice) {
            plan.put.push(slice);
        }
        wanted.push(name);
    }
    let surplus = |s: &&&Arc<EndpointSlice>| !wanted.iter().any(|n| n == object::name(&s.metadata));
    plan.delete = slices.iter().filter(surplus).map(|s| Arc::clone(s)).collect();
    plan
}

/// The gateway of the node's pod network: the first address of its block.
pub(super) fn address(node: &Node) -> Option<Ipv4Addr> {
    nodeipam::pod_cidr(node)?.hosts().next()
}

fn new_service(network: Ipv4Net) -> Service {
    let address = Ipv4Addr::from(u32::from(network.network()) + ADDRESS_INDEX).to_string();
    let port = |name: &str, protocol: &str| ServicePort {
        name: Some(name.into()),
        port: PORT,
        protocol: Some(protocol.into()),
        target_port: Some(IntOrString::Int(PORT)),
        ..ServicePort::default()
    };
    Service {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(namespace::KUBE_SYSTEM.into()),
            labels: Some(
                [("k8s-app", NAME), ("kubernetes.io/cluster-service", "true")]
                    .map(|(k, v)| (k.to_string(), v.to_string()))
                    .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some(address.clone()),
            cluster_ips: Some(vec![address]),
            internal_traffic_policy: Some("Local".into()),
            ports: Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]),
            type_: Some("ClusterIP".into()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A node's DNS is used by nobody but the node, which knows best whether it answers: it stays
/// listed whatever the node's conditions say.
fn endpoint(node: &Node) -> Option<Endpoint> {
    Some(Endpoint {
        addresses: vec![address(node)?.to_string()],
        conditions: Some(EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) }),
        node_name: node.metadata.name.clone(),
        zone: object::label(&node.metadata, label::TOPOLOGY_ZONE).map(String::from),
        ..Endpoint::default()
    })
}

fn slice(service: &Service, name: &str, endpoints: Vec<Endpoint>, known: Option<&EndpointSlice>) -> EndpointSlice {
    let mut slice = known.cloned().unwrap_or_else(|| EndpointSlice {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(namespace::KUBE_SYSTEM.into()),
            labels: Some(
                [(label::SERVICE_NAME, NAME), (label::ENDPOINTSLICE_MANAGED_BY, MANAGED_BY)]
                    .map(|(k, v)| (k.to_string(), v.to_string()))
                    .into(),
            ),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".into(),
        ..EndpointSlice::default()
    });
    let port = |name: &str, protocol: &str| EndpointPort {
        name: Some(name.into()),
        port: Some(PORT),
        protocol: Some(protocol.into()),
        app_protocol: None,
    };
    slice.metadata.owner_references = Some(vec![control::controller_ref(service)]);
    slice.ports = Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]);
    slice.endpoints = Some(endpoints);
    slice
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_types::core::NodeSpec;

    fn node(name: &str, pod_cidr: Option<&str>) -> Arc<Node> {
        let mut node = Node::default();
        node.metadata.name = Some(name.into());
        node.spec = Some(NodeSpec { pod_cidr: pod_cidr.map(String::from), ..NodeSpec::default() });
        Arc::new(node)
    }

    fn network() -> Ipv4Net {
        Ipv4Net::new_assert([10, 96, 0, 0].into(), 16)
    }

    #[test]
    fn every_node_with_addresses_answers_at_its_gateway() {
        let plan = step(None, &[], &[], network());
        let service = plan.create.expect("no Service yet");
        let spec = service.spec.clone().expect("spec");
        assert_eq!(spec.cluster_ip.as_deref(), Some("10.96.0.10"));
        assert_eq!(spec.internal_traffic_policy.as_deref(), Some("Local"));
        let nodes = [node("a", Some("10.244.1.0/24")), node("b", None)];
        let plan = step(Some(&service), &nodes, &[], network());
        let [slice] = plan.put.as_slice() else { panic!("one slice") };
        let endpoints = slice.endpoints.as_deref().expect("endpoints");
        assert_eq!(endpoints.len(), 1);
        assert_eq!(endpoints[0].addresses, ["10.244.1.1"]);
        assert_eq!(endpoints[0].node_name.as_deref(), Some("a"));
        let slices = [Arc::new(slice.clone())];
        let again = step(Some(&service), &nodes, &slices, network());
        assert!(again.put.is_empty() && again.delete.is_empty() && again.create.is_none());
        let none = step(Some(&service), &[], &slices, network());
        assert_eq!(none.delete.len(), 1);
    }

    #[test]
    fn somebody_elses_dns_is_left_alone() {
        let mut service = new_service(network());
        if let Some(spec) = &mut service.spec {
            spec.selector = Some([("k8s-app".to_string(), "kube-dns".to_string())].into());
        }
        let plan = step(Some(&service), &[node("a", Some("10.244.1.0/24"))], &[], network());
        assert!(plan.put.is_empty() && plan.create.is_none());
    }
}
