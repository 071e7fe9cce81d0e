use super::*;

/// How the ports of a Service are forwarded, and where clients outside dial them: a node whose Services are forwarded by
/// `default` has one with this annotation and policy.
fn compiled(
    annotation: Option<&str>,
    policy: &str,
    default: Option<Forwarding>,
) -> Vec<(TrafficPolicy, Forwarding, Vec<String>)> {
    let mut spec = cluster_ip(json!([{ "name": "http", "port": 80, "protocol": "TCP", "nodePort": 30_080 }]));
    spec["type"] = json!("NodePort");
    spec["externalTrafficPolicy"] = json!(policy);
    let mut service = service(spec);
    service.metadata.annotations =
        annotation.map(|mode| [("xebec.io/forwarding-mode".to_owned(), mode.to_owned())].into());
    let slice = slice("web", 80, &[("10.244.1.1", "n1", "rs")]);
    let ports = compile(&service, &[&slice], &Node { forwarding: default, ..node() });
    let outside = |port: &ServicePort| {
        let outside = port.frontends.iter().filter(|frontend| frontend.key.scope == Scope::External);
        outside.map(|frontend| format!("{}:{}", frontend.key.addr, frontend.key.port)).collect()
    };
    ports.iter().map(|port| (port.id.policy, port.forwarding, outside(port))).collect()
}

#[track_caller]
fn check(annotation: Option<&str>, default: Option<Forwarding>, expected: Forwarding) {
    let any = if expected == Forwarding::Dsr { vec!["0.0.0.0:30080"] } else { vec![] };
    let outside: Vec<_> = any.into_iter().chain(["172.30.0.11:30080"]).map(str::to_owned).collect();
    assert_eq!(compiled(annotation, "Cluster", default), [(TrafficPolicy::Cluster, expected, outside)]);
    // Backends here see their clients in any case.
    let outside = vec!["172.30.0.11:30080".to_owned()];
    let local = compiled(annotation, "Local", default);
    assert_eq!(local[1], (TrafficPolicy::Local, Forwarding::Snat, outside));
    assert_eq!((local[0].1, local[0].2.len()), (Forwarding::Snat, 0), "nobody outside dials it");
}

#[test]
fn an_annotation_comes_before_the_nodes_default() {
    use Forwarding::{Dsr, Snat};
    for default in [Snat, Dsr] {
        check(None, Some(default), default);
        check(Some("dsr"), Some(default), Dsr);
        check(Some("snat"), Some(default), Snat);
        for none in ["DSR", "", "tunnel"] {
            check(Some(none), Some(default), Snat);
        }
    }
}

#[test]
fn a_node_without_a_tunnel_masquerades() {
    for annotation in [None, Some("dsr"), Some("snat")] {
        check(annotation, None, Forwarding::Snat);
    }
}
