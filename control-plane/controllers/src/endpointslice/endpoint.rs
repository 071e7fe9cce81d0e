//! From a Service and a pod to an endpoint.

use xebec_machinery::net::IpFamily;
use xebec_types::core::{ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use xebec_types::discovery::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone};
use xebec_types::{IntOrString, object, pod};

/// The families in which a Service has endpoints.
pub fn families(spec: &ServiceSpec) -> Vec<IpFamily> {
    let families: Vec<_> = spec.ip_families.iter().flatten().filter_map(|name| IpFamily::named(name)).collect();
    if families.is_empty() { vec![IpFamily::Ipv4] } else { families }
}

/// A Service whose endpoints are other people's business has no selector, or is a DNS alias.
pub fn has_endpoints(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some("ExternalName") && spec.selector.iter().flatten().next().is_some()
}

pub fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

pub fn publishes_not_ready(spec: &ServiceSpec) -> bool {
    spec.publish_not_ready_addresses.unwrap_or_default()
}

/// The pod's addresses of a family.
pub fn addresses(pod: &Pod, family: IpFamily) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let many = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut all: Vec<&str> = many.collect();
    if all.is_empty() {
        all.extend(status.pod_ip.as_deref());
    }
    let in_family = |ip: &&str| ip.parse().is_ok_and(|ip| IpFamily::of(ip) == family);
    all.into_iter().filter(in_family).map(String::from).collect()
}

/// `None` if the pod has no address or will never run again. `zone` is its node's.
pub fn endpoint(
    service: &Service,
    spec: &ServiceSpec,
    pod: &Pod,
    family: IpFamily,
    zone: Option<String>,
) -> Option<Endpoint> {
    let addresses = addresses(pod, family);
    if pod::is_terminal(pod) || addresses.is_empty() {
        return None;
    }
    let serving = pod::is_ready(pod);
    let terminating = pod::is_terminating(pod);
    let ready = publishes_not_ready(spec) || (serving && !terminating);
    let node_name = Some(pod::node_name(pod).to_string()).filter(|n| !n.is_empty());
    Some(Endpoint {
        addresses,
        hints: if ready { hints(spec, node_name.as_deref(), zone.as_deref()) } else { None },
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name,
        target_ref: Some(target_ref(pod)),
        zone,
        ..Endpoint::default()
    })
}

/// Who should use a ready endpoint, by `trafficDistribution`: as upstream's
/// `ReconcileHintsForTrafficDistribution` (k8s.io/endpointslice/trafficdist). A node's hint comes with its zone's, for
/// proxies that know only zones.
pub fn hints(spec: &ServiceSpec, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let zones = || zone.map(|name| vec![ForZone { name: name.to_owned() }]);
    match spec.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => Some(EndpointHints { for_nodes: None, for_zones: Some(zones()?) }),
        "PreferSameNode" => {
            Some(EndpointHints { for_nodes: Some(vec![ForNode { name: node?.to_owned() }]), for_zones: zones() })
        }
        _ => None,
    }
}

pub fn target_ref(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// A pod that names itself within the Service's subdomain gets a DNS name of its own.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let ours = spec.subdomain.as_deref() == Some(object::name(&service.metadata));
    spec.hostname.clone().filter(|hostname| ours && !hostname.is_empty())
}

/// The Service's ports as this pod serves them; a named port that the pod lacks is left out.
pub fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    let served = |port: &ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(port, pod)?),
            protocol: Some(protocol(port).into()),
            app_protocol: port.app_protocol.clone(),
        })
    };
    spec.ports.iter().flatten().filter_map(served).collect()
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("TCP")
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    // Sidecars are init containers that keep running.
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let named = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let wanted = protocol(port);
    named
        .filter(|p| p.name.as_deref() == Some(name))
        .find(|p| p.protocol.as_deref().unwrap_or("TCP") == wanted)
        .map(|p| p.container_port)
}

/// Whether a change of the pod can change endpoints.
pub fn differs(old: &Pod, new: &Pod) -> bool {
    let view = |pod: &Pod| {
        let status = pod.status.as_ref();
        (
            pod::is_ready(pod),
            pod::is_terminating(pod),
            pod::is_terminal(pod),
            status.and_then(|s| s.pod_ip.clone()),
            status.and_then(|s| s.pod_ips.clone()),
            pod::node_name(pod).to_string(),
        )
    };
    let hostname = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.hostname.clone());
    view(old) != view(new) || old.metadata.labels != new.metadata.labels || hostname(old) != hostname(new)
}
