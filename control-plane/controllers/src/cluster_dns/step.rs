//! The Service and the slices as they should be.

use crate::{control, nodeipam};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use xebec_machinery::net::{self, IpFamily};
use xebec_types::core::{Node, Service, ServicePort, ServiceSpec};
use xebec_types::discovery::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use xebec_types::{IntOrString, ObjectMeta, label, namespace, object};

pub(super) const NAME: &str = "kube-dns";
const MANAGED_BY: &str = "cluster-dns-controller.xebec.io";
const PORT: i32 = 53;
/// The address that kubelets give their pods: number 10 of the Service network.
const ADDRESS_INDEX: u64 = 10;
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
pub fn step(service: Option<&Service>, nodes: &[Arc<Node>], slices: &[Arc<EndpointSlice>], networks: &[IpNet]) -> Plan {
    let is_ours =
        |s: &&Arc<EndpointSlice>| object::label(&s.metadata, label::ENDPOINTSLICE_MANAGED_BY) == Some(MANAGED_BY);
    let slices: Vec<_> = slices.iter().filter(is_ours).collect();
    let Some(service) = service else {
        // Slices follow when the Service has a uid.
        return Plan { create: Some(new_service(networks)), ..Plan::default() };
    };
    let spec = service.spec.as_ref();
    if spec.is_some_and(|s| s.selector.iter().flatten().next().is_some()) {
        return Plan { delete: slices.into_iter().cloned().collect(), ..Plan::default() };
    }
    let mut plan = Plan::default();
    let mut wanted = Vec::new();
    for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
        let is_asked = |families: &Vec<String>| families.iter().any(|name| name == family.as_str());
        if !spec.and_then(|s| s.ip_families.as_ref()).map_or(family == IpFamily::Ipv4, is_asked) {
            continue;
        }
        let endpoints: Vec<Endpoint> = nodes.iter().filter_map(|node| endpoint(node, family)).collect();
        for (index, chunk) in endpoints.chunks(MAX_ENDPOINTS).enumerate() {
            let name = slice_name(family, index);
            let known = slices.iter().find(|s| object::name(&s.metadata) == name);
            let slice = slice(service, &name, family, chunk.to_vec(), known.map(|s| &***s));
            if known.is_none_or(|k| ***k != slice) {
                plan.put.push(slice);
            }
            wanted.push(name);
        }
    }
    let surplus = |s: &&&Arc<EndpointSlice>| !wanted.iter().any(|n| n == object::name(&s.metadata));
    plan.delete = slices.iter().filter(surplus).map(|s| Arc::clone(s)).collect();
    plan
}

fn slice_name(family: IpFamily, index: usize) -> String {
    match family {
        IpFamily::Ipv4 => format!("{NAME}-nodes-{index}"),
        IpFamily::Ipv6 => format!("{NAME}-nodes-ipv6-{index}"),
    }
}

/// The gateways of the node's pod network: the first address of each of its blocks.
pub(super) fn addresses(node: &Node) -> Vec<IpAddr> {
    nodeipam::pod_cidrs(node).into_iter().map(|cidr| net::address(cidr, 1)).collect()
}

fn new_service(networks: &[IpNet]) -> Service {
    let addresses: Vec<String> =
        networks.iter().map(|network| net::address(*network, ADDRESS_INDEX).to_string()).collect();
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
            cluster_ip: addresses.first().cloned(),
            cluster_ips: Some(addresses),
            ip_family_policy: Some("PreferDualStack".into()),
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
fn endpoint(node: &Node, family: IpFamily) -> Option<Endpoint> {
    let address = addresses(node).into_iter().find(|address| IpFamily::of(*address) == family)?;
    Some(Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) }),
        node_name: node.metadata.name.clone(),
        zone: object::label(&node.metadata, label::TOPOLOGY_ZONE).map(String::from),
        ..Endpoint::default()
    })
}

fn slice(
    service: &Service,
    name: &str,
    family: IpFamily,
    endpoints: Vec<Endpoint>,
    known: Option<&EndpointSlice>,
) -> EndpointSlice {
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
        address_type: family.as_str().into(),
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

    fn node(name: &str, pod_cidrs: &[&str]) -> Arc<Node> {
        let mut node = Node::default();
        node.metadata.name = Some(name.into());
        let pod_cidrs = pod_cidrs.iter().map(ToString::to_string).collect();
        node.spec = Some(NodeSpec { pod_cidrs: Some(pod_cidrs), ..NodeSpec::default() });
        Arc::new(node)
    }

    fn networks() -> [IpNet; 2] {
        ["10.96.0.0/16", "fd00:96::/112"].map(|net| net.parse().expect("network"))
    }

    #[test]
    fn every_node_with_addresses_answers_at_its_gateways() {
        let plan = step(None, &[], &[], &networks());
        let mut service = plan.create.expect("no Service yet");
        let spec = service.spec.as_mut().expect("spec");
        assert_eq!(spec.cluster_ips.as_deref(), Some(["10.96.0.10".to_string(), "fd00:96::a".to_string()].as_slice()));
        assert_eq!(spec.internal_traffic_policy.as_deref(), Some("Local"));
        spec.ip_families = Some(vec!["IPv4".into(), "IPv6".into()]);
        let nodes = [node("a", &["10.244.1.0/24", "fd00:244:1::/64"]), node("b", &[]), node("c", &["10.244.2.0/24"])];
        let plan = step(Some(&service), &nodes, &[], &networks());
        let view = |slice: &EndpointSlice| {
            let addresses: Vec<_> = slice.endpoints.iter().flatten().flat_map(|e| e.addresses.clone()).collect();
            (slice.address_type.clone(), addresses.join(","))
        };
        let expected = [("IPv4", "10.244.1.1,10.244.2.1"), ("IPv6", "fd00:244:1::1")];
        let got: Vec<_> = plan.put.iter().map(view).collect();
        assert_eq!(got, expected.map(|(family, addresses)| (family.to_string(), addresses.to_string())));
        let slices: Vec<_> = plan.put.into_iter().map(Arc::new).collect();
        let again = step(Some(&service), &nodes, &slices, &networks());
        assert!(again.put.is_empty() && again.delete.is_empty() && again.create.is_none());
        let none = step(Some(&service), &[], &slices, &networks());
        assert_eq!(none.delete.len(), 2);
    }

    #[test]
    fn somebody_elses_dns_is_left_alone() {
        let mut service = new_service(&networks());
        if let Some(spec) = &mut service.spec {
            spec.selector = Some([("k8s-app".to_string(), "kube-dns".to_string())].into());
        }
        let plan = step(Some(&service), &[node("a", &["10.244.1.0/24"])], &[], &networks());
        assert!(plan.put.is_empty() && plan.create.is_none());
    }
}
