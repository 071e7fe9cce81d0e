//! Services and EndpointSlices as DNS records.

use std::collections::BTreeMap;
use std::net::IpAddr;

use xebec_types::core::Service;
use xebec_types::discovery::{EndpointPort, EndpointSlice};
use xebec_types::object;

use crate::{Endpoint, Kind, Port, ServiceRecord};

/// `None` for what has no name: a Service that has no address yet.
pub fn compile(service: &Service, slices: &[&EndpointSlice]) -> Option<ServiceRecord> {
    let spec = service.spec.as_ref()?;
    let kind = if spec.type_.as_deref() == Some("ExternalName") {
        Kind::ExternalName(spec.external_name.clone().filter(|name| !name.is_empty())?)
    } else {
        let many = spec.cluster_ips.as_deref().unwrap_or_default();
        let addresses = if many.is_empty() { spec.cluster_ip.as_slice() } else { many };
        if addresses.iter().any(|ip| ip == "None") {
            Kind::Headless
        } else {
            let addresses: Vec<IpAddr> = addresses.iter().filter_map(|ip| ip.parse().ok()).collect();
            if addresses.is_empty() {
                return None;
            }
            Kind::ClusterIp(addresses)
        }
    };
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let (name, protocol) = (port.name.clone().unwrap_or_default(), protocol(port.protocol.as_deref()));
        Some(Port { name, protocol, number: u16::try_from(port.port).ok()? })
    });
    let publish_not_ready = spec.publish_not_ready_addresses == Some(true);
    Some(ServiceRecord {
        namespace: object::namespace(&service.metadata).to_owned(),
        name: object::name(&service.metadata).to_owned(),
        ports: ports.collect(),
        endpoints: match kind {
            Kind::ExternalName(_) => Vec::new(),
            _ => endpoints(slices, publish_not_ready),
        },
        kind,
    })
}

/// The ready endpoints of all slices, one per address and hostname, with the ports of all of them.
fn endpoints(slices: &[&EndpointSlice], publish_not_ready: bool) -> Vec<Endpoint> {
    let mut found: BTreeMap<(IpAddr, Option<String>), Vec<Port>> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
        let ports: Vec<Port> = slice.ports.iter().flatten().filter_map(port).collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            if !ready && !publish_not_ready {
                continue;
            }
            let hostname = endpoint.hostname.clone().filter(|name| !name.is_empty());
            for addr in endpoint.addresses.iter().filter_map(|addr| addr.parse().ok()) {
                found.entry((addr, hostname.clone())).or_default().extend(ports.iter().cloned());
            }
        }
    }
    let endpoint = |((addr, hostname), mut ports): (_, Vec<Port>)| {
        ports.sort();
        ports.dedup();
        Endpoint { addr, hostname, ports }
    };
    found.into_iter().map(endpoint).collect()
}

fn port(port: &EndpointPort) -> Option<Port> {
    let number = u16::try_from(port.port?).ok()?;
    Some(Port { name: port.name.clone().unwrap_or_default(), protocol: protocol(port.protocol.as_deref()), number })
}

fn protocol(protocol: Option<&str>) -> String {
    protocol.unwrap_or("TCP").to_ascii_lowercase()
}
