#![allow(clippy::unwrap_used)]

mod algorithm;
mod announce;
mod api;
mod controller;
mod forwarding;
mod policies;
mod property;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use xebec_types::core::Service;
use xebec_types::discovery::EndpointSlice;

use super::*;

const NODE: &str = "n1";

fn node() -> Node {
    Node {
        name: NODE.to_owned(),
        zone: Some("z1".to_owned()),
        addresses: addresses(&["172.30.0.11"]),
        ..Node::default()
    }
}

/// Of a node with these, of which the first is its own by the API.
fn addresses(own: &[&str]) -> NodeAddresses {
    let own: Vec<std::net::IpAddr> = own.iter().map(|ip| ip.parse().unwrap()).collect();
    let inside = ["127.0.0.1".parse().unwrap()];
    NodeAddresses::new(own.clone(), &own[..1], &inside, &NodePortAddresses::default())
}

fn service(spec: Value) -> Service {
    named("web", spec)
}

fn named(name: &str, spec: Value) -> Service {
    let namespace = if name == "kubernetes" { "default" } else { "demo" };
    serde_json::from_value(json!({ "metadata": { "namespace": namespace, "name": name }, "spec": spec })).unwrap()
}

fn cluster_ip(ports: Value) -> Value {
    json!({ "type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": ports })
}

fn http() -> Value {
    cluster_ip(json!([{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": "web" }]))
}

/// `endpoints`: address, node, conditions as letters: `r`eady, `s`erving, `t`erminating; `-` for none of them.
fn slice(service: &str, port: u16, endpoints: &[(&str, &str, &str)]) -> EndpointSlice {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, node, letters)| {
            let has = |letter| letters.contains(letter);
            json!({ "addresses": [address], "nodeName": node,
                "conditions": { "ready": has('r'), "serving": has('s'), "terminating": has('t') } })
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": { "namespace": "demo", "name": format!("{service}-{port}"),
            "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
        "endpoints": endpoints,
    }))
    .unwrap()
}

/// `address:port`, with `L` for local and `T` for terminating backends.
fn backends(port: &ServicePort) -> Vec<String> {
    let flag = |set: bool, letter: &'static str| if set { letter } else { "" };
    let text = |b: &Backend| format!("{}:{}{}{}", b.addr, b.port, flag(b.local, "L"), flag(b.terminating, "T"));
    port.backends.iter().map(text).collect()
}

#[track_caller]
fn check(spec: Value, slices: &[EndpointSlice], expected: &[&str]) {
    let slices: Vec<&EndpointSlice> = slices.iter().collect();
    let ports = compile(&service(spec), &slices, &node());
    assert_eq!(ports.len(), 1);
    assert_eq!(backends(&ports[0]), expected);
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

#[test]
fn ready_endpoints_are_backends() {
    let mixed = [("10.244.1.2", "n1", "rs"), ("10.244.2.2", "n2", "rs"), ("10.244.2.3", "n2", "-")];
    check(http(), &[slice("web", 8080, &mixed)], &["10.244.1.2:8080L", "10.244.2.2:8080"]);
    check(http(), &[], &[]);
    check(http(), &[slice("web", 8080, &[])], &[]);
    let bare: EndpointSlice = serde_json::from_value(json!({
        "metadata": {}, "addressType": "IPv4", "ports": [{ "name": "http", "port": 1 }],
        "endpoints": [{ "addresses": ["10.244.9.9"] }] }))
    .unwrap();
    check(http(), &[bare], &["10.244.9.9:1"]);
}

#[test]
fn terminating_endpoints_serve_only_when_none_is_ready() {
    let last = ("10.244.1.2", "n1", "st");
    let gone = ("10.244.1.3", "n1", "t");
    check(http(), &[slice("web", 80, &[last, gone])], &["10.244.1.2:80LT"]);
    check(http(), &[slice("web", 80, &[last, gone, ("10.244.2.2", "n2", "rs")])], &["10.244.2.2:80"]);
    // Serving but neither ready nor terminating: not a state a controller writes; nobody sends there.
    check(http(), &[slice("web", 80, &[("10.244.1.4", "n1", "s")])], &[]);
}

#[test]
fn the_local_policy_counts_this_node_only_and_falls_back_by_itself() {
    let local = with(http(), "internalTrafficPolicy", json!("Local"));
    let both = [("10.244.1.2", "n1", "rs"), ("10.244.2.2", "n2", "rs")];
    check(local.clone(), &[slice("web", 80, &both)], &["10.244.1.2:80L"]);
    check(local.clone(), &[slice("web", 80, &both[1..])], &[]);
    let terminating = [("10.244.1.2", "n1", "st"), ("10.244.2.2", "n2", "rs")];
    check(local.clone(), &[slice("web", 80, &terminating)], &["10.244.1.2:80LT"]);
    let ports = compile(&service(local), &[], &node());
    assert_eq!(ports[0].id.policy, TrafficPolicy::Local);
}

#[test]
fn not_ready_addresses_can_be_published() {
    let spec = with(http(), "publishNotReadyAddresses", json!(true));
    check(spec, &[slice("web", 80, &[("10.244.1.2", "n1", "-")])], &["10.244.1.2:80L"]);
}

#[test]
fn slices_are_merged_and_an_address_counts_once() {
    let first = slice("web", 80, &[("10.244.1.2", "n1", "t"), ("10.244.1.3", "n1", "rs")]);
    let second = slice("web", 80, &[("10.244.1.2", "n1", "rs")]);
    check(http(), &[first.clone(), second.clone()], &["10.244.1.2:80L", "10.244.1.3:80L"]);
    check(http(), &[second, first], &["10.244.1.2:80L", "10.244.1.3:80L"]);
    // A named targetPort has another number in each version of the pods.
    let (old, new) = (slice("web", 80, &[("10.244.1.2", "n1", "rs")]), slice("web", 81, &[("10.244.1.3", "n1", "rs")]));
    check(http(), &[old, new], &["10.244.1.2:80L", "10.244.1.3:81L"]);
}

#[test]
fn ports_match_by_name_and_protocol() {
    let spec = cluster_ip(json!([
        { "name": "dns", "port": 53, "protocol": "UDP" },
        { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
        { "name": "metrics", "port": 9153 },
        { "name": "m3ua", "port": 53, "protocol": "SCTP" },
    ]));
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {}, "addressType": "IPv4",
        "ports": [{ "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "dns-tcp", "port": 5353 },
            { "name": "metrics" }, { "name": "m3ua", "port": 2905, "protocol": "SCTP" }],
        "endpoints": [{ "addresses": ["10.244.1.1", "10.244.1.99"], "nodeName": "n1" }] }))
    .unwrap();
    let ports = compile(&service(spec), &[&slice], &node());
    let seen: Vec<_> =
        ports.iter().map(|p| (&*p.id.port, p.id.protocol, p.frontends[0].key.port, backends(p))).collect();
    assert_eq!(
        seen,
        [
            ("dns", Protocol::Udp, 53, vec!["10.244.1.1:53L".to_owned()]),
            ("dns-tcp", Protocol::Tcp, 53, vec!["10.244.1.1:5353L".to_owned()]),
            ("metrics", Protocol::Tcp, 9153, vec![]),
            ("m3ua", Protocol::Sctp, 53, vec!["10.244.1.1:2905L".to_owned()]),
        ]
    );
}

#[test]
fn headless_external_and_portless_services_have_no_frontends() {
    let headless = with(with(http(), "clusterIP", json!("None")), "clusterIPs", json!(["None"]));
    let external = json!({ "type": "ExternalName", "externalName": "example.org", "clusterIP": "" });
    for spec in [headless, external, cluster_ip(json!([])), cluster_ip(json!([{ "port": 0x1_0000 }])), json!({})] {
        assert_eq!(compile(&service(spec.clone()), &[], &node()), [], "{spec}");
    }
}

#[test]
fn session_affinity_has_a_lifetime() {
    let affinity = |spec| compile(&service(spec), &[], &node())[0].affinity;
    assert_eq!(affinity(http()), None);
    let client_ip = with(http(), "sessionAffinity", json!("ClientIP"));
    assert_eq!(affinity(client_ip.clone()), Some(Duration::from_secs(10_800)));
    let config = json!({ "clientIP": { "timeoutSeconds": 60 } });
    assert_eq!(affinity(with(client_ip, "sessionAffinityConfig", config)), Some(Duration::from_secs(60)));
}

#[test]
fn families_do_not_mix() {
    let spec = with(http(), "clusterIPs", json!(["10.96.0.7", "fd00::7"]));
    let mut six = slice("web", 80, &[]);
    six.endpoints = slice("web", 80, &[("fd00:1::2", "n1", "rs")]).endpoints;
    let four = slice("web", 80, &[("10.244.1.2", "n1", "rs")]);
    let ports = compile(&service(spec), &[&four, &six], &node());
    let seen: Vec<_> = ports.iter().map(|p| (p.frontends[0].key.addr.to_string(), backends(p))).collect();
    assert_eq!(seen[0], ("10.96.0.7".to_owned(), vec!["10.244.1.2:80L".to_owned()]));
    assert_eq!(seen[1], ("fd00::7".to_owned(), vec!["fd00:1::2:80L".to_owned()]));
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new(if name == "kubernetes" { "default" } else { "demo" }, name)
}

fn web(endpoints: &[(&str, &str, &str)]) -> Vec<ServicePort> {
    compile(&service(http()), &[&slice("web", 80, endpoints)], &node())
}

fn read_back(ports: &[ServicePort]) -> Vec<Programmed> {
    ports.iter().flat_map(|port| port.programmed().map(|(_, p)| p).collect::<Vec<_>>()).collect()
}

#[test]
fn a_service_that_loses_its_endpoints_keeps_its_frontend() {
    let mut table = Table::default();
    let full = web(&[("10.244.1.2", "n1", "rs")]);
    assert_eq!(table.update(&key("web"), full.clone()), [Change::Put(full[0].clone())]);
    assert_eq!(table.update(&key("web"), full), []);
    let empty = web(&[]);
    assert_eq!(table.update(&key("web"), empty.clone()), [Change::Put(empty[0].clone())]);
    assert_eq!(table.update(&key("web"), Vec::new()), [Change::Remove(empty[0].frontends[0].key)]);
    assert_eq!(table.update(&key("web"), Vec::new()), []);
    assert!(table.is_empty() && table.programmed().is_empty());
}

#[test]
fn a_restart_writes_only_what_differs_and_removes_what_is_gone() {
    let kept = web(&[("10.244.1.2", "n1", "rs"), ("10.244.2.2", "n2", "rs")]);
    let mut old = read_back(&kept);
    old[0].backends.reverse();
    let gone = with(http(), "clusterIPs", json!(["10.96.0.9"]));
    old.extend(read_back(&compile(&named("gone", gone), &[], &node())));
    let mut table = Table::new(old.clone());
    let changes = table.replace_all([(key("web"), kept)]);
    assert_eq!(changes, [Change::Remove(old[1].frontend.key)]);
}

#[test]
fn the_api_servers_last_backends_stay() {
    let spec = json!({ "clusterIP": "10.96.0.1", "ports": [{ "name": "http", "port": 443 }] });
    let up = compile(
        &named("kubernetes", spec.clone()),
        &[&slice("kubernetes", 6443, &[("172.30.0.1", "", "rs")])],
        &node(),
    );
    let down = compile(&named("kubernetes", spec), &[], &node());
    let mut table = Table::new(read_back(&up));
    assert_eq!(table.replace_all([(key("kubernetes"), down.clone())]), []);
    assert_eq!(table.update(&key("kubernetes"), down.clone()), []);
    assert_eq!(table.update(&key("kubernetes"), Vec::new()), []);
    let mut moved = up.clone();
    moved[0].backends[0].port = 7443;
    assert_eq!(table.update(&key("kubernetes"), moved.clone()), [Change::Put(moved[0].clone())]);
    assert_eq!(table.update(&key("kubernetes"), down), []);
}

#[test]
fn a_contested_frontend_passes_on_when_its_owner_lets_go() {
    let other = compile(&named("other", http()), &[&slice("other", 80, &[("10.244.3.3", "n3", "rs")])], &node());
    let first = web(&[("10.244.1.2", "n1", "rs")]);
    let mut table = Table::default();
    table.update(&key("web"), first.clone());
    assert_eq!(table.update(&key("other"), other.clone()), []);
    assert_eq!(table.update(&key("web"), Vec::new()), [Change::Put(other[0].clone())]);
    assert_eq!(table.update(&key("web"), first), []);
    assert_eq!(table.update(&key("web"), Vec::new()), []);
    let removed = Change::Remove(other[0].frontends[0].key);
    assert_eq!(table.update(&key("other"), Vec::new()), [removed]);
}

#[test]
fn refused_changes_are_given_out_again() {
    let ports = web(&[("10.244.1.2", "n1", "rs")]);
    let mut table = Table::default();
    let put = table.update(&key("web"), ports.clone());
    table.forget(&put[0]);
    assert_eq!(table.update(&key("web"), ports.clone()), put);
    // Refused, and then the Service goes: whatever is there must go too.
    table.forget(&put[0]);
    let remove = table.update(&key("web"), Vec::new());
    assert_eq!(remove, [Change::Remove(ports[0].frontends[0].key)]);
    assert_eq!(table.orphans(), []);
    table.forget(&remove[0]);
    assert_eq!(table.orphans(), remove);
    assert_eq!(table.orphans(), []);
}

#[test]
fn latencies_are_counted_in_their_buckets() {
    let metrics = Metrics::default();
    for micros in [0, 1, 900, 1_000_000_000] {
        metrics.observe(Duration::from_micros(micros));
    }
    let text = metrics.render();
    for line in ["{le=\"0.000001\"} 1", "{le=\"0.000002\"} 2", "{le=\"0.001024\"} 3", "{le=\"+Inf\"} 4", "_count 4"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

pub fn apply(state: &mut BTreeMap<FrontendKey, Programmed>, change: &Change) {
    match change {
        Change::Put(port) => state.extend(port.programmed()),
        Change::Remove(key) => drop(state.remove(key)),
    }
}
