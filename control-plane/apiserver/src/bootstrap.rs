//! Objects that every cluster has, made after start and put right when they are wrong.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::Config;

/// An object and where it lives.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The collection's path: `/api/v1/namespaces/default/services`.
    pub collection: String,
    pub object: Value,
    /// Fields of the object that are put back when they differ, as top-level names; none: created once.
    pub reconciled: &'static [&'static str],
}

/// The namespaces, in the order of creation.
pub const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Everything but the RBAC policy.
pub fn objects(config: &Config) -> Vec<Bootstrap> {
    let mut objects: Vec<_> = NAMESPACES.iter().map(|name| namespace(name)).collect();
    objects.push(kubernetes_service(config));
    // Endpoints refuse loopback addresses: nobody but this machine could use them.
    if !config.advertise_address.is_loopback() {
        objects.push(kubernetes_endpoints(config));
        objects.push(kubernetes_endpoint_slice(config));
    }
    objects.extend(xebec_registry::scheduling::SYSTEM.map(priority_class));
    objects.extend(config.bootstrap_token.as_deref().and_then(token_secret));
    objects
}

fn namespace(name: &str) -> Bootstrap {
    Bootstrap {
        collection: "/api/v1/namespaces".to_owned(),
        object: json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        reconciled: &[],
    }
}

/// A priority that pods of the system may ask for (`scheduling/bootstrap-system-priority-classes`).
fn priority_class((name, value, description): (&str, i64, &str)) -> Bootstrap {
    let object = json!({
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "description": description,
    });
    Bootstrap { collection: "/apis/scheduling.k8s.io/v1/priorityclasses".to_owned(), object, reconciled: &[] }
}

/// The first address of the service range, as upstream reserves it.
fn kubernetes_service(config: &Config) -> Bootstrap {
    let address = config.service_cluster_ip_range.hosts().next().unwrap_or(config.service_cluster_ip_range.network());
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address.to_string(),
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.advertise_port}],
            "sessionAffinity": "None",
        },
    });
    Bootstrap { collection: "/api/v1/namespaces/default/services".to_owned(), object, reconciled: &[] }
}

fn kubernetes_endpoints(config: &Config) -> Bootstrap {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": [{"ip": config.advertise_address.to_string()}],
            "ports": [{"name": "https", "port": config.advertise_port, "protocol": "TCP"}],
        }],
    });
    Bootstrap { collection: "/api/v1/namespaces/default/endpoints".to_owned(), object, reconciled: &["subsets"] }
}

fn kubernetes_endpoint_slice(config: &Config) -> Bootstrap {
    let address_type = match config.advertise_address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": address_type,
        "endpoints": [{"addresses": [config.advertise_address.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": config.advertise_port, "protocol": "TCP"}],
    });
    let collection = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices".to_owned();
    Bootstrap { collection, object, reconciled: &["endpoints", "ports"] }
}

/// The Secret of a bootstrap token (kubernetes.io, "Authenticating with Bootstrap Tokens"); `None` when
/// the token is not of the form `id.secret`.
fn token_secret(token: &str) -> Option<Bootstrap> {
    let (id, secret) = token.split_once('.')?;
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": format!("bootstrap-token-{id}")},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "description": "joins nodes; made by the server at start",
            "token-id": id,
            "token-secret": secret,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:xebec:default-node-token",
        },
    });
    Some(Bootstrap { collection: "/api/v1/namespaces/kube-system/secrets".to_owned(), object, reconciled: &[] })
}
