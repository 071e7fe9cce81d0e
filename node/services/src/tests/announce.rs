use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use super::*;
use crate::announce::{HEIRS, candidates, heirs, owner};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn balanced(policy: &str, addresses: &[String]) -> Service {
    let ingress: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    let spec = with(with(http(), "type", json!("LoadBalancer")), "externalTrafficPolicy", json!(policy));
    let mut object = serde_json::to_value(service(spec)).unwrap();
    object["status"] = json!({ "loadBalancer": { "ingress": ingress } });
    serde_json::from_value(object).unwrap()
}

fn owners(service: &Service, slices: &[&EndpointSlice], nodes: &[&'static str]) -> BTreeMap<IpAddr, &'static str> {
    heirs(service, slices, nodes).iter().filter_map(|(ip, heirs)| Some((*ip, owner(heirs, &HashSet::new())?))).collect()
}

#[test]
fn every_address_has_one_node_and_moves_only_with_it() {
    let addresses: Vec<String> = (1..=240).map(|last| format!("192.0.2.{last}")).collect();
    let service = balanced("Cluster", &addresses);
    let all = owners(&service, &[], &NODES);
    assert_eq!(all.len(), addresses.len());
    for node in NODES {
        let share = all.values().filter(|owner| **owner == node).count();
        assert!((50..110).contains(&share), "{node} has {share}");
    }
    let without = owners(&service, &[], &["n1", "n3"]);
    assert!(all.iter().all(|(address, owner)| *owner == "n2" || without[address] == *owner));
    assert_eq!(owners(&service, &[], &[]), BTreeMap::new());
}

#[test]
fn a_silent_node_is_replaced_by_the_next_heir_and_nothing_else_moves() {
    let service = balanced("Cluster", &(1..=50).map(|last| format!("192.0.2.{last}")).collect::<Vec<_>>());
    let nodes = ["n1", "n2", "n3", "n4", "n5"];
    let silent = HashSet::from(["n2"]);
    let without: Vec<_> = nodes.into_iter().filter(|node| *node != "n2").collect();
    let left = heirs(&service, &[], &without);
    for (address, heirs) in heirs(&service, &[], &nodes) {
        assert_eq!(heirs.len(), HEIRS);
        let (before, after) = (owner(&heirs, &HashSet::new()), owner(&heirs, &silent));
        assert_eq!(before == after, before != Some("n2"), "{address}");
        assert_eq!(after, owner(&left[&address], &HashSet::new()), "as when the API server says so: {address}");
        assert_eq!(owner(&heirs, &heirs.iter().copied().collect()), None, "nobody is left to know");
    }
}

#[test]
fn the_local_policy_asks_nodes_with_endpoints() {
    let addresses = (1..=50).map(|last| format!("192.0.2.{last}")).collect::<Vec<_>>();
    let slice = slice("web", 80, &[("10.244.2.1", "n2", "rs"), ("10.244.3.1", "n3", "st")]);
    let local = owners(&balanced("Local", &addresses), &[&slice], &NODES);
    assert_eq!(local.values().copied().collect::<BTreeSet<_>>(), ["n2"].into());
    let anywhere = owners(&balanced("Cluster", &addresses), &[&slice], &NODES);
    assert_eq!(anywhere.values().copied().collect::<BTreeSet<_>>(), NODES.into());
}

#[test]
fn only_our_load_balancers_are_announced() {
    let mut service = balanced("Cluster", &["192.0.2.1".to_owned()]);
    let seen = |service: &Service| owners(service, &[], &NODES).len();
    assert_eq!(seen(&service), 1);
    service.spec.as_mut().unwrap().load_balancer_class = Some("other.io/lb".to_owned());
    assert_eq!(seen(&service), 0);
    service.spec.as_mut().unwrap().load_balancer_class = Some("xebec.io/load-balancer".to_owned());
    assert_eq!(seen(&service), 1);
    service.spec.as_mut().unwrap().type_ = Some("NodePort".to_owned());
    assert_eq!(seen(&service), 0);
}

#[test]
fn nodes_that_are_ready_and_not_excluded_are_asked() {
    let node = |name: &str, ready: &str, labels: Value| -> xebec_types::core::Node {
        let conditions = json!([{ "type": "Ready", "status": ready }]);
        let object = json!({ "metadata": { "name": name, "labels": labels }, "status": { "conditions": conditions } });
        serde_json::from_value(object).unwrap()
    };
    let excluded = json!({ "node.kubernetes.io/exclude-from-external-load-balancers": "" });
    let nodes = [node("a", "True", json!({})), node("b", "Unknown", json!({})), node("c", "True", excluded)];
    assert_eq!(candidates(&nodes), ["a"]);
}
