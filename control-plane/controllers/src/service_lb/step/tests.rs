use serde_json::{Value, json};

use super::*;
use crate::service_lb::range::AddressRange;

/// `name`, what its spec has besides its type, and the address in its status.
fn service(name: &str, spec: Value, addresses: Option<&str>) -> Arc<Service> {
    let mut whole = json!({ "type": "LoadBalancer" });
    for (field, value) in spec.as_object().expect("fields") {
        whole[field] = value.clone();
    }
    let addresses = addresses.iter().flat_map(|addresses| addresses.split(' '));
    let ingress: Vec<Value> = addresses.map(|ip| json!({ "ip": ip })).collect();
    let object = json!({ "metadata": { "namespace": "demo", "name": name }, "spec": whole,
        "status": { "loadBalancer": { "ingress": ingress } } });
    Arc::new(serde_json::from_value(object).expect("a Service"))
}

/// `name address` for every write, `name: reason` for every refusal.
#[track_caller]
fn check(pools: &[&str], services: &[Arc<Service>], expected: &[&str]) {
    let flags: Vec<AddressRange> = pools.iter().map(|range| range.parse().expect("a range")).collect();
    check_pools(&super::super::pool::pools(&flags, &[], &[]), services, expected);
}

#[track_caller]
fn check_pools(pools: &[Pool], services: &[Arc<Service>], expected: &[&str]) {
    let plan = step(services, pools);
    let name = |service: &Service| service.metadata.name.clone().unwrap_or_default();
    let address = |write: &Write| match write.addresses.iter().map(ToString::to_string).collect::<Vec<_>>() {
        addresses if addresses.is_empty() => "none".to_owned(),
        addresses => addresses.join(" "),
    };
    let mut seen: Vec<String> = plan.writes.iter().map(|w| format!("{} {}", name(&w.service), address(w))).collect();
    seen.extend(plan.refusals.iter().map(|refusal| format!("{}: {}", name(&refusal.service), refusal.reason)));
    assert_eq!(seen, expected);
}

#[test]
fn the_first_free_address_is_given() {
    let (a, b) = (service("a", json!({}), None), service("b", json!({}), None));
    check(&["192.0.2.0/30"], &[a.clone(), b.clone()], &["a 192.0.2.1", "b 192.0.2.2"]);
    check(&["192.0.2.8-192.0.2.8", "198.51.100.9-198.51.100.12"], &[a.clone(), b], &["a 192.0.2.8", "b 198.51.100.9"]);
    let held = service("held", json!({}), Some("192.0.2.1"));
    check(&["192.0.2.0/30"], &[a, held], &["a 192.0.2.2"]);
}

#[test]
fn what_is_given_stays_and_is_given_once() {
    let held = service("a", json!({}), Some("192.0.2.1"));
    check(&["192.0.2.0/30"], std::slice::from_ref(&held), &[]);
    let twice = service("b", json!({}), Some("192.0.2.1"));
    check(&["192.0.2.0/30"], &[twice, held.clone()], &["b 192.0.2.2"]);
    // Of a pool that is gone.
    check(&["198.51.100.0/30"], std::slice::from_ref(&held), &["a 198.51.100.1"]);
    // Without any pool it is another implementation's.
    check(&[], &[held], &[]);
}

#[test]
fn each_family_gets_an_address() {
    let both = json!({ "ipFamilies": ["IPv6", "IPv4"] });
    // More addresses of one family than anyone looks at do not hide the other's.
    check(&["fd00::/16", "192.0.2.0/30"], &[service("a", json!({}), None)], &["a 192.0.2.1"]);
    let pools = ["192.0.2.0/30", "2001:db8::10-2001:db8::11"];
    check(&pools, &[service("a", both.clone(), None)], &["a 2001:db8::10 192.0.2.1"]);
    check(&pools, &[service("a", both.clone(), Some("2001:db8::11"))], &["a 2001:db8::11 192.0.2.1"]);
    check(&pools, &[service("a", both.clone(), Some("2001:db8::11 192.0.2.2"))], &[]);
    // It has one family now.
    check(&pools, &[service("a", json!({}), Some("2001:db8::11 192.0.2.2"))], &["a 192.0.2.2"]);
    // There are no addresses of the other one.
    check(&pools[..1], &[service("a", both.clone(), None)], &["a 192.0.2.1"]);
    // ... or none is free.
    let full = ["192.0.2.0/30", "2001:db8::10-2001:db8::10"];
    let held = service("b", json!({ "ipFamilies": ["IPv6"] }), Some("2001:db8::10"));
    let refused = "a: every address of the pools for this Service is taken";
    check(&full, &[held, service("a", both, None)], &["a 192.0.2.1", refused]);
    let asks = json!({ "ipFamilies": ["IPv6", "IPv4"], "loadBalancerIP": "192.0.2.2" });
    check(&pools, &[service("a", asks, None)], &["a 2001:db8::10 192.0.2.2"]);
}

#[test]
fn an_address_can_be_asked_for() {
    let asks = |name, ip: &str, has| service(name, json!({ "loadBalancerIP": ip }), has);
    let pools = ["192.0.2.0/29"];
    check(&pools, &[asks("a", "192.0.2.5", None)], &["a 192.0.2.5"]);
    check(&pools, &[asks("a", "192.0.2.5", Some("192.0.2.1"))], &["a 192.0.2.5"]);
    check(
        &pools,
        &[asks("a", "203.0.113.1", None)],
        &["a: loadBalancerIP 203.0.113.1 is in no pool that gives addresses to this Service"],
    );
    check(&pools, &[asks("a", "fd00::1", None)], &["a: loadBalancerIP fd00::1 is of none of the Service's ipFamilies"]);
    let held = service("held", json!({}), Some("192.0.2.5"));
    check(&pools, &[asks("a", "192.0.2.5", None), held], &["a: loadBalancerIP 192.0.2.5 belongs to another Service"]);
}

#[test]
fn other_services_are_let_alone() {
    let pools = ["192.0.2.0/30"];
    check(&pools, &[service("a", json!({ "loadBalancerClass": "other.io/lb" }), Some("192.0.2.1"))], &[]);
    check(&pools, &[service("a", json!({ "type": "NodePort" }), None)], &[]);
    check(&pools, &[service("a", json!({ "type": "NodePort" }), Some("203.0.113.1"))], &[]);
    let refused = "a: no LoadBalancerIPPool is for this Service";
    check(&pools, &[service("a", json!({ "ipFamilies": ["IPv6"] }), None)], &[refused]);
    check(&pools, &[service("a", json!({ "loadBalancerClass": CLASS }), None)], &["a 192.0.2.1"]);
    // It was a load balancer once.
    check(&pools, &[service("a", json!({ "type": "ClusterIP" }), Some("192.0.2.1"))], &["a none"]);
}

#[test]
fn pools_are_ranges_or_networks() {
    let count = |text: &str| text.parse::<AddressRange>().map(|pool| pool.addresses().count());
    assert_eq!(count("192.0.2.0/24"), Ok(254));
    assert_eq!(count("192.0.2.7/32"), Ok(1));
    assert_eq!(count("192.0.2.10-192.0.2.20"), Ok(11));
    assert_eq!(count("fd00::/120"), Ok(255));
    assert_eq!(count("fd00::10-fd00::1f"), Ok(16));
    let total = |text: &str| text.parse::<AddressRange>().map(|range| range.total());
    assert_eq!(total("fd00::/126"), Ok(3));
    assert_eq!(total("fd00::/16"), Ok(i64::MAX));
    for text in ["", "192.0.2.20-192.0.2.10", "192.0.2.0/33", "fd00::/129", "192.0.2.1-", "192.0.2.1-fd00::1"] {
        assert!(count(text).is_err(), "{text}");
    }
}
