use super::*;

/// The algorithm of the ports that clients outside dial, and of those that they do not, with the backends' weights.
fn compiled(annotation: Option<&str>, weights: [Option<&str>; 2]) -> Vec<(bool, Algorithm, Vec<u8>)> {
    let mut spec = cluster_ip(json!([{ "name": "http", "port": 80, "protocol": "TCP", "nodePort": 30_080 }]));
    spec["type"] = json!("NodePort");
    spec["externalTrafficPolicy"] = json!("Local");
    let mut service = service(spec);
    let set = |name: &str, value: Option<&str>| value.map(|value| [(name.to_owned(), value.to_owned())].into());
    service.metadata.annotations = set("xebec.io/load-balancing-algorithm", annotation);
    let slices: Vec<_> = (1..)
        .zip(weights)
        .map(|(number, weight)| {
            let mut slice = slice("web", 80, &[(&format!("10.244.1.{number}"), "n1", "rs")]);
            slice.metadata.annotations = set("xebec.io/load-balancing-weight", weight);
            slice
        })
        .collect();
    let ports = compile(&service, &slices.iter().collect::<Vec<_>>(), &node());
    let outside = |port: &ServicePort| port.frontends.iter().any(|frontend| frontend.key.scope == Scope::External);
    let weights = |port: &ServicePort| port.backends.iter().map(|backend| backend.weight).collect();
    ports.iter().map(|port| (outside(port), port.algorithm, weights(port))).collect()
}

#[test]
fn an_annotation_asks_for_maglev_where_clients_outside_dial() {
    let weights = [Some("3"), None];
    assert_eq!(
        compiled(Some("maglev"), weights),
        [(false, Algorithm::Random, vec![0, 0]), (true, Algorithm::Maglev, vec![3, 0])]
    );
    let random = [(false, Algorithm::Random, vec![0, 0]), (true, Algorithm::Random, vec![0, 0])];
    for annotation in [None, Some("random"), Some("Maglev"), Some("")] {
        assert_eq!(compiled(annotation, weights), random, "{annotation:?}");
    }
}

#[test]
fn a_weight_that_is_none_is_as_one() {
    for weight in ["x", "-1", "256", ""] {
        let ports = compiled(Some("maglev"), [Some(weight), Some("255")]);
        assert_eq!(ports[1].2, [0, 255], "{weight:?}");
    }
}
