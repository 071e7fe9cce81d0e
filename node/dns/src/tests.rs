#![allow(clippy::unwrap_used)]

mod sockets;

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;

fn port(name: &str, protocol: &str, number: u16) -> Port {
    Port { name: name.to_owned(), protocol: protocol.to_owned(), number }
}

fn endpoint(addr: &str, hostname: Option<&str>, ports: &[Port]) -> Endpoint {
    Endpoint { addr: addr.parse().unwrap(), hostname: hostname.map(str::to_owned), ports: ports.to_vec() }
}

fn record(name: &str, kind: Kind, ports: &[Port], endpoints: &[Endpoint]) -> ServiceRecord {
    let (namespace, name) = ("demo".to_owned(), name.to_owned());
    ServiceRecord { namespace, name, kind, ports: ports.to_vec(), endpoints: endpoints.to_vec() }
}

fn cluster_ip(addresses: &[&str]) -> Kind {
    Kind::ClusterIp(addresses.iter().map(|a| a.parse().unwrap()).collect())
}

pub fn zone() -> Zone {
    let (http, web) = (port("http", "tcp", 80), port("http", "tcp", 8080));
    let dns = [port("dns", "udp", 53), port("dns-tcp", "tcp", 53)];
    let pg = port("pg", "tcp", 5432);
    let mut zone = Zone::default();
    zone.set_known();
    zone.replace_all([
        record("web", cluster_ip(&["10.96.0.7"]), &[http], &[endpoint("10.244.1.5", None, &[web])]),
        record("dual", cluster_ip(&["10.96.0.8", "fd00::8"]), &dns, &[]),
        record(
            "db",
            Kind::Headless,
            std::slice::from_ref(&pg),
            &[
                endpoint("10.244.1.6", Some("db-0"), std::slice::from_ref(&pg)),
                endpoint("10.244.2.6", Some("db-1"), std::slice::from_ref(&pg)),
                endpoint("10.244.2.7", None, std::slice::from_ref(&pg)),
            ],
        ),
        record("empty", Kind::Headless, &[pg], &[]),
        record("out", Kind::ExternalName("Example.org".to_owned()), &[], &[]),
        record("alias", Kind::ExternalName("web.demo.svc.cluster.local".to_owned()), &[], &[]),
        record("loop", Kind::ExternalName("loop.demo.svc.cluster.local".to_owned()), &[], &[]),
        record("literal", Kind::ExternalName("192.0.2.9".to_owned()), &[], &[]),
    ]);
    zone
}

fn data(record: &Record) -> String {
    match &record.data {
        RData::A(a) => a.to_string(),
        RData::AAAA(aaaa) => aaaa.to_string(),
        RData::CNAME(name) => format!("CNAME {}", name.0),
        RData::PTR(name) => name.0.to_string(),
        RData::NS(name) => name.0.to_string(),
        RData::SRV(srv) => format!("{} {}", srv.port, srv.target),
        RData::TXT(txt) => txt.to_string(),
        RData::SOA(soa) => format!("SOA {} {}", soa.mname, soa.minimum),
        other => format!("{other:?}"),
    }
}

fn ask(zone: &Zone, name: &str, kind: RecordType) -> Option<Answer> {
    let domain = wire::domain("cluster.local").unwrap();
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    answer(zone, &domain, Some(IpAddr::from([10, 244, 1, 1])), &name, kind, 0)
}

/// `name` is relative to the cluster domain unless it ends with `arpa`.
#[track_caller]
fn check(name: &str, kind: RecordType, code: ResponseCode, expected: &[&str]) {
    let full = match name {
        "" => "cluster.local".to_owned(),
        name if name.ends_with("arpa") => name.to_owned(),
        name => format!("{name}.cluster.local"),
    };
    let answer = ask(&zone(), &full, kind).unwrap();
    let mut seen: Vec<String> = answer.answers.iter().map(data).collect();
    seen.sort();
    assert_eq!((answer.code, seen), (code, expected.iter().map(|s| (*s).to_owned()).collect()), "{name} {kind}");
    let denied = expected.is_empty();
    assert_eq!(answer.authorities.len(), usize::from(denied), "an SOA with every denial and with nothing else");
    assert!(answer.answers.iter().chain(&answer.authorities).all(|record| record.ttl == TTL));
    if denied {
        assert_eq!(data(&answer.authorities[0]), "SOA ns.dns.cluster.local. 5");
    }
}

use RecordType as T;
use ResponseCode::{NXDomain, NoError};

#[test]
fn services_have_addresses() {
    check("web.demo.svc", T::A, NoError, &["10.96.0.7"]);
    check("WEB.Demo.SVC", T::A, NoError, &["10.96.0.7"]);
    check("dual.demo.svc", T::AAAA, NoError, &["fd00::8"]);
    check("dual.demo.svc", T::ANY, NoError, &["10.96.0.8", "fd00::8"]);
    check("web.demo.svc", T::AAAA, NoError, &[]);
    check("web.demo.svc", T::MX, NoError, &[]);
    check("none.demo.svc", T::A, NXDomain, &[]);
    check("web.none.svc", T::A, NXDomain, &[]);
    check("web.demo", T::A, NXDomain, &[]);
    check("a.b.web.demo.svc", T::A, NXDomain, &[]);
    check("example.com.demo.svc", T::A, NXDomain, &[]);
}

#[test]
fn headless_services_have_their_endpoints() {
    check("db.demo.svc", T::A, NoError, &["10.244.1.6", "10.244.2.6", "10.244.2.7"]);
    check("db.demo.svc", T::AAAA, NoError, &[]);
    check("empty.demo.svc", T::A, NXDomain, &[]);
    check("db-0.db.demo.svc", T::A, NoError, &["10.244.1.6"]);
    check("10-244-2-7.db.demo.svc", T::A, NoError, &["10.244.2.7"]);
    check("10-244-2-6.db.demo.svc", T::A, NXDomain, &[]);
    check("10-244-1-5.web.demo.svc", T::A, NoError, &["10.244.1.5"]);
    check("db-9.db.demo.svc", T::A, NXDomain, &[]);
}

#[test]
fn ports_have_srv_records() {
    check("_http._tcp.web.demo.svc", T::SRV, NoError, &["80 web.demo.svc.cluster.local."]);
    check("_dns._udp.dual.demo.svc", T::SRV, NoError, &["53 dual.demo.svc.cluster.local."]);
    check("_dns._tcp.dual.demo.svc", T::SRV, NXDomain, &[]);
    check("_nope._tcp.web.demo.svc", T::SRV, NXDomain, &[]);
    check("_tcp.web.demo.svc", T::SRV, NoError, &[]);
    check("_udp.web.demo.svc", T::SRV, NXDomain, &[]);
    check("_http._tcp.web.demo.svc", T::A, NoError, &["10.96.0.7"]);
    check(
        "_pg._tcp.db.demo.svc",
        T::SRV,
        NoError,
        &[
            "5432 10-244-2-7.db.demo.svc.cluster.local.",
            "5432 db-0.db.demo.svc.cluster.local.",
            "5432 db-1.db.demo.svc.cluster.local.",
        ],
    );
    let answer = ask(&zone(), "_pg._tcp.db.demo.svc.cluster.local", T::SRV).unwrap();
    let mut extra: Vec<String> = answer.additionals.iter().map(data).collect();
    extra.sort();
    assert_eq!(extra, ["10.244.1.6", "10.244.2.6", "10.244.2.7"]);
}

#[test]
fn addresses_have_names() {
    check("7.0.96.10.in-addr.arpa", T::PTR, NoError, &["web.demo.svc.cluster.local."]);
    check("6.1.244.10.in-addr.arpa", T::PTR, NoError, &["db-0.db.demo.svc.cluster.local."]);
    check("5.1.244.10.in-addr.arpa", T::PTR, NoError, &["10-244-1-5.web.demo.svc.cluster.local."]);
    check("7.0.96.10.in-addr.arpa", T::A, NoError, &[]);
    let v6 = format!("8.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    check(&v6, T::PTR, NoError, &["dual.demo.svc.cluster.local."]);
    assert_eq!(ask(&zone(), "99.99.244.10.in-addr.arpa", T::PTR), None);
    assert_eq!(ask(&zone(), "0.96.10.in-addr.arpa", T::PTR), None);
}

#[test]
fn pods_have_records_by_address() {
    check("10-244-1-5.demo.pod", T::A, NoError, &["10.244.1.5"]);
    check("10-244-1-5.demo.pod", T::AAAA, NoError, &[]);
    check("fd00--5.demo.pod", T::AAAA, NoError, &["fd00::5"]);
    check("10-244-1-555.demo.pod", T::A, NXDomain, &[]);
    check("web.demo.pod", T::A, NXDomain, &[]);
}

#[test]
fn external_names_are_aliases() {
    check("out.demo.svc", T::A, NoError, &["CNAME Example.org."]);
    check("out.demo.svc", T::CNAME, NoError, &["CNAME Example.org."]);
    check("literal.demo.svc", T::A, NoError, &["192.0.2.9"]);
    let chase = |kind| ask(&zone(), "out.demo.svc.cluster.local", kind).unwrap().chase;
    assert_eq!(chase(T::A).unwrap().to_string(), "Example.org.");
    assert_eq!(chase(T::CNAME), None);
}

#[test]
fn the_domain_itself() {
    check("dns-version", T::TXT, NoError, &["1.1.0"]);
    check("dns-version", T::A, NoError, &[]);
    check("", T::SOA, NoError, &["SOA ns.dns.cluster.local. 5"]);
    check("", T::NS, NoError, &["ns.dns.cluster.local."]);
    check("", T::A, NoError, &[]);
    check("ns.dns", T::A, NoError, &["10.244.1.1"]);
    for empty in ["svc", "pod", "dns", "demo.svc", "demo.pod"] {
        check(empty, T::A, NoError, &[]);
    }
    check("none.svc", T::A, NXDomain, &[]);
    check("nope", T::A, NXDomain, &[]);
}

#[test]
fn other_names_are_not_ours() {
    for name in ["example.org", "local", "notcluster.local", "cluster.local.example.org"] {
        assert_eq!(ask(&zone(), name, T::A), None, "{name}");
    }
}

#[test]
fn before_anything_is_known_names_are_not_denied() {
    let zone = Zone::default();
    assert_eq!(ask(&zone, "web.demo.svc.cluster.local", T::A).unwrap().code, ResponseCode::ServFail);
}

#[test]
fn addresses_take_turns_in_being_first() {
    let domain = wire::domain("cluster.local").unwrap();
    let name = Name::from_ascii("db.demo.svc.cluster.local.").unwrap();
    let zone = zone();
    let first = |turn| data(&answer(&zone, &domain, None, &name, T::A, turn).unwrap().answers[0]);
    assert_eq!((0..4).map(first).collect::<Vec<_>>(), ["10.244.1.6", "10.244.2.6", "10.244.2.7", "10.244.1.6"]);
}

#[test]
fn updates_leave_nothing_behind() {
    let mut zone = zone();
    let web = |ip: &str| record("web", cluster_ip(&[ip]), &[], &[]);
    assert!(zone.put(web("10.96.0.70")));
    assert!(!zone.put(web("10.96.0.70")));
    assert_eq!(zone.reverse("10.96.0.7".parse().unwrap()), Vec::<String>::new());
    assert_eq!(zone.reverse("10.244.1.5".parse().unwrap()), Vec::<String>::new());
    // The address passes to another Service before its first owner is seen to go.
    zone.put(record("heir", cluster_ip(&["10.96.0.70"]), &[], &[]));
    assert!(zone.remove("demo", "web"));
    assert!(!zone.remove("demo", "web"));
    assert_eq!(zone.reverse("10.96.0.70".parse().unwrap()), ["heir.demo.svc"]);
    let names: Vec<String> = zone.records().map(|record| record.name.clone()).collect();
    names.iter().for_each(|name| assert!(zone.remove("demo", name)));
    assert!(zone.is_empty());
    assert_eq!(ask(&zone, "demo.svc.cluster.local", T::A).unwrap().code, NXDomain);
}

#[test]
fn objects_become_records() {
    let service = |spec: serde_json::Value| -> xebec_types::core::Service {
        serde_json::from_value(serde_json::json!({ "metadata": { "namespace": "demo", "name": "web" }, "spec": spec }))
            .unwrap()
    };
    let slice: xebec_types::discovery::EndpointSlice = serde_json::from_value(serde_json::json!({
        "metadata": {}, "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": [
            { "addresses": ["10.244.1.5"], "hostname": "web-0", "conditions": { "ready": true } },
            { "addresses": ["10.244.1.6"], "conditions": { "ready": false } },
            { "addresses": ["10.244.1.7"] },
        ] }))
    .unwrap();
    let ready = |record: &ServiceRecord| record.endpoints.iter().map(|e| e.addr.to_string()).collect::<Vec<_>>();
    let ports = serde_json::json!([{ "name": "http", "port": 80 }]);
    let spec = serde_json::json!({ "clusterIP": "None", "ports": ports });
    let headless = compile(&service(spec), &[&slice, &slice]).unwrap();
    assert_eq!(headless.kind, Kind::Headless);
    assert_eq!(headless.ports, [port("http", "tcp", 80)]);
    assert_eq!(ready(&headless), ["10.244.1.5", "10.244.1.7"]);
    assert_eq!(headless.endpoints[0], endpoint("10.244.1.5", Some("web-0"), &[port("http", "tcp", 8080)]));
    let spec = serde_json::json!({ "clusterIP": "10.96.0.7", "publishNotReadyAddresses": true });
    let all = compile(&service(spec), &[&slice]).unwrap();
    assert_eq!((all.kind.clone(), ready(&all).len()), (cluster_ip(&["10.96.0.7"]), 3));
    let spec = serde_json::json!({ "type": "ExternalName", "externalName": "example.org" });
    assert_eq!(compile(&service(spec), &[]).unwrap().kind, Kind::ExternalName("example.org".to_owned()));
    assert_eq!(compile(&service(serde_json::json!({})), &[]), None);
}

#[test]
fn resolver_configurations() {
    let check = |text: &str, expected: &[&str]| {
        let own = ["10.244.1.1".parse().unwrap()];
        let seen: Vec<String> = resolv::parse(text, &own).iter().map(ToString::to_string).collect();
        assert_eq!(seen, expected, "{text:?}");
    };
    check("", &[]);
    check("# nameserver 1.1.1.1\nnameserver 192.0.2.1\n\tnameserver  192.0.2.2 x\n", &["192.0.2.1:53", "192.0.2.2:53"]);
    check("nameserver 10.244.1.1\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\n", &["[fe80::1]:53"]);
    check("nameserver 192.0.2.1\nnameserver 192.0.2.1\nsearch a b\n", &["192.0.2.1:53"]);
    assert_eq!(upstreams(std::path::Path::new("/nonexistent/resolv.conf"), &[]).unwrap(), []);
}

#[test]
fn snapshots_survive_and_bad_ones_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/zone.json");
    let shared = SharedZone::default();
    *shared.write() = zone();
    snapshot::save(&path, &shared).unwrap();
    let loaded = SharedZone::default();
    snapshot::load(&path, &loaded);
    assert!(loaded.read().is_known());
    assert_eq!(zone::ordered(&loaded.read()), zone::ordered(&zone()));
    std::fs::write(&path, b"[{").unwrap();
    let empty = SharedZone::default();
    snapshot::load(&path, &empty);
    snapshot::load(&dir.path().join("none"), &empty);
    assert!(!empty.read().is_known());
}
