//! `ValidateService` and `ValidateServiceUpdate`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use xebec_machinery::field::Path;
use xebec_machinery::net::IpFamily;
use xebec_machinery::validation;

use super::fields::{externally_accessible, is_headless, needs_cluster_ip, needs_health_check_port, node_port};
use crate::errors::Errors;
use crate::meta;
use crate::names::{is_ip, label, port_number, port_or_name, subdomain};
use crate::pod::PROTOCOLS;
use crate::value::{at, integer, is_set, items, string, strings};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const KUBELET_PORT: i64 = 10250;
const AFFINITY_SECONDS_MAX: i64 = 86_400;
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
const NO_EXTERNAL_NAME: &str = "may not be set for ExternalName services";

pub fn validate(service: &Value, errors: &mut Errors) {
    let (spec, path) = (at(service, "spec"), Path::new("spec"));
    if items(spec, "ports").is_empty() && !is_headless(service) && string(spec, "type") != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    of_type(service, &path, errors);
    ports(spec, &path.child("ports"), errors);
    meta::labels(at(spec, "selector"), &path.child("selector"), errors);
    errors.one_of(&path.child("sessionAffinity"), string(spec, "sessionAffinity"), &["ClientIP", "None"]);
    affinity(spec, &path.child("sessionAffinityConfig"), errors);
    cluster_ips(service, &path, errors);
    for (index, ip) in strings(spec, "externalIPs").enumerate() {
        external_ip(ip, &path.child("externalIPs").index(index), errors);
    }
    errors.one_of(&path.child("type"), string(spec, "type"), TYPES);
    load_balancer_only(spec, &path, errors);
    traffic_policies(service, &path, errors);
}

pub fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        cluster_ips_update(new, old, &path, errors);
        families_update(new, old, &path, errors);
    }
    let class = at(old, "spec.loadBalancerClass");
    let both = [old, new].iter().all(|service| string(service, "spec.type") == "LoadBalancer");
    if both && class != at(new, "spec.loadBalancerClass") {
        errors.invalid(
            &path.child("loadBalancerClass"),
            at(new, "spec.loadBalancerClass").clone(),
            "may not change once set",
        );
    }
}

/// `validateUpgradeDowngradeClusterIPs`.
fn cluster_ips_update(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if is_headless(old) && is_headless(new) {
        return;
    }
    let (value, list) = (at(new, "spec.clusterIPs"), path.child("clusterIPs"));
    let (before, after) = (items(old, "spec.clusterIPs"), items(new, "spec.clusterIPs"));
    if !before.is_empty() && after.is_empty() {
        errors.invalid(&list.index(0), value.clone(), "primary clusterIP can not be unset");
    }
    let compared = if before.len() == after.len() { before.len() } else { 1 };
    for index in (0..compared.min(before.len()).min(after.len())).filter(|index| before[*index] != after[*index]) {
        errors.invalid(&list.index(index), value.clone(), "may not change once set");
    }
    if before.len() > after.len() && after.len() == 1 {
        released(new, "clusterIP", path, errors);
    }
}

/// `validateUpgradeDowngradeIPFamilies`, with its index of the first family in every path.
fn families_update(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    // A headless Service may change its families.
    if is_headless(old) || is_headless(new) {
        return;
    }
    let (value, first) = (at(new, "spec.ipFamilies"), path.child("ipFamilies").index(0));
    let (before, after) = (items(old, "spec.ipFamilies"), items(new, "spec.ipFamilies"));
    if before.len() > after.len() && items(new, "spec.clusterIPs").is_empty() {
        errors.invalid(&first, value.clone(), "primary ipFamily can not be unset");
    }
    let compared = if before.len() == after.len() { before.len() } else { 1 };
    for _ in before.iter().zip(after).take(compared).filter(|(before, after)| before != after) {
        errors.invalid(&first, value.clone(), "may not change once set");
    }
    if before.len() > after.len() && after.len() == 1 {
        released(new, "ipFamily", path, errors);
    }
}

fn released(new: &Value, what: &str, path: &Path, errors: &mut Errors) {
    let policy = at(new, "spec.ipFamilyPolicy");
    if policy != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.invalid(&path.child("ipFamilyPolicy"), policy.clone(), detail);
    }
}

pub fn validate_status(service: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("loadBalancer").child("ingress");
    for (index, ingress) in items(service, "status.loadBalancer.ingress").iter().enumerate() {
        let path = path.index(index);
        let (ip, host) = (string(ingress, "ip"), string(ingress, "hostname"));
        if !ip.is_empty() {
            errors.invalid_each(&path.child("ip"), &json!(ip), validation::ip(ip));
        }
        if !host.is_empty() {
            subdomain(&path.child("hostname"), host, errors);
            if is_ip(host) {
                errors.invalid(&path.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
}

fn of_type(service: &Value, path: &Path, errors: &mut Errors) {
    let spec = at(service, "spec");
    match string(spec, "type") {
        kind @ ("LoadBalancer" | "NodePort") => {
            for (index, port) in items(spec, "ports").iter().enumerate() {
                if kind == "LoadBalancer" && integer(port, "port") == Some(KUBELET_PORT) {
                    let detail = format!("may not expose port {KUBELET_PORT} externally since it is used by kubelet");
                    errors.invalid(&path.child("ports").index(index), KUBELET_PORT, detail);
                }
            }
            if is_headless(service) {
                let detail = format!("may not be set to 'None' for {kind} services");
                errors.invalid(&path.child("clusterIPs").index(0), "None", detail);
            }
        }
        "ExternalName" => match string(spec, "externalName").trim_end_matches('.') {
            "" => errors.required(&path.child("externalName"), ""),
            name => subdomain(&path.child("externalName"), name, errors),
        },
        _ => {}
    }
}

fn ports(spec: &Value, path: &Path, errors: &mut Errors) {
    let ports = items(spec, "ports");
    let (mut names, mut numbers, mut node_ports) = (Vec::new(), Vec::new(), Vec::new());
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let (name, protocol) = (string(port, "name"), string(port, "protocol"));
        if name.is_empty() {
            if ports.len() > 1 {
                errors.required(&path.child("name"), "");
            }
        } else {
            label(&path.child("name"), name, errors);
            if names.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            }
            names.push(name);
        }
        let number = integer(port, "port").unwrap_or(0);
        port_number(&path.child("port"), number, errors);
        errors.one_of(&path.child("protocol"), protocol, PROTOCOLS);
        port_or_name(&path.child("targetPort"), at(port, "targetPort"), errors);
        if let Some(protocol) = at(port, "appProtocol").as_str() {
            errors.invalid_each(&path.child("appProtocol"), &json!(protocol), validation::qualified_name(protocol));
        }
        if let Some(node_port) = node_port(port) {
            if string(spec, "type") == "ClusterIP" {
                errors.forbidden(&path.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
            }
            if node_ports.contains(&(protocol, node_port)) {
                errors.duplicate(&path.child("nodePort"), node_port);
            }
            node_ports.push((protocol, node_port));
        }
        if numbers.contains(&(protocol, number)) {
            errors.duplicate(&path, json!({"protocol": protocol, "port": number}));
        }
        numbers.push((protocol, number));
    }
}

fn affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    match string(spec, "sessionAffinity") {
        "ClientIP" => {
            const REQUIRED: &str = "when session affinity type is ClientIP";
            let config = at(spec, "sessionAffinityConfig");
            let seconds = path.child("clientIP").child("timeoutSeconds");
            match integer(config, "clientIP.timeoutSeconds") {
                _ if config.is_null() => errors.required(path, REQUIRED),
                None if !is_set(config, "clientIP") => errors.required(&path.child("clientIP"), REQUIRED),
                None => errors.required(&seconds, REQUIRED),
                Some(value) if !(1..=AFFINITY_SECONDS_MAX).contains(&value) => {
                    errors.invalid(
                        &seconds,
                        value,
                        format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"),
                    );
                }
                Some(_) => {}
            }
        }
        "None" if is_set(spec, "sessionAffinityConfig") => {
            errors.forbidden(path, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// `ValidateServiceClusterIPsRelatedFields`.
pub fn cluster_ips(service: &Value, path: &Path, errors: &mut Errors) {
    let spec = at(service, "spec");
    if string(spec, "type") == "ExternalName" {
        for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if at(spec, field).as_array().map_or(is_set(spec, field), |list| !list.is_empty()) {
                errors.forbidden(&path.child(field), NO_EXTERNAL_NAME);
            }
        }
        return;
    }
    let mut seen = Vec::new();
    for (index, family) in strings(spec, "ipFamilies").enumerate() {
        let path = path.child("ipFamilies").index(index);
        if !FAMILIES.contains(&family) {
            errors.not_supported(&path, family, FAMILIES);
        }
        if seen.contains(&family) {
            errors.duplicate(&path, family);
        }
        seen.push(family);
    }
    if let Some(policy) = at(spec, "ipFamilyPolicy").as_str() {
        errors.one_of(&path.child("ipFamilyPolicy"), policy, &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    }
    addresses(spec, path, errors);
}

fn addresses(spec: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("clusterIPs");
    let (ip, list): (&str, Vec<&str>) = (string(spec, "clusterIP"), strings(spec, "clusterIPs").collect());
    match list.first() {
        None if !ip.is_empty() => errors.required(&path, ""),
        Some(_) if ip.is_empty() => {
            errors.invalid(&path, json!(list), "must be empty when `clusterIP` is not specified");
        }
        Some(first) if *first != ip => errors.invalid(&path, json!(list), "first value must match `clusterIP`"),
        _ => {}
    }
    let mut are_valid = true;
    if list.first() == Some(&"None") && list.len() > 1 {
        are_valid = false;
        errors.invalid(&path, json!(list), "'None' must be the first and only value");
    }
    let is_none = |index: usize, ip: &str| index == 0 && ip == "None";
    for (index, ip) in list.iter().enumerate().filter(|(index, ip)| !is_none(*index, ip)) {
        let messages = validation::ip(ip);
        are_valid &= messages.is_empty();
        errors.invalid_each(&path.index(index), &json!(ip), messages);
    }
    if list.len() > 2 {
        errors.invalid(&path, json!(list), "may only hold up to 2 values");
    }
    // What follows would only say the same of an invalid address in other words.
    if !are_valid {
        return;
    }
    let families: Vec<&str> = list.iter().filter_map(|ip| Some(IpFamily::of(ip.parse().ok()?).as_str())).collect();
    if families.len() > 1 && (families[1..].contains(&families[0]) || families.len() > 2) {
        errors.invalid(&path, json!(list), "may specify no more than one IP for each IP family");
    }
    let expected = strings(spec, "ipFamilies");
    for (index, ((ip, family), expected)) in list.iter().zip(&families).zip(expected).enumerate() {
        if *family != expected && FAMILIES.contains(&expected) {
            let detail = format!("expected an {expected} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&path.index(index), json!(ip), detail);
        }
    }
}

/// `ValidateEndpointIP`-like: what no service may be dialled at.
fn external_ip(ip: &str, path: &Path, errors: &mut Errors) {
    let messages = validation::ip(ip);
    errors.invalid_each(path, &json!(ip), messages);
    if let Ok(address) = ip.parse::<IpAddr>() {
        non_special_ip(ip, address, path, errors);
    }
}

/// `ValidateNonSpecialIP`.
pub fn non_special_ip(text: &str, ip: IpAddr, path: &Path, errors: &mut Errors) {
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        errors.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        errors.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        errors.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn load_balancer_only(spec: &Value, path: &Path, errors: &mut Errors) {
    if string(spec, "type") != "LoadBalancer" {
        if !items(spec, "loadBalancerSourceRanges").is_empty() {
            errors.forbidden(&path.child("loadBalancerSourceRanges"), ONLY_LOAD_BALANCER);
        }
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if is_set(spec, field) {
                errors.forbidden(&path.child(field), ONLY_LOAD_BALANCER);
            }
        }
        return;
    }
    if let Some(class) = at(spec, "loadBalancerClass").as_str() {
        errors.invalid_each(&path.child("loadBalancerClass"), &json!(class), validation::qualified_name(class));
    }
    for (index, range) in strings(spec, "loadBalancerSourceRanges").enumerate() {
        if range.trim().parse::<IpNet>().is_err() {
            let path = path.child("loadBalancerSourceRanges").index(index);
            errors.invalid(&path, range, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
    }
}

fn traffic_policies(service: &Value, path: &Path, errors: &mut Errors) {
    const POLICIES: &[&str] = &["Cluster", "Local"];
    let spec = at(service, "spec");
    let external = string(spec, "externalTrafficPolicy");
    let external_path = path.child("externalTrafficPolicy");
    if externally_accessible(spec) {
        errors.one_of(&external_path, external, POLICIES);
    } else if !external.is_empty() {
        errors.invalid(&external_path, external, "may only be set for externally-accessible services");
    }
    let port = integer(spec, "healthCheckNodePort").unwrap_or(0);
    let port_path = path.child("healthCheckNodePort");
    if port < 0 {
        errors.invalid(&port_path, port, crate::names::NOT_NEGATIVE);
    } else if port != 0 && !needs_health_check_port(service) {
        errors.invalid(
            &port_path,
            port,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        );
    }
    if needs_cluster_ip(service) {
        errors.one_of(&path.child("internalTrafficPolicy"), string(spec, "internalTrafficPolicy"), POLICIES);
    }
    if let Some(distribution) = at(spec, "trafficDistribution").as_str() {
        let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        if !known.contains(&distribution) {
            errors.not_supported(&path.child("trafficDistribution"), distribution, &known);
        }
    }
}
