//! The Endpoints that a Service should have.

use crate::endpointslice::endpoint;
use std::sync::Arc;
use xebec_machinery::net::IpFamily;
use xebec_types::core::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service, ServiceSpec};
use xebec_types::{ObjectMeta, annotation, label, object, pod};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
/// Addresses in one object; what is beyond is dropped and annotated, as upstream does.
const MAX_ADDRESSES: usize = 1000;

/// What to write; `None` if `known` is right, or the Service's endpoints are not ours to write.
#[must_use]
pub fn step(service: &Service, pods: &[Arc<Pod>], known: Option<&Endpoints>) -> Option<Endpoints> {
    let spec = service.spec.as_ref().filter(|s| endpoint::has_endpoints(s))?;
    if object::is_being_deleted(&service.metadata) {
        return None;
    }
    let family = *endpoint::families(spec).first()?;
    let (subsets, truncated) = truncate(subsets(service, spec, pods, family));
    let mut desired = known.cloned().unwrap_or_else(|| empty(service));
    desired.subsets = Some(subsets).filter(|s| !s.is_empty());
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    labels.remove(label::HEADLESS_SERVICE);
    if endpoint::is_headless(spec) {
        labels.insert(label::HEADLESS_SERVICE.into(), String::new());
    }
    desired.metadata.labels = Some(labels);
    let annotations = desired.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(annotation::OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(annotation::OVER_CAPACITY);
    }
    if annotations.is_empty() && known.is_none_or(|k| k.metadata.annotations.is_none()) {
        desired.metadata.annotations = None;
    }
    (known != Some(&desired)).then_some(desired)
}

pub(super) fn is_ours(meta: &ObjectMeta) -> bool {
    object::label(meta, MANAGED_BY) == Some(CONTROLLER)
}

fn empty(service: &Service) -> Endpoints {
    Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    }
}

/// One subset for each set of ports, addresses in order.
fn subsets(service: &Service, spec: &ServiceSpec, pods: &[Arc<Pod>], family: IpFamily) -> Vec<EndpointSubset> {
    let mut subsets: Vec<EndpointSubset> = Vec::new();
    for pod in pods {
        let publish = endpoint::publishes_not_ready(spec);
        if pod::is_terminal(pod) || (pod::is_terminating(pod) && !publish) {
            continue;
        }
        let Some(address) = address(service, pod, family) else { continue };
        let ports = ports(spec, pod);
        if ports.is_empty() && !endpoint::is_headless(spec) {
            continue;
        }
        let ports = Some(ports).filter(|p| !p.is_empty());
        let at = subsets.iter().position(|s| s.ports == ports).unwrap_or_else(|| {
            subsets.push(EndpointSubset { ports, ..EndpointSubset::default() });
            subsets.len() - 1
        });
        let subset = &mut subsets[at];
        let ready = publish || pod::is_ready(pod);
        let addresses = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        addresses.get_or_insert_default().push(address);
    }
    for subset in &mut subsets {
        for addresses in [&mut subset.addresses, &mut subset.not_ready_addresses] {
            addresses.iter_mut().for_each(|a| a.sort_by(|x, y| x.ip.cmp(&y.ip)));
        }
    }
    subsets.sort_by_key(|s| s.ports.iter().flatten().map(|p| (p.port, p.name.clone())).collect::<Vec<_>>());
    subsets
}

fn address(service: &Service, pod: &Pod, family: IpFamily) -> Option<EndpointAddress> {
    Some(EndpointAddress {
        ip: endpoint::addresses(pod, family).into_iter().next()?,
        hostname: endpoint::hostname(service, pod),
        node_name: Some(pod::node_name(pod).to_string()).filter(|n| !n.is_empty()),
        target_ref: Some(endpoint::target_ref(pod)),
    })
}

fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    let ports = endpoint::ports(spec, pod).into_iter().filter_map(|port| {
        Some(EndpointPort {
            name: port.name.filter(|n| !n.is_empty()),
            port: port.port?,
            protocol: port.protocol,
            app_protocol: port.app_protocol,
        })
    });
    ports.collect()
}

/// Ready addresses are kept before others.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let mut room = MAX_ADDRESSES;
    let mut truncated = false;
    let mut cut = |addresses: &mut Option<Vec<EndpointAddress>>| {
        let Some(list) = addresses else { return };
        truncated |= list.len() > room;
        list.truncate(room);
        room -= list.len();
        if list.is_empty() {
            *addresses = None;
        }
    };
    subsets.iter_mut().for_each(|s| cut(&mut s.addresses));
    subsets.iter_mut().for_each(|s| cut(&mut s.not_ready_addresses));
    subsets.retain(|s| s.addresses.is_some() || s.not_ready_addresses.is_some());
    (subsets, truncated)
}
