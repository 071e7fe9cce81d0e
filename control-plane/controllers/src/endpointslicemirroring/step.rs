//! The slices that hand-written Endpoints should have.

use crate::control;
use crate::endpointslice::endpoint;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use xebec_types::core::{EndpointAddress, EndpointSubset, Endpoints, Service, ServiceSpec};
use xebec_types::discovery::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use xebec_types::{ObjectMeta, label, object};

const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
/// Written by leader election of old; never mirrored.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses mirrored from one subset.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PER_SLICE: usize = 100;

#[derive(Default, Debug)]
pub struct Plan {
    /// Slices to create (no name) or replace.
    pub put: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// `slices` are our mirrors of these Endpoints.
#[must_use]
pub fn step(service: Option<&Service>, endpoints: Option<&Endpoints>, slices: &[Arc<EndpointSlice>]) -> Plan {
    let is_bare = |s: &&Service| {
        let is_alias = |s: &ServiceSpec| s.type_.as_deref() == Some("ExternalName");
        s.spec.as_ref().is_some_and(|s| !endpoint::has_endpoints(s) && !is_alias(s))
    };
    let endpoints = endpoints.filter(|e| is_mirrored(e) && service.as_ref().is_some_and(is_bare));
    let desired = endpoints.map(mirrors).unwrap_or_default();
    let mut spare: Vec<&Arc<EndpointSlice>> = slices.iter().collect();
    let mut plan = Plan::default();
    for mut slice in desired {
        let same = |known: &&Arc<EndpointSlice>| known.address_type == slice.address_type && known.ports == slice.ports;
        if let Some(at) = spare.iter().position(same) {
            let known = spare.remove(at);
            let wanted = std::mem::take(&mut slice.metadata);
            slice.metadata = known.metadata.clone();
            slice.metadata.labels = wanted.labels;
            slice.metadata.owner_references = wanted.owner_references;
            if slice == **known {
                continue;
            }
        }
        plan.put.push(slice);
    }
    plan.delete = spare.into_iter().cloned().collect();
    plan
}

pub(super) fn is_ours(slice: &EndpointSlice) -> bool {
    object::label(&slice.metadata, label::ENDPOINTSLICE_MANAGED_BY) == Some(MANAGED_BY)
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    object::label(meta, label::ENDPOINTSLICE_SKIP_MIRROR) != Some("true")
        && object::annotation(meta, LEADER).is_none()
        && !object::is_being_deleted(meta)
}

fn mirrors(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let subsets = endpoints.subsets.iter().flatten();
    subsets.flat_map(|subset| mirror(endpoints, subset)).collect()
}

fn mirror(owner: &Endpoints, subset: &EndpointSubset) -> Vec<EndpointSlice> {
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: port.app_protocol.clone(),
    });
    let ports: Vec<EndpointPort> = ports.collect();
    let ready = subset.addresses.iter().flatten().map(|a| (a, true));
    let others = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
    let mut families: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
    for (address, ready) in ready.chain(others).take(MAX_ENDPOINTS) {
        let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        families.entry(family).or_default().push(mirrored(address, ready));
    }
    let slice = |family: &str, endpoints: &[Endpoint]| EndpointSlice {
        metadata: meta(owner),
        address_type: family.into(),
        endpoints: Some(endpoints.to_vec()),
        ports: Some(ports.clone()),
    };
    let chunks = families
        .iter()
        .flat_map(|(family, endpoints)| endpoints.chunks(MAX_PER_SLICE).map(|chunk| slice(family, chunk)));
    chunks.collect()
}

fn mirrored(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn meta(owner: &Endpoints) -> ObjectMeta {
    let name = object::name(&owner.metadata);
    let mut labels = owner.metadata.labels.clone().unwrap_or_default();
    labels.insert(label::SERVICE_NAME.into(), name.into());
    labels.insert(label::ENDPOINTSLICE_MANAGED_BY.into(), MANAGED_BY.into());
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: owner.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![control::controller_ref(owner)]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoints() -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "ns", "uid": "e"},
            "subsets": [{
                "addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
                "notReadyAddresses": [{"ip": "192.0.2.2"}],
                "ports": [{"port": 5432, "name": "pg"}],
            }],
        }))
        .expect("Endpoints")
    }

    fn service(selector: Option<&str>) -> Service {
        let selector = selector.map(|app| json!({"app": app}));
        serde_json::from_value(json!({
            "metadata": {"name": "db"}, "spec": {"selector": selector},
        }))
        .expect("Service")
    }

    #[test]
    fn hand_written_endpoints_are_mirrored_by_family() {
        let plan = step(Some(&service(None)), Some(&endpoints()), &[]);
        let view: Vec<_> =
            plan.put.iter().map(|s| (s.address_type.as_str(), s.endpoints.as_ref().map_or(0, Vec::len))).collect();
        assert_eq!(view, [("IPv4", 2), ("IPv6", 1)]);
        let named = |(n, slice): (usize, EndpointSlice)| {
            let mut slice = slice;
            slice.metadata.name = Some(format!("db-{n}"));
            Arc::new(slice)
        };
        let slices: Vec<_> = plan.put.into_iter().enumerate().map(named).collect();
        let again = step(Some(&service(None)), Some(&endpoints()), &slices);
        assert!(again.put.is_empty() && again.delete.is_empty());
        let gone = step(Some(&service(None)), None, &slices);
        assert_eq!(gone.delete.len(), 2);
    }

    #[test]
    fn endpoints_of_a_selector_are_not() {
        assert!(step(Some(&service(Some("db"))), Some(&endpoints()), &[]).put.is_empty());
        assert!(step(None, Some(&endpoints()), &[]).put.is_empty());
        let mut skipped = endpoints();
        let label = (label::ENDPOINTSLICE_SKIP_MIRROR.to_string(), "true".to_string());
        skipped.metadata.labels = Some([label].into());
        assert!(step(Some(&service(None)), Some(&skipped), &[]).put.is_empty());
    }
}
