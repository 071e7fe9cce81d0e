//! `hostPort`s of pods: frontends on the node's addresses with one backend, the pod.

use std::net::IpAddr;

use xebec_types::core::{ContainerPort, Pod};
use xebec_types::object;

use crate::{
    Addresses, Algorithm, Backend, Forwarding, Frontend, FrontendKey, FrontendKind, Node, PortId, Protocol, Scope,
    ServiceKey, ServicePort, TrafficPolicy,
};

/// Starts the name that stands for a pod among those of Services, none of which has a slash.
const PREFIX: &str = "pod/";

/// The pod's place in the tables.
pub fn key_of(namespace: &str, name: &str) -> ServiceKey {
    ServiceKey::new(namespace, &format!("{PREFIX}{name}"))
}

/// The name of the pod that a place in the tables is for.
pub fn pod_of(key: &ServiceKey) -> Option<&str> {
    key.name.strip_prefix(PREFIX)
}

/// The service ports of one pod of `node`. A pod on the node's own network has its ports without help.
pub fn compile_host_ports(pod: &Pod, node: &Node) -> Vec<ServicePort> {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return Vec::new() };
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let pod_ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let pod_ips: Vec<IpAddr> = pod_ips.filter_map(|ip| ip.parse().ok()).collect();
    if over || spec.host_network == Some(true) || spec.node_name.as_deref() != Some(&node.name) {
        return Vec::new();
    }
    let key = key_of(object::namespace(&pod.metadata), object::name(&pod.metadata));
    // Sidecars are among the init containers.
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.flat_map(|port| pod_ips.iter().filter_map(|ip| service_port(&key, port, *ip, node))).collect()
}

fn service_port(key: &ServiceKey, port: &ContainerPort, pod_ip: IpAddr, node: &Node) -> Option<ServicePort> {
    let protocol = Protocol::parse(port.protocol.as_deref())?;
    let host_port = u16::try_from(port.host_port?).ok().filter(|port| *port != 0)?;
    let wanted = port.host_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()).filter(|ip| !ip.is_unspecified());
    let mut frontends = Vec::new();
    let mut add = |addrs: &[IpAddr], scopes: &[Scope]| {
        let fits = |addr: &&IpAddr| addr.is_ipv6() == pod_ip.is_ipv6() && wanted.is_none_or(|wanted| wanted == **addr);
        for addr in addrs.iter().filter(fits) {
            let key = |scope: &Scope| FrontendKey { addr: *addr, port: host_port, protocol, scope: *scope };
            frontends.extend(scopes.iter().map(|scope| Frontend { key: key(scope), kind: FrontendKind::HostPort }));
        }
    };
    let Addresses { outside, inside } = &node.addresses.host_ports;
    add(outside, &[Scope::Internal, Scope::External]);
    add(inside, &[Scope::Internal]);
    frontends.sort_unstable();
    let backend = Backend {
        addr: pod_ip,
        port: u16::try_from(port.container_port).ok()?,
        local: true,
        terminating: false,
        weight: 0,
    };
    (!frontends.is_empty()).then(|| ServicePort {
        id: PortId {
            service: key.clone(),
            port: host_port.to_string().into(),
            protocol,
            policy: TrafficPolicy::Cluster,
        },
        frontends,
        backends: vec![backend],
        affinity: None,
        source_ranges: Vec::new(),
        algorithm: Algorithm::Random,
        forwarding: Forwarding::Snat,
    })
}
