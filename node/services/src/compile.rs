//! Which backends each frontend of a Service has.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use xebec_types::core::{Service, ServicePort as PortSpec, ServiceSpec};
use xebec_types::discovery::{Endpoint, EndpointSlice};
use xebec_types::{label, object};

use crate::{Backend, Frontend, FrontendKey, FrontendKind, PortId, Protocol, ServiceKey, ServicePort, TrafficPolicy};

/// Of `sessionAffinityConfig.clientIP.timeoutSeconds`, as the API documents it.
const AFFINITY_DEFAULT: Duration = Duration::from_secs(10_800);

/// The service ports of one Service on the node `node`. `slices` are those of the Service, whatever their family.
///
/// Headless Services and those of type ExternalName have none: DNS serves them.
pub fn compile(service: &Service, slices: &[&EndpointSlice], node: &str) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let key = ServiceKey::new(object::namespace(&service.metadata), object::name(&service.metadata));
    let addresses = cluster_ips(spec);
    if addresses.is_empty() {
        return Vec::new();
    }
    let policy = match spec.internal_traffic_policy.as_deref() {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    };
    let mut ports = Vec::new();
    for port in spec.ports.iter().flatten() {
        let (Some(protocol), Ok(number)) = (Protocol::parse(port.protocol.as_deref()), u16::try_from(port.port)) else {
            continue;
        };
        for addr in &addresses {
            let key_of = |port| FrontendKey { addr: *addr, port, protocol };
            let candidates = candidates(spec, port, protocol, slices, node, addr.is_ipv6(), policy);
            ports.push(ServicePort {
                id: PortId { service: key.clone(), port: port_name(port), protocol, policy },
                frontends: vec![Frontend { key: key_of(number), kind: FrontendKind::ClusterIp }],
                backends: select(&candidates),
                affinity: affinity(spec),
            });
        }
    }
    ports
}

/// Everything, from scratch: what [`crate::Table`] arrives at step by step.
pub fn compile_all<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    node: &str,
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

#[derive(Clone, Copy)]
struct Candidate {
    backend: Backend,
    ready: bool,
    serving: bool,
}

impl Candidate {
    fn last_resort(&self) -> bool {
        self.serving && self.backend.terminating
    }
}

/// The endpoints of one port, one per address, best state first where slices disagree.
fn candidates(
    spec: &ServiceSpec,
    port: &PortSpec,
    protocol: Protocol,
    slices: &[&EndpointSlice],
    node: &str,
    ipv6: bool,
    policy: TrafficPolicy,
) -> Vec<Candidate> {
    let publish_not_ready = spec.publish_not_ready_addresses == Some(true);
    let mut found: BTreeMap<(IpAddr, u16), Candidate> = BTreeMap::new();
    for slice in slices {
        let Some(number) = slice_port(slice, port, protocol) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(candidate) = candidate(endpoint, number, node, publish_not_ready) else { continue };
            let eligible = policy == TrafficPolicy::Cluster || candidate.backend.local;
            if candidate.backend.addr.is_ipv6() != ipv6 || !eligible {
                continue;
            }
            let rank = |c: &Candidate| (c.ready, c.last_resort(), c.backend.local);
            let slot = found.entry((candidate.backend.addr, number)).or_insert(candidate);
            if rank(&candidate) > rank(slot) {
                *slot = candidate;
            }
        }
    }
    found.into_values().collect()
}

/// The ready ones or, if there are none, those that serve while they terminate (upstream's CategorizeEndpoints,
/// KEP-1669). Under the policy Local the candidates are this node's, which therefore fall back by themselves.
fn select(candidates: &[Candidate]) -> Vec<Backend> {
    let ready: Vec<Backend> = candidates.iter().filter(|c| c.ready).map(|c| c.backend).collect();
    if !ready.is_empty() {
        return ready;
    }
    candidates.iter().filter(|c| c.last_resort()).map(|c| c.backend).collect()
}

/// Conditions that are absent mean ready, serving as ready, and not terminating (discovery/v1 EndpointConditions).
fn candidate(endpoint: &Endpoint, port: u16, node: &str, publish_not_ready: bool) -> Option<Candidate> {
    // Consumers use the first address only; the others are undefined (discovery/v1 Endpoint).
    let addr = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    let local = endpoint.node_name.as_deref() == Some(node);
    let backend = Backend { addr, port, local, terminating };
    Some(Candidate { backend, ready: ready || publish_not_ready, serving })
}

/// The number that a slice gives a Service's port; slices may differ where `targetPort` is a name.
fn slice_port(slice: &EndpointSlice, port: &PortSpec, protocol: Protocol) -> Option<u16> {
    let wanted = port.name.as_deref().unwrap_or_default();
    let ports = slice.ports.iter().flatten();
    let mut named = ports.filter(|p| p.name.as_deref().unwrap_or_default() == wanted);
    let found = named.find(|p| Protocol::parse(p.protocol.as_deref()) == Some(protocol))?;
    u16::try_from(found.port?).ok().filter(|number| *number != 0)
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
