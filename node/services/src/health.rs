//! `healthCheckNodePort`: what load balancers ask a node about a Service with `externalTrafficPolicy: Local`.

use std::collections::BTreeSet;

use serde_json::json;
use xebec_types::core::Service;
use xebec_types::discovery::EndpointSlice;
use xebec_types::object;

use crate::{Node, ServiceKey};

/// What a node answers for one Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    pub service: ServiceKey,
    pub port: u16,
    /// Ready endpoints on this node; those that terminate do not count.
    pub local_endpoints: usize,
}

impl HealthCheck {
    pub fn is_healthy(&self) -> bool {
        self.local_endpoints != 0
    }

    /// kube-proxy's answer (pkg/proxy/healthcheck/service_health.go), of a proxy that is healthy: the datapath forwards
    /// whether or not an agent runs.
    pub fn body(&self) -> String {
        let body = json!({
            "service": { "namespace": &*self.service.namespace, "name": &*self.service.name },
            "localEndpoints": self.local_endpoints,
            "serviceProxyHealthy": true,
        });
        body.to_string()
    }
}

/// `None` for a Service that no load balancer asks about.
pub fn health_check(service: &Service, slices: &[&EndpointSlice], node: &Node) -> Option<HealthCheck> {
    let spec = service.spec.as_ref()?;
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    if spec.type_.as_deref() != Some("LoadBalancer") || !local {
        return None;
    }
    let port = u16::try_from(spec.health_check_node_port?).ok().filter(|port| *port != 0)?;
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        ready && endpoint.node_name.as_deref() == Some(&node.name)
    });
    let addresses: BTreeSet<_> = ready.filter_map(|endpoint| endpoint.addresses.first()).collect();
    Some(HealthCheck {
        service: ServiceKey::new(object::namespace(&service.metadata), object::name(&service.metadata)),
        port,
        local_endpoints: addresses.len(),
    })
}
