use serde_json::{Value, json};

use super::super::step;
use super::*;

fn pool(name: &str, spec: Value) -> Arc<LoadBalancerIPPool> {
    let object = json!({ "metadata": { "name": name }, "spec": spec });
    Arc::new(serde_json::from_value(object).expect("a pool"))
}

fn blocks(blocks: &[&str]) -> Value {
    let block = |text: &&str| match text.split_once('-') {
        Some((start, stop)) => json!({ "start": start, "stop": stop }),
        None if text.contains('/') => json!({ "cidr": text }),
        None => json!({ "start": text }),
    };
    blocks.iter().map(block).collect()
}

fn resolve(flags: &[&str], objects: &[Arc<LoadBalancerIPPool>]) -> Vec<Pool> {
    let flags: Vec<AddressRange> = flags.iter().map(|range| range.parse().expect("a range")).collect();
    pools(&flags, objects, &["10.244.0.0/16".parse().expect("a network"), "fd00::/64".parse().expect("a network")])
}

/// What the last pool's condition says.
#[track_caller]
fn check(flags: &[&str], objects: &[Arc<LoadBalancerIPPool>], expected: [&str; 3]) {
    let pools = resolve(flags, objects);
    let last = pools.iter().rfind(|pool| pool.object.is_some()).expect("a pool");
    let status = last.status(&BTreeSet::new(), time::now());
    let ready = &status.conditions[0];
    assert_eq!([ready.status.as_str(), ready.reason.as_str(), ready.message.as_str()], expected);
}

#[test]
fn a_pool_that_gives_nothing_says_why() {
    let good = pool("good", json!({ "blocks": blocks(&["192.0.2.0/28"]) }));
    let one = std::slice::from_ref(&good);
    check(&[], one, ["True", "Available", ""]);
    check(
        &["192.0.2.9-192.0.2.20"],
        one,
        [
            "False",
            "Conflict",
            "192.0.2.1-192.0.2.14 overlaps 192.0.2.9-192.0.2.20 of the server's --load-balancer-pool",
        ],
    );
    let other = pool("other", json!({ "blocks": blocks(&["198.51.100.1", "192.0.2.14"]) }));
    check(&[], &[good, other], ["False", "Conflict", "192.0.2.14-192.0.2.14 overlaps 192.0.2.1-192.0.2.14 of good"]);
    let pods = pool("pods", json!({ "blocks": blocks(&["10.244.255.0-10.245.0.9"]) }));
    check(&[], &[pods], ["False", "Conflict", "10.244.255.0-10.245.0.9 overlaps 10.244.0.0/16, the cluster's own"]);
    let turned = pool("turned", json!({ "blocks": blocks(&["192.0.2.9-192.0.2.1"]) }));
    let message = "\"192.0.2.9-192.0.2.1\" is no range of addresses: write 192.0.2.0/24 or 192.0.2.10-192.0.2.20";
    check(&[], &[turned], ["False", "Invalid", message]);
    let disabled = pool("disabled", json!({ "blocks": blocks(&["192.0.2.0/28"]), "disabled": true }));
    check(&[], &[disabled], ["False", "Disabled", "spec.disabled is set"]);
}

fn service(name: &str, tier: &str, address: Option<&str>) -> Arc<Service> {
    let ingress: Vec<Value> = address.iter().map(|ip| json!({ "ip": ip })).collect();
    let object = json!({ "metadata": { "namespace": "demo", "name": name, "labels": { "tier": tier } },
        "spec": { "type": "LoadBalancer" }, "status": { "loadBalancer": { "ingress": ingress } } });
    Arc::new(serde_json::from_value(object).expect("a Service"))
}

/// `name address` for every write, `name: reason` for every refusal.
#[track_caller]
fn check_plan(objects: &[Arc<LoadBalancerIPPool>], services: &[Arc<Service>], expected: &[&str]) -> Vec<PoolStatus> {
    let pools = resolve(&[], objects);
    let plan = step::step(services, &pools);
    let name = |service: &Service| service.metadata.name.clone().unwrap_or_default();
    let address = |addresses: &[IpAddr]| addresses.first().map_or_else(|| "none".to_owned(), ToString::to_string);
    let writes = plan.writes.iter().map(|write| format!("{} {}", name(&write.service), address(&write.addresses)));
    let refusals = plan.refusals.iter().map(|refusal| format!("{}: {}", name(&refusal.service), refusal.reason));
    assert_eq!(writes.chain(refusals).collect::<Vec<_>>(), expected);
    pools.iter().map(|pool| pool.status(&plan.taken, time::now())).collect()
}

#[test]
fn a_pool_is_for_the_services_that_it_selects() {
    let back = json!({ "blocks": blocks(&["192.0.2.1"]), "serviceSelector": { "matchLabels": { "tier": "back" } } });
    let elsewhere = json!({ "blocks": blocks(&["192.0.2.9"]), "serviceNamespaces": ["other"] });
    let pools = [pool("a", back), pool("b", elsewhere)];
    let (front, back) = (service("front", "front", None), service("back", "back", None));
    let refused = "front: no LoadBalancerIPPool is for this Service";
    check_plan(&pools, &[front.clone(), back], &["back 192.0.2.1", refused]);
    // It had the label once.
    let had = service("front", "front", Some("192.0.2.1"));
    check_plan(&pools, &[had, service("back", "back", None)], &["back 192.0.2.1", "front none", refused]);
    let second = service("second", "back", None);
    let statuses = check_plan(
        &pools,
        &[service("back", "back", Some("192.0.2.1")), second],
        &["second: every address of the pools for this Service is taken"],
    );
    let counts = statuses.iter().map(|status| [status.total, status.used, status.available]);
    assert_eq!(counts.collect::<Vec<_>>(), [[1, 1, 0], [1, 0, 1]]);
}

#[test]
fn objects_come_before_the_flags() {
    let edge = json!({ "blocks": blocks(&["192.0.2.1"]), "serviceSelector": { "matchLabels": { "tier": "edge" } } });
    let pools = resolve(&["198.51.100.1-198.51.100.9"], &[pool("edge", edge)]);
    let plan = step::step(&[service("a", "edge", None), service("b", "other", None)], &pools);
    let given: Vec<_> = plan.writes.iter().flat_map(|write| &write.addresses).map(ToString::to_string).collect();
    assert_eq!(given, ["192.0.2.1", "198.51.100.1"]);
}

#[test]
fn a_disabled_pool_keeps_what_it_gave_and_a_deleted_one_does_not() {
    let mut disabled = pool("a", json!({ "blocks": blocks(&["192.0.2.1-192.0.2.2"]), "disabled": true }));
    let held = service("held", "", Some("192.0.2.1"));
    let full = "new: every address of the pools for this Service is taken";
    check_plan(std::slice::from_ref(&disabled), &[held.clone(), service("new", "", None)], &[full]);
    Arc::make_mut(&mut disabled).metadata.deletion_timestamp = Some(time::time(time::now()));
    let none = "held: no LoadBalancerIPPool is for this Service";
    check_plan(std::slice::from_ref(&disabled), std::slice::from_ref(&held), &["held none", none]);
    let [deleted] = resolve(&[], &[disabled]).try_into().expect("one");
    assert!(step::is_held(&deleted, &[held]));
    assert!(!step::is_held(&deleted, &[service("free", "", None)]));
}

#[test]
fn a_condition_keeps_its_time_while_it_stays() {
    let mut object = (*pool("a", json!({ "blocks": blocks(&["192.0.2.1"]) }))).clone();
    let then = time::time("2026-01-02T03:04:05Z".parse().expect("a time"));
    object.status.conditions =
        resolve(&[], &[Arc::new(object.clone())])[0].status(&BTreeSet::new(), time::now()).conditions;
    object.status.conditions[0].last_transition_time = then.clone();
    let since = |object: &LoadBalancerIPPool| {
        let status = resolve(&[], &[Arc::new(object.clone())])[0].status(&BTreeSet::new(), time::now());
        status.conditions[0].last_transition_time.clone()
    };
    assert_eq!(since(&object), then);
    object.spec.disabled = true;
    assert_ne!(since(&object), then);
}
