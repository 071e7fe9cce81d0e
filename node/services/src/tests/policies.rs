//! Traffic policies, exhaustively, through the real objects: what a client dials and where it is, both policies, and
//! where the endpoints are and in which state, against the rules written down one by one.

use super::*;

const NODE_PORT: u16 = 30_080;

/// Where an endpoint is, and its conditions.
const STATES: [(&str, &str, &str); 6] = [
    ("10.244.1.1", "n1", "rs"),
    ("10.244.1.2", "n1", "st"),
    ("10.244.1.3", "n1", "t"),
    ("10.244.2.1", "n2", "rs"),
    ("10.244.2.2", "n2", "st"),
    ("10.244.2.3", "n2", "-"),
];

/// What a client dials: type of the Service, address, port.
const DIALLED: [(&str, &str, u16, FrontendKind); 5] = [
    ("ClusterIP", "10.96.0.7", 80, FrontendKind::ClusterIp),
    ("NodePort", "172.30.0.11", NODE_PORT, FrontendKind::NodePort),
    ("NodePort", "127.0.0.1", NODE_PORT, FrontendKind::NodePort),
    ("LoadBalancer", "203.0.113.10", 80, FrontendKind::LoadBalancer),
    ("ClusterIP", "198.51.100.1", 80, FrontendKind::ExternalIp),
];

fn object(kind: &str, internal: &str, external: &str) -> Service {
    let mut port = json!({ "name": "http", "port": 80, "protocol": "TCP" });
    if kind != "ClusterIP" {
        port["nodePort"] = json!(NODE_PORT);
    }
    let mut spec = cluster_ip(json!([port]));
    spec["type"] = json!(kind);
    spec["internalTrafficPolicy"] = json!(internal);
    spec["externalTrafficPolicy"] = json!(external);
    spec["externalIPs"] = json!(["198.51.100.1"]);
    let mut service = serde_json::to_value(service(spec)).unwrap();
    service["status"]["loadBalancer"]["ingress"] = json!([{ "ip": "203.0.113.10" }]);
    serde_json::from_value(service).unwrap()
}

/// `None`: not a frontend for such clients.
fn compiled(
    service: &Service,
    slice: &EndpointSlice,
    addr: &str,
    port: u16,
    scope: Scope,
) -> Option<(FrontendKind, Vec<String>)> {
    let key = FrontendKey { addr: addr.parse().unwrap(), port, protocol: Protocol::Tcp, scope };
    let ports = compile(service, &[slice], &node());
    let mut found = ports.iter().filter_map(|port| {
        let frontend = port.frontends.iter().find(|frontend| frontend.key == key)?;
        Some((frontend.kind, port.backends.iter().map(|backend| backend.addr.to_string()).collect()))
    });
    let first = found.next();
    assert!(found.next().is_none(), "{key:?} is a frontend once");
    first
}

fn expected(endpoints: &[(&str, &str, &str)], local: bool) -> Vec<String> {
    let here = endpoints.iter().filter(|(_, on, _)| !local || *on == NODE);
    let with = |wanted: &str| here.clone().filter(|(_, _, state)| *state == wanted).map(|e| e.0.to_owned()).collect();
    let ready: Vec<String> = with("rs");
    if ready.is_empty() { with("st") } else { ready }
}

#[test]
fn every_client_gets_the_endpoints_that_its_policy_gives() {
    let mut checked = 0;
    for chosen in 0..1_u32 << STATES.len() {
        let endpoints: Vec<_> = (0..).zip(STATES).filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, e)| e).collect();
        let slice = slice("web", 8080, &endpoints);
        for (internal, external) in
            [("Cluster", "Cluster"), ("Cluster", "Local"), ("Local", "Cluster"), ("Local", "Local")]
        {
            for (kind, addr, port, frontend) in DIALLED {
                let service = object(kind, internal, external);
                for scope in [Scope::Internal, Scope::External] {
                    let cluster_ip = frontend == FrontendKind::ClusterIp;
                    let served = scope == Scope::Internal || !(cluster_ip || addr == "127.0.0.1");
                    let local = match scope {
                        Scope::Internal => cluster_ip && internal == "Local",
                        Scope::External => external == "Local",
                    };
                    let expected = served.then(|| (frontend, expected(&endpoints, local)));
                    let context = format!("{frontend:?} {scope:?} {internal} {external} {endpoints:?}");
                    assert_eq!(compiled(&service, &slice, addr, port, scope), expected, "{context}");
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, 64 * 4 * 5 * 2);
}

#[test]
fn source_ranges_limit_load_balancers_alone() {
    let mut service = object("LoadBalancer", "Cluster", "Cluster");
    let ranges = |service: &Service| -> Vec<Vec<String>> {
        let ports = compile(service, &[], &node());
        ports.iter().map(|port| port.source_ranges.iter().map(ToString::to_string).collect()).collect()
    };
    assert_eq!(ranges(&service), [Vec::<String>::new()]);
    let annotation =
        ("service.beta.kubernetes.io/load-balancer-source-ranges".to_owned(), "192.0.2.1/24, fd00::/8".to_owned());
    service.metadata.annotations = Some([annotation].into());
    assert_eq!(ranges(&service), [["192.0.2.0/24"]]);
    service.spec.as_mut().unwrap().load_balancer_source_ranges = Some(vec!["10.0.0.0/8".to_owned(), "no".to_owned()]);
    assert_eq!(ranges(&service), [["10.0.0.0/8"]]);
    service.spec.as_mut().unwrap().type_ = Some("NodePort".to_owned());
    assert_eq!(ranges(&service), [Vec::<String>::new()]);
}

#[test]
fn a_proxying_load_balancer_is_not_short_circuited() {
    let mut service = object("LoadBalancer", "Cluster", "Cluster");
    let status = service.status.as_mut().unwrap().load_balancer.as_mut().unwrap();
    status.ingress.as_mut().unwrap()[0].ip_mode = Some("Proxy".to_owned());
    let slice = slice("web", 80, &STATES);
    assert_eq!(compiled(&service, &slice, "203.0.113.10", 80, Scope::Internal), None);
}

/// Hints as letters: `z` for this zone, `Z` for another, `n` for this node, `N` for another.
#[track_caller]
fn check_hints(zone: Option<&str>, endpoints: &[(&str, &str, &str)], expected: &[&str]) {
    let states: Vec<_> = endpoints.iter().map(|(addr, _, state)| (*addr, "n9", *state)).collect();
    let mut slice = serde_json::to_value(slice("web", 80, &states)).unwrap();
    for (index, (_, hints, _)) in endpoints.iter().enumerate() {
        let names = |letters: [(char, &str); 2]| -> Vec<Value> {
            letters
                .iter()
                .filter(|(letter, _)| hints.contains(*letter))
                .map(|(_, name)| json!({ "name": name }))
                .collect()
        };
        slice["endpoints"][index]["hints"] =
            json!({ "forZones": names([('z', "z1"), ('Z', "z2")]), "forNodes": names([('n', "n1"), ('N', "n2")]) });
    }
    let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
    let here = Node { zone: zone.map(str::to_owned), ..node() };
    let ports = compile(&service(http()), &[&slice], &here);
    let seen: Vec<_> = ports[0].backends.iter().map(|backend| backend.addr.to_string()).collect();
    assert_eq!(seen, expected, "{endpoints:?}");
}

#[test]
fn hints_keep_traffic_near_where_all_endpoints_have_them() {
    let (a, b, c) = ("10.0.0.1", "10.0.0.2", "10.0.0.3");
    check_hints(Some("z1"), &[(a, "z", "rs"), (b, "Z", "rs"), (c, "zZ", "rs")], &[a, c]);
    check_hints(Some("z1"), &[(a, "z", "rs"), (b, "", "rs")], &[a, b]);
    check_hints(Some("z1"), &[(a, "Z", "rs"), (b, "Z", "rs")], &[a, b]);
    check_hints(None, &[(a, "z", "rs"), (b, "Z", "rs")], &[a, b]);
    // One that is not ready has no say; the last resort is not narrowed down.
    check_hints(Some("z1"), &[(a, "z", "rs"), (b, "", "-"), (c, "Z", "rs")], &[a]);
    check_hints(Some("z1"), &[(a, "z", "st"), (b, "Z", "st")], &[a, b]);
    // A node's hints go before a zone's.
    check_hints(Some("z1"), &[(a, "zn", "rs"), (b, "zN", "rs")], &[a]);
    check_hints(Some("z1"), &[(a, "zN", "rs"), (b, "ZN", "rs")], &[a]);
}

#[track_caller]
fn check_host_port(pod: &Value, expected: &[&str]) {
    let pod = serde_json::from_value(pod.clone()).unwrap();
    let ports = compile_host_ports(&pod, &node());
    let seen: Vec<String> = ports
        .iter()
        .flat_map(|port| port.frontends.iter().map(|f| (f.key, backends(port).join(" "))))
        .map(|(key, backends)| format!("{:?} {}:{} -> {backends}", key.scope, key.addr, key.port))
        .collect();
    assert_eq!(seen, expected, "{pod:?}");
}

#[test]
fn host_ports_are_on_the_nodes_addresses() {
    let pod = |port: Value| {
        json!({ "metadata": { "namespace": "demo", "name": "a" },
            "spec": { "nodeName": NODE, "containers": [{ "name": "c", "ports": [port] }] },
            "status": { "phase": "Running", "podIPs": [{ "ip": "10.244.1.2" }, { "ip": "fd00::2" }] } })
    };
    let any = pod(json!({ "containerPort": 80, "hostPort": 8080 }));
    let to = "10.244.1.2:80L";
    let inside = [format!("Internal 127.0.0.1:8080 -> {to}"), format!("Internal 172.30.0.11:8080 -> {to}")];
    let outside = format!("External 172.30.0.11:8080 -> {to}");
    check_host_port(&any, &[&inside[0], &inside[1], &outside]);
    let unspecified = pod(json!({ "containerPort": 80, "hostPort": 8080, "hostIP": "0.0.0.0" }));
    check_host_port(&unspecified, &[&inside[0], &inside[1], &outside]);
    check_host_port(&pod(json!({ "containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1" })), &[&inside[0]]);
    check_host_port(&pod(json!({ "containerPort": 80 })), &[]);
    check_host_port(&pod(json!({ "containerPort": 80, "hostPort": 99_999 })), &[]);
    let mut gone = any.clone();
    for (field, value) in [("phase", json!("Failed")), ("phase", json!("Running")), ("podIPs", json!([]))] {
        gone["status"][field] = value;
        let expected: &[&str] = if field == "phase" && gone["status"]["phase"] == "Running" {
            &[&inside[0], &inside[1], &outside]
        } else {
            &[]
        };
        check_host_port(&gone, expected);
    }
    let mut host = any.clone();
    host["spec"]["hostNetwork"] = json!(true);
    check_host_port(&host, &[]);
    let mut elsewhere = any;
    elsewhere["spec"]["nodeName"] = json!("n2");
    check_host_port(&elsewhere, &[]);
}

#[test]
fn a_health_check_counts_ready_endpoints_of_the_node() {
    let mut service = object("LoadBalancer", "Cluster", "Local");
    service.spec.as_mut().unwrap().health_check_node_port = Some(31_000);
    let check = |states: &[_]| health_check(&service, &[&slice("web", 80, states)], &node()).unwrap();
    assert_eq!(check(&STATES).local_endpoints, 1);
    assert!(check(&STATES).is_healthy() && !check(&STATES[1..]).is_healthy());
    let body: Value = serde_json::from_str(&check(&[]).body()).unwrap();
    let expected = json!({ "service": { "namespace": "demo", "name": "web" }, "localEndpoints": 0,
        "serviceProxyHealthy": true });
    assert_eq!(body, expected);
    for kind in ["ClusterIP", "NodePort"] {
        assert_eq!(health_check(&object(kind, "Cluster", "Local"), &[], &node()), None);
    }
}
