//! Fields of a service that depend on its type or on what was allocated: `patchAllocatedValues`, `dropTypeDependentFields`, `normalizeClusterIPs`.

use serde_json::{Value, json};

use crate::value::{at, integer, items, items_mut, keep, remove, same, set, string};

pub fn needs_cluster_ip(service: &Value) -> bool {
    ["ClusterIP", "NodePort", "LoadBalancer"].contains(&string(service, "spec.type"))
}

pub fn needs_node_port(service: &Value) -> bool {
    match string(service, "spec.type") {
        "NodePort" => true,
        "LoadBalancer" => at(service, "spec.allocateLoadBalancerNodePorts").as_bool().unwrap_or(true),
        _ => false,
    }
}

pub fn is_headless(service: &Value) -> bool {
    string(service, "spec.clusterIP") == "None"
}

/// `ExternallyAccessible`, of a spec.
pub fn externally_accessible(spec: &Value) -> bool {
    match string(spec, "type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !items(spec, "externalIPs").is_empty(),
        _ => false,
    }
}

pub fn needs_health_check_port(service: &Value) -> bool {
    string(service, "spec.type") == "LoadBalancer" && string(service, "spec.externalTrafficPolicy") == "Local"
}

/// An update that leaves out what the server allocated keeps it.
pub fn patch_allocated(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if string(new, "spec.clusterIP").is_empty() {
            keep(new, old, "spec.clusterIP");
        }
        if items(new, "spec.clusterIPs").is_empty() && string(new, "spec.clusterIP") == string(old, "spec.clusterIP") {
            keep(new, old, "spec.clusterIPs");
        }
    }
    if needs_node_port(old) && needs_node_port(new) {
        let used: Vec<i64> = items(new, "spec.ports").iter().filter_map(node_port).collect();
        for port in items_mut(new, "spec.ports").filter(|port| node_port(port).is_none()) {
            let before = items(old, "spec.ports").iter().find(|before| same_port(before, port));
            if let Some(number) = before.and_then(node_port).filter(|number| !used.contains(number)) {
                port["nodePort"] = json!(number);
            }
        }
    }
    if needs_health_check_port(old)
        && needs_health_check_port(new)
        && integer(new, "spec.healthCheckNodePort").unwrap_or(0) == 0
    {
        keep(new, old, "spec.healthCheckNodePort");
    }
}

/// Brings `clusterIP` and `clusterIPs` in line when a client wrote one of them.
pub fn normalize(new: &mut Value, old: Option<&Value>) {
    let ip = string(new, "spec.clusterIP").to_owned();
    let Some(old) = old else {
        if !ip.is_empty() && items(new, "spec.clusterIPs").is_empty() {
            set(new, "spec.clusterIPs", json!([ip]));
        }
        return;
    };
    let same_list = same(at(new, "spec.clusterIPs"), at(old, "spec.clusterIPs"));
    if ip != string(old, "spec.clusterIP") {
        if ip.is_empty() && same_list {
            remove(new, "spec.clusterIPs");
        } else if same_list || items(new, "spec.clusterIPs").is_empty() {
            set(new, "spec.clusterIPs", json!([ip]));
        }
    }
}

/// A change of type drops what only the old type had, unless the client changed it as well (then validation speaks).
pub fn drop_of_other_types(new: &mut Value, old: &Value) {
    let unchanged = |new: &Value, field: &str| same(at(new, field), at(old, field));
    if needs_cluster_ip(old) && !needs_cluster_ip(new) && unchanged(new, "spec.clusterIP") {
        for field in ["spec.clusterIP", "spec.clusterIPs", "spec.ipFamilies", "spec.ipFamilyPolicy"] {
            remove(new, field);
        }
    }
    let node_ports =
        |service: &Value| -> Vec<i64> { items(service, "spec.ports").iter().filter_map(node_port).collect() };
    if needs_node_port(old) && !needs_node_port(new) && node_ports(new) == node_ports(old) {
        for port in items_mut(new, "spec.ports") {
            remove(port, "nodePort");
        }
    }
    if needs_health_check_port(old) && !needs_health_check_port(new) && unchanged(new, "spec.healthCheckNodePort") {
        remove(new, "spec.healthCheckNodePort");
    }
    if string(old, "spec.type") == "LoadBalancer" && string(new, "spec.type") != "LoadBalancer" {
        for field in ["spec.allocateLoadBalancerNodePorts", "spec.loadBalancerClass"] {
            if unchanged(new, field) {
                remove(new, field);
            }
        }
    }
    if externally_accessible(at(old, "spec"))
        && !externally_accessible(at(new, "spec"))
        && unchanged(new, "spec.externalTrafficPolicy")
    {
        remove(new, "spec.externalTrafficPolicy");
    }
    if string(new, "spec.type") == "ExternalName" && unchanged(new, "spec.internalTrafficPolicy") {
        remove(new, "spec.internalTrafficPolicy");
    }
}

/// The allocated node port of a service port.
pub fn node_port(port: &Value) -> Option<i64> {
    integer(port, "nodePort").filter(|number| *number != 0)
}

fn same_port(a: &Value, b: &Value) -> bool {
    string(a, "protocol") == string(b, "protocol") && integer(a, "port") == integer(b, "port")
}
