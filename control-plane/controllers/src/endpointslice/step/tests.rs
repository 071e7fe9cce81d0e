use super::*;
use xebec_types::IntOrString;
use xebec_types::core::{Container, ContainerPort, PodCondition, PodSpec, PodStatus, ServicePort};
use xebec_types::discovery::EndpointConditions;

fn service(target: IntOrString) -> Service {
    let mut service = Service::default();
    service.metadata.name = Some("web".into());
    service.metadata.namespace = Some("ns".into());
    service.metadata.uid = Some("s".into());
    service.spec = Some(ServiceSpec {
        cluster_ip: Some("10.96.0.5".into()),
        selector: Some([("app".to_string(), "web".to_string())].into()),
        ports: Some(vec![ServicePort { port: 80, target_port: Some(target), ..ServicePort::default() }]),
        ..ServiceSpec::default()
    });
    service
}

fn pod(n: usize, ready: bool, terminating: bool, http_port: i32) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.name = Some(format!("p{n}"));
    pod.metadata.uid = Some(format!("u{n}"));
    let now = xebec_types::time::time(xebec_types::time::now());
    pod.metadata.deletion_timestamp = terminating.then_some(now);
    pod.spec = Some(PodSpec {
        node_name: Some("n1".into()),
        containers: vec![Container {
            ports: Some(vec![ContainerPort {
                name: Some("http".into()),
                container_port: http_port,
                ..ContainerPort::default()
            }]),
            ..Container::default()
        }],
        ..PodSpec::default()
    });
    pod.status = Some(PodStatus {
        phase: Some("Running".into()),
        pod_ip: Some(format!("10.244.{}.{}", n / 250, n % 250 + 1)),
        conditions: Some(vec![PodCondition {
            type_: "Ready".into(),
            status: if ready { "True" } else { "False" }.into(),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
    Arc::new(pod)
}

fn plan(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Plan {
    step(service, pods, slices, |_| Some("z1".into()))
}

/// What the server would hold after the plan.
fn apply(slices: &[Arc<EndpointSlice>], plan: Plan) -> Vec<Arc<EndpointSlice>> {
    let name = |s: &EndpointSlice| s.metadata.name.clone();
    let mut all: Vec<_> = slices
        .iter()
        .filter(|s| !plan.delete.iter().any(|d| name(d) == name(s)))
        .map(|s| plan.update.iter().find(|u| name(u) == name(s)).map_or(Arc::clone(s), |u| Arc::new(u.clone())))
        .collect();
    for mut slice in plan.create {
        slice.metadata.name = Some(format!("slice-{}", all.len()));
        all.push(Arc::new(slice));
    }
    all
}

fn conditions(slice: &EndpointSlice) -> Vec<(bool, bool, bool)> {
    let endpoints = slice.endpoints.iter().flatten();
    let conditions = endpoints.filter_map(|e| e.conditions.as_ref());
    let flag = |f: Option<bool>| f.unwrap_or_default();
    conditions.map(|c| (flag(c.ready), flag(c.serving), flag(c.terminating))).collect()
}

#[test]
fn conditions_follow_the_truth_table() {
    for (ready, terminating, publish, expected) in [
        (true, false, false, (true, true, false)),
        (false, false, false, (false, false, false)),
        (true, true, false, (false, true, true)),
        (false, true, false, (false, false, true)),
        (false, false, true, (true, false, false)),
        (true, true, true, (true, true, true)),
    ] {
        let mut service = service(IntOrString::Int(8080));
        service.spec.get_or_insert_default().publish_not_ready_addresses = Some(publish);
        let plan = plan(&service, &[pod(1, ready, terminating, 8080)], &[]);
        assert_eq!(conditions(&plan.create[0]), [expected], "{ready} {terminating} {publish}");
    }
}

#[test]
fn a_slice_names_node_zone_and_pod() {
    let plan = plan(&service(IntOrString::String("http".into())), &[pod(1, true, false, 9090)], &[]);
    let slice = &plan.create[0];
    let endpoint = &slice.endpoints.as_ref().expect("endpoints")[0];
    assert_eq!(endpoint.node_name.as_deref(), Some("n1"));
    assert_eq!(endpoint.zone.as_deref(), Some("z1"));
    assert_eq!(endpoint.target_ref.as_ref().and_then(|t| t.name.as_deref()), Some("p1"));
    assert_eq!(slice.ports.as_ref().expect("ports")[0].port, Some(9090), "a port by its name");
    assert_eq!(object::label(&slice.metadata, label::SERVICE_NAME), Some("web"));
}

/// Hints as `zone` and `node`, of a ready pod and of one that is not.
#[track_caller]
fn check_hints(distribution: Option<&str>, expected: Option<(Option<&str>, Option<&str>)>) {
    let mut service = service(IntOrString::Int(8080));
    service.spec.get_or_insert_default().traffic_distribution = distribution.map(str::to_owned);
    let plan = plan(&service, &[pod(1, true, false, 8080), pod(2, false, false, 8080)], &[]);
    let endpoints = plan.create[0].endpoints.as_ref().expect("endpoints");
    let hints = endpoints[0].hints.as_ref().map(|hints| {
        let zone = hints.for_zones.as_ref().map(|zones| zones[0].name.as_str());
        (zone, hints.for_nodes.as_ref().map(|nodes| nodes[0].name.as_str()))
    });
    assert_eq!(hints, expected, "{distribution:?}");
    assert_eq!(endpoints[1].hints, None, "not ready");
}

#[test]
fn endpoints_have_the_hints_that_the_service_wants() {
    check_hints(None, None);
    check_hints(Some("PreferClose"), Some((Some("z1"), None)));
    check_hints(Some("PreferSameZone"), Some((Some("z1"), None)));
    check_hints(Some("PreferSameNode"), Some((Some("z1"), Some("n1"))));
    check_hints(Some("Elsewhere"), None);
}

#[test]
fn pods_that_name_a_port_differently_are_in_slices_of_their_own() {
    let pods = [pod(1, true, false, 8080), pod(2, true, false, 9090)];
    let plan = plan(&service(IntOrString::String("http".into())), &pods, &[]);
    assert_eq!(plan.create.len(), 2);
}

#[test]
fn a_slice_holds_a_hundred_and_one_change_writes_one_slice() {
    let service = service(IntOrString::Int(8080));
    let mut pods: Vec<_> = (0..250).map(|n| pod(n, true, false, 8080)).collect();
    let slices = apply(&[], plan(&service, &pods, &[]));
    let sizes: Vec<_> = slices.iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).collect();
    assert_eq!(sizes, [100, 100, 50]);
    let again = plan(&service, &pods, &slices);
    assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
    pods[7] = pod(7, false, false, 8080);
    let change = plan(&service, &pods, &slices);
    assert_eq!((change.create.len(), change.update.len(), change.delete.len()), (0, 1, 0));
    pods.remove(7);
    pods.push(pod(900, true, false, 8080));
    let replaced = plan(&service, &pods, &slices);
    assert_eq!(replaced.update.len(), 1, "the new endpoint takes the place of the old one");
    pods.truncate(10);
    let shrunk = apply(&slices, plan(&service, &pods, &slices));
    assert_eq!(shrunk.iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).sum::<usize>(), 10);
}

#[test]
fn a_service_without_pods_keeps_one_empty_slice() {
    let service = service(IntOrString::Int(8080));
    let slices = apply(&[], plan(&service, &[], &[]));
    assert_eq!(slices.len(), 1);
    let again = plan(&service, &[], &slices);
    assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
    let filled = apply(&slices, plan(&service, &[pod(1, true, false, 8080)], &slices));
    assert_eq!(filled.len(), 1);
    let emptied = apply(&filled, plan(&service, &[], &filled));
    assert_eq!(emptied.len(), 1);
    assert_eq!(conditions(&emptied[0]), []);
}

#[test]
fn a_service_that_became_an_alias_loses_its_slices() {
    let mut service = service(IntOrString::Int(8080));
    let slices = apply(&[], plan(&service, &[pod(1, true, false, 8080)], &[]));
    service.spec.get_or_insert_default().type_ = Some("ExternalName".into());
    assert_eq!(plan(&service, &[], &slices).delete.len(), 1);
}

/// The endpoints of the slices that are tried one after the other, by the last byte of their address.
#[track_caller]
fn check_fewer(known: Option<&[u8]>, wanted: &[u8], expected: &[&[u8]]) {
    let endpoint = |n: &u8| Endpoint {
        addresses: vec![format!("192.0.2.{n}")],
        conditions: Some(EndpointConditions { ready: Some(n.is_multiple_of(2)), ..EndpointConditions::default() }),
        ..Endpoint::default()
    };
    let slice =
        |of: &[u8]| EndpointSlice { endpoints: Some(of.iter().map(endpoint).collect()), ..EndpointSlice::default() };
    let tried = fewer(&slice(wanted), known.map(slice).as_ref());
    let of =
        |endpoint: &Endpoint| endpoint.addresses[0].rsplit('.').next().and_then(|n| n.parse().ok()).expect("a number");
    let tried: Vec<Vec<u8>> = tried.iter().map(|slice| slice.endpoints.iter().flatten().map(of).collect()).collect();
    assert_eq!(tried, expected, "{wanted:?} instead of {known:?}");
}

#[test]
fn a_slice_without_room_is_tried_with_less() {
    // A new one: half, ready ones first, and none without endpoints.
    check_fewer(None, &[1, 2, 3, 4, 5, 6], &[&[2, 4, 6], &[2]]);
    check_fewer(None, &[2], &[]);
    check_fewer(None, &[], &[]);
    // What is gone is withdrawn in the end, whatever is added.
    check_fewer(Some(&[1, 2, 3]), &[2, 3, 4, 5, 6], &[&[2, 3, 4], &[2, 3]]);
    check_fewer(Some(&[1]), &[2], &[&[]]);
    // Where nothing is, there is nothing to write.
    check_fewer(Some(&[1, 2]), &[1, 2, 3], &[]);
    check_fewer(Some(&[1, 2]), &[1], &[]);
}
