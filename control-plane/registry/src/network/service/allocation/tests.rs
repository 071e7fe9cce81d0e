use serde_json::{Value, json};

use super::*;

fn allocators() -> Allocators {
    let net = "10.96.0.0/24".parse().expect("a network");
    Allocators { cluster_ips: Ipv4Range::new(net), node_ports: NodePorts::default() }
}

fn service(spec: Value) -> Value {
    let mut service =
        json!({"spec": {"type": "ClusterIP", "selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP"}]}});
    crate::value::merge_patch(&mut service["spec"], &spec);
    if let Some(ip) = at(&service, "spec.clusterIP").as_str().map(str::to_owned) {
        set(&mut service, "spec.clusterIPs", json!([ip]));
    }
    service
}

/// The errors of an allocation, none if it was made and kept.
fn take(allocators: &mut Allocators, service: &mut Value, old: Option<&Value>) -> Vec<String> {
    match allocators.allocate(service, old, 0) {
        Ok(allocation) => {
            allocators.commit(allocation);
            Vec::new()
        }
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

const NONE: [&str; 0] = [];

#[test]
fn a_service_gets_an_address_and_its_family() {
    let mut made = service(json!({}));
    assert_eq!(take(&mut allocators(), &mut made, None), NONE);
    assert_eq!(made["spec"]["clusterIP"], "10.96.0.17");
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.96.0.17"]));
    assert_eq!(
        (&made["spec"]["ipFamilies"], &made["spec"]["ipFamilyPolicy"]),
        (&json!(["IPv4"]), &json!("SingleStack"))
    );
    let mut headless = service(json!({"clusterIP": "None", "selector": null}));
    assert_eq!(take(&mut allocators(), &mut headless, None), NONE);
    assert_eq!(headless["spec"]["ipFamilyPolicy"], "RequireDualStack");
    let mut external = service(json!({"type": "ExternalName"}));
    assert_eq!(take(&mut allocators(), &mut external, None), NONE);
    assert_eq!(external["spec"].get("clusterIP"), None);
}

#[test]
fn an_address_or_port_that_is_taken_or_outside_is_refused() {
    let mut all = allocators();
    assert_eq!(all.occupy(&service(json!({"clusterIP": "10.96.0.10", "ports": [{"nodePort": 30001}]}))), NONE);
    let mut check = |spec: Value, expected: &str| assert_eq!(take(&mut all, &mut service(spec), None), [expected]);
    check(
        json!({"clusterIP": "10.96.0.10"}),
        "spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is already allocated",
    );
    check(
        json!({"clusterIP": "10.97.0.10"}),
        "spec.clusterIPs: Invalid value: [\"10.97.0.10\"]: failed to allocate IP 10.97.0.10: the provided IP (10.97.0.10) is not in the valid range. The range of valid IPs is 10.96.0.0/24",
    );
    check(
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30001}]}),
        "spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated",
    );
    check(
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}),
        "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
    );
    check(
        json!({"ipFamilies": ["IPv6"]}),
        "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
    );
    // What was taken before an error is free again.
    let mut first = service(json!({}));
    assert_eq!(take(&mut all, &mut first, None), NONE);
    assert_eq!(first["spec"]["clusterIP"], "10.96.0.17");
}

#[test]
fn a_change_of_type_gives_back_and_takes() {
    let mut all = allocators();
    let mut old = service(json!({"type": "NodePort"}));
    assert_eq!(take(&mut all, &mut old, None), NONE);
    let port = old["spec"]["ports"][0]["nodePort"].as_i64().expect("a node port");
    let mut new = service(json!({"clusterIP": old["spec"]["clusterIP"]}));
    assert_eq!(take(&mut all, &mut new, Some(&old)), NONE);
    assert_eq!(all.node_ports.allocate(port), Ok(()));
    all.release(&new);
    let mut again = service(json!({"clusterIP": new["spec"]["clusterIP"]}));
    assert_eq!(take(&mut all, &mut again, None), NONE);
}

#[test]
fn an_aborted_write_takes_nothing() {
    let mut all = allocators();
    let mut made = service(json!({"clusterIP": "10.96.0.10"}));
    let allocation = all.allocate(&mut made, None, 0).expect("free");
    all.abort(allocation);
    assert_eq!(take(&mut all, &mut made, None), NONE);
}
