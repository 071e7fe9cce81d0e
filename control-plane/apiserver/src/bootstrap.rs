//! Objects that every cluster has, made after start and put right when they are wrong.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use xebec_machinery::net;

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

/// Everything but the RBAC policy. `today` as `2026-01-02`.
pub fn objects(config: &Config, today: &str) -> Vec<Bootstrap> {
    let mut objects: Vec<_> = NAMESPACES.iter().map(|name| namespace(name)).collect();
    objects.push(token_tracking(today));
    objects.push(service_cidr(config));
    objects.push(kubernetes_service(config));
    if !config.shared_store {
        objects.extend(endpoints(&[SocketAddr::new(config.advertise_address, config.advertise_port)]));
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

/// Since when the use of tokens in Secrets is noted: before that, nobody can say that one was not used (`legacytokentracking`).
fn token_tracking(today: &str) -> Bootstrap {
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
        "data": {"since": today},
    });
    Bootstrap { collection: "/api/v1/namespaces/kube-system/configmaps".to_owned(), object, reconciled: &[] }
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

/// The name of the ServiceCIDR that the server's flags say.
pub const SERVICE_CIDR: &str = "kubernetes";

fn service_cidr(config: &Config) -> Bootstrap {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": SERVICE_CIDR},
        "spec": {"cidrs": config.service_cluster_ip_range},
    });
    Bootstrap { collection: "/apis/networking.k8s.io/v1/servicecidrs".to_owned(), object, reconciled: &[] }
}

/// The first address of the service range, as upstream reserves it.
fn kubernetes_service(config: &Config) -> Bootstrap {
    let address = config.service_cluster_ip_range.first().map(|range| net::address(*range, 1).to_string());
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.advertise_port}],
            "sessionAffinity": "None",
        },
    });
    Bootstrap { collection: "/api/v1/namespaces/default/services".to_owned(), object, reconciled: &[] }
}

/// Where `default/kubernetes` leads to. Servers are expected to have one port; of several the lowest counts.
pub fn endpoints(servers: &[SocketAddr]) -> Vec<Bootstrap> {
    // Endpoints refuse loopback addresses: nobody but this machine could use them.
    let servers = || servers.iter().filter(|server| !server.ip().is_loopback());
    let Some(port) = servers().map(SocketAddr::port).min() else { return Vec::new() };
    let addresses: Vec<IpAddr> = servers().filter(|server| server.port() == port).map(SocketAddr::ip).collect();
    // A slice has addresses of one family.
    let slice = |v4: bool| addresses.iter().copied().filter(|address| address.is_ipv4() == v4).collect::<Vec<_>>();
    let slices = [(slice(true), "IPv4", "kubernetes"), (slice(false), "IPv6", "kubernetes-ipv6")];
    let used = slices.iter().filter(|(addresses, ..)| !addresses.is_empty());
    let slices = used.map(|(addresses, family, name)| kubernetes_endpoint_slice(addresses, family, name, port));
    std::iter::once(kubernetes_endpoints(&addresses, port)).chain(slices).collect()
}

fn kubernetes_endpoints(addresses: &[IpAddr], port: u16) -> Bootstrap {
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": addresses,
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }],
    });
    Bootstrap { collection: "/api/v1/namespaces/default/endpoints".to_owned(), object, reconciled: &["subsets"] }
}

fn kubernetes_endpoint_slice(addresses: &[IpAddr], family: &str, name: &str, port: u16) -> Bootstrap {
    let endpoint = |address: &IpAddr| json!({"addresses": [address.to_string()], "conditions": {"ready": true}});
    let object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family,
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
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
