//! Which frontends a Service has, and which backends each of them.
//!
//! A service port under one traffic policy has one set of backends, and all frontends that share it. Which policy that
//! is depends on what a client dials and on where the client is:
//!
//! | dialled | from pods and nodes | from outside |
//! |---|---|---|
//! | clusterIP | `internalTrafficPolicy` | not reachable |
//! | NodePort, load balancer's address, externalIP | Cluster | `externalTrafficPolicy` |
//!
//! A NodePort that is forwarded by direct server return has a frontend without an address besides: for what its clients
//! sent to other nodes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use xebec_types::core::{Service, ServicePort as PortSpec, ServiceSpec};
use xebec_types::discovery::EndpointSlice;
use xebec_types::{label, object};

use crate::candidates::{candidates, select};
use crate::{
    Addresses, Algorithm, Backend, Forwarding, Frontend, FrontendKey, FrontendKind, Node, PortId, Protocol, Scope,
    ServiceKey, ServicePort, TrafficPolicy,
};

/// Of `sessionAffinityConfig.clientIP.timeoutSeconds`, as the API documents it.
const AFFINITY_DEFAULT: Duration = Duration::from_secs(10_800);
/// What `loadBalancerSourceRanges` was before it was a field; kube-proxy reads it where the field is empty.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// The service ports of one Service on `node`. `slices` are those of the Service, whatever their family.
///
/// Headless Services and those of type ExternalName have none: DNS serves them.
pub fn compile(service: &Service, slices: &[&EndpointSlice], node: &Node) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let key = ServiceKey::new(object::namespace(&service.metadata), object::name(&service.metadata));
    let addresses = cluster_ips(spec);
    let mut ports = Vec::new();
    for port in spec.ports.iter().flatten() {
        let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { continue };
        for addr in &addresses {
            let forwarding =
                node.forwarding.map(|default| Forwarding::of(&service.metadata, default)).unwrap_or_default();
            let dialled = Dialled { service, spec, port, protocol, node, cluster_ip: *addr, forwarding };
            for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
                let frontends = dialled.frontends(policy);
                if frontends.is_empty() {
                    continue;
                }
                let found = candidates(spec, port, protocol, slices, node, addr.is_ipv6(), policy);
                let balanced = frontends.iter().any(|frontend| frontend.kind == FrontendKind::LoadBalancer);
                let source_ranges = if balanced { source_ranges(service, spec, addr.is_ipv6()) } else { Vec::new() };
                let outside = frontends.iter().any(|frontend| frontend.key.scope == Scope::External);
                let algorithm = if outside { Algorithm::of(&service.metadata) } else { Algorithm::Random };
                ports.push(ServicePort {
                    id: PortId { service: key.clone(), port: port_name(port), protocol, policy },
                    frontends,
                    backends: weighed(select(&found, policy), algorithm),
                    affinity: affinity(spec),
                    source_ranges,
                    algorithm,
                    forwarding: if outside { dialled.forwarding(policy) } else { Forwarding::Snat },
                });
            }
        }
    }
    ports
}

/// Everything, from scratch: what [`crate::Table`] arrives at step by step.
pub fn compile_all<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    node: &Node,
) -> Vec<ServicePort> {
    let mut by_service: BTreeMap<ServiceKey, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        if let Some(key) = service_of(slice) {
            by_service.entry(key).or_default().push(slice);
        }
    }
    let mut ports = Vec::new();
    for service in services {
        let key = ServiceKey::new(object::namespace(&service.metadata), object::name(&service.metadata));
        let slices = by_service.get(&key).map(Vec::as_slice).unwrap_or_default();
        ports.extend(compile(service, slices, node));
    }
    ports
}

/// The Service that a slice belongs to.
pub fn service_of(slice: &EndpointSlice) -> Option<ServiceKey> {
    let name = object::label(&slice.metadata, label::SERVICE_NAME)?;
    Some(ServiceKey::new(object::namespace(&slice.metadata), name))
}

/// One port of a Service in one family.
struct Dialled<'a> {
    service: &'a Service,
    spec: &'a ServiceSpec,
    port: &'a PortSpec,
    protocol: Protocol,
    node: &'a Node,
    cluster_ip: IpAddr,
    forwarding: Forwarding,
}

impl Dialled<'_> {
    /// Sorted.
    fn frontends(&self, policy: TrafficPolicy) -> Vec<Frontend> {
        let mut frontends = Vec::new();
        if policy == policy_of(self.spec.internal_traffic_policy.as_deref()) {
            self.add(&mut frontends, self.cluster_ip, self.port.port, FrontendKind::ClusterIp, Scope::Internal);
        }
        for (scope, wanted) in [
            (Scope::Internal, TrafficPolicy::Cluster),
            (Scope::External, policy_of(self.spec.external_traffic_policy.as_deref())),
        ] {
            if policy == wanted {
                self.external(&mut frontends, scope, policy);
            }
        }
        frontends.sort_unstable();
        frontends.dedup_by_key(|frontend| frontend.key);
        frontends
    }

    /// Backends of this node alone see their clients in any case.
    fn forwarding(&self, policy: TrafficPolicy) -> Forwarding {
        match policy {
            TrafficPolicy::Cluster => self.forwarding,
            TrafficPolicy::Local => Forwarding::Snat,
        }
    }

    fn external(&self, frontends: &mut Vec<Frontend>, scope: Scope, policy: TrafficPolicy) {
        if let Some(node_port) = self.port.node_port {
            let Addresses { outside, inside } = &self.node.addresses.node_ports;
            let inside = if scope == Scope::Internal { &inside[..] } else { &[] };
            for addr in outside.iter().chain(inside) {
                self.add(frontends, *addr, node_port, FrontendKind::NodePort, scope);
            }
            if scope == Scope::External && self.forwarding(policy) == Forwarding::Dsr {
                for addr in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
                    self.add(frontends, addr, node_port, FrontendKind::NodePort, scope);
                }
            }
        }
        for addr in ingress(self.service) {
            self.add(frontends, addr, self.port.port, FrontendKind::LoadBalancer, scope);
        }
        for addr in self.spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()) {
            self.add(frontends, addr, self.port.port, FrontendKind::ExternalIp, scope);
        }
    }

    /// Adds a frontend of this family.
    fn add(&self, frontends: &mut Vec<Frontend>, addr: IpAddr, port: i32, kind: FrontendKind, scope: Scope) {
        if let Ok(port @ 1..) = u16::try_from(port)
            && addr.is_ipv6() == self.cluster_ip.is_ipv6()
        {
            frontends.push(Frontend { key: FrontendKey { addr, port, protocol: self.protocol, scope }, kind });
        }
    }
}

fn policy_of(policy: Option<&str>) -> TrafficPolicy {
    match policy {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    }
}

/// The load balancer's addresses. `ipMode: Proxy` says that packets arrive from the load balancer under its own name,
/// and that clients inside must go through it (KEP-1860).
fn ingress(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    let balanced = service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let vip = ingress.filter(move |ingress| balanced && ingress.ip_mode.as_deref() != Some("Proxy"));
    vip.filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
}

/// Sorted.
fn source_ranges(service: &Service, spec: &ServiceSpec, ipv6: bool) -> Vec<IpNet> {
    let field = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let annotation = service.metadata.annotations.as_ref().and_then(|annotations| annotations.get(SOURCE_RANGES));
    let annotation = annotation.filter(|_| field.is_empty()).into_iter().flat_map(|value| value.split(','));
    let texts = field.iter().map(String::as_str).chain(annotation);
    let ranges = texts.filter_map(|text| text.trim().parse::<IpNet>().ok()).map(|range| range.trunc());
    let mut ranges: Vec<_> = ranges.filter(|range| range.addr().is_ipv6() == ipv6).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

/// Weights are of Maglev tables alone.
fn weighed(mut backends: Vec<Backend>, algorithm: Algorithm) -> Vec<Backend> {
    if algorithm != Algorithm::Maglev {
        backends.iter_mut().for_each(|backend| backend.weight = 0);
    }
    backends
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let many = spec.cluster_ips.as_deref().unwrap_or_default();
    let one = spec.cluster_ip.as_slice();
    let addresses = if many.is_empty() { one } else { many };
    addresses.iter().filter_map(|ip| ip.parse().ok()).collect()
}

fn affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
    Some(seconds.and_then(|s| u64::try_from(s).ok()).map_or(AFFINITY_DEFAULT, Duration::from_secs))
}

fn port_name(port: &PortSpec) -> std::sync::Arc<str> {
    port.name.as_deref().unwrap_or_default().into()
}
