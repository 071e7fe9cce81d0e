//! Services and where they lead: Endpoints and EndpointSlices, made from pods or from each other.

use crate::harness::Cluster;
use crate::raw::{controller, uid};
use crate::workload::template;
use serde_json::{Value, json};
use xebec_apiserver::ServiceLimits;

async fn slices(cluster: &Cluster, service: &str) -> Vec<Value> {
    let mut slices = cluster.all_of("endpointslices").await;
    slices.retain(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service);
    slices
}

/// Waits until the service has one slice, and it is as wanted.
async fn slice(cluster: &Cluster, service: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let ask = || async { Some(slices(cluster, service).await).filter(|s| s.len() == 1 && holds(&s[0])) };
    cluster.until(what, ask).await.remove(0)
}

async fn no_slices(cluster: &Cluster, service: &str) {
    cluster.until("no slices", || async { slices(cluster, service).await.is_empty().then_some(()) }).await;
}

/// Conformance: EndpointSlice and EndpointsController "should create and delete … for a Service with a selector that matches no pods",
/// "should create Endpoints and EndpointSlices for Pods matching a Service".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_has_endpoints_as_long_as_it_lives() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let ports =
        json!([{"name": "http", "port": 80, "targetPort": 3000}, {"name": "more", "port": 9090, "targetPort": 4000}]);
    let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"app": "web"}, "ports": ports}});
    let made = cluster.make("services", &service).await;
    let empty = slice(&cluster, "s", "an empty slice", |s| s["endpoints"].as_array().is_none_or(Vec::is_empty)).await;
    assert_eq!(controller(&empty), Some(uid(&made)));
    assert_eq!(
        empty["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    let none = cluster.until("Endpoints", || cluster.read("endpoints/s")).await;
    assert!(none["subsets"].is_null(), "{none}");

    for name in ["a", "b"] {
        let mut pod = template("i");
        pod["metadata"]["name"] = name.into();
        cluster.make("pods", &pod).await;
    }
    cluster.ready_pods("ns", 2).await;
    let ips: Vec<Value> = cluster.all_of("pods").await.iter().map(|pod| pod["status"]["podIP"].clone()).collect();
    let found =
        slice(&cluster, "s", "two endpoints", |s| s["endpoints"].as_array().is_some_and(|e| e.len() == 2)).await;
    for endpoint in found["endpoints"].as_array().expect("endpoints") {
        assert!(ips.contains(&endpoint["addresses"][0]) && endpoint["conditions"]["ready"] == true, "{endpoint}");
        assert_eq!((&endpoint["targetRef"]["kind"], &endpoint["nodeName"]), (&json!("Pod"), &json!("n0")));
    }
    let mut numbers: Vec<_> = found["ports"].as_array().expect("ports").iter().map(|p| p["port"].clone()).collect();
    numbers.sort_by_key(Value::as_i64);
    assert_eq!(numbers, [3000, 4000]);
    let full = |endpoints: &Value| {
        let addresses = endpoints["subsets"][0]["addresses"].as_array();
        addresses.is_some_and(|all| all.len() == 2 && all.iter().all(|address| ips.contains(&address["ip"])))
    };
    cluster.becomes("endpoints/s", "two addresses", full).await;

    cluster.remove("services/s", &Value::Null).await;
    cluster.gone("endpoints/s").await;
    no_slices(&cluster, "s").await;
}

/// Conformance: EndpointSliceMirroring "should mirror a custom Endpoints resource through create update and delete".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hand_written_endpoints_are_mirrored_while_they_live() {
    let cluster = Cluster::start(0).await;
    cluster.namespace("ns").await;
    let ports = json!([{"name": "example", "port": 80, "protocol": "TCP"}]);
    cluster.make("services", &json!({"metadata": {"name": "s"}, "spec": {"ports": ports}})).await;
    let at = |ip: &str| json!([{"addresses": [{"ip": ip}], "ports": ports}]);
    cluster.make("endpoints", &json!({"metadata": {"name": "s"}, "subsets": at("10.1.2.3")})).await;
    let first = slice(&cluster, "s", "a mirror", |s| s["endpoints"][0]["addresses"] == json!(["10.1.2.3"])).await;
    assert_eq!((&first["ports"][0]["port"], &first["ports"][0]["name"]), (&json!(80), &json!("example")));
    let by = "endpointslicemirroring-controller.k8s.io";
    assert_eq!(first["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"], by);
    cluster.change("endpoints/s", &json!({"subsets": at("10.2.3.4")})).await;
    let second = slice(&cluster, "s", "the change", |s| s["endpoints"][0]["addresses"] == json!(["10.2.3.4"])).await;
    assert_eq!(uid(&second), uid(&first), "the slice is updated");
    cluster.remove("endpoints/s", &Value::Null).await;
    no_slices(&cluster, "s").await;
}

/// Conformance: "Service endpoints latency should not be very high": upstream allows 20 s for the median of 200 services, 50 s for the 99th.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_services_have_their_endpoints_at_once() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let mut pod = template("i");
    pod["metadata"]["name"] = "p".into();
    cluster.make("pods", &pod).await;
    cluster.ready_pods("ns", 1).await;
    for n in 0..200 {
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
        cluster.make("services", &json!({"metadata": {"name": format!("s{n}")}, "spec": spec})).await;
    }
    let all = || async {
        let of = |endpoints: &Value| endpoints["subsets"][0]["addresses"][0]["ip"].is_string();
        let led = |slice: &Value| slice["endpoints"][0]["addresses"][0].is_string();
        let slices = cluster.all_of("endpointslices").await.iter().filter(|slice| led(slice)).count();
        let endpoints = cluster.all_of("endpoints").await.iter().filter(|endpoints| of(endpoints)).count();
        ((slices, endpoints) == (200, 200)).then_some(())
    };
    cluster.until("endpoints of 200 services", all).await;
}

/// A Service without a selector, and its slice with three endpoints.
async fn three_backends(cluster: &Cluster) {
    cluster.make("services", &json!({"metadata": {"name": "other"}, "spec": {"ports": [{"port": 80}]}})).await;
    let endpoints: Vec<Value> = (1..=3).map(|n| json!({"addresses": [format!("192.0.2.{n}")]})).collect();
    let slice = json!({
        "metadata": {"name": "other", "labels": {"kubernetes.io/service-name": "other"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "", "port": 80}],
    });
    cluster.make("endpointslices", &slice).await;
}

/// Waits for an Event about an object that names the map which is full, and its limit.
async fn says_what_is_full(cluster: &Cluster, kind: &str, name: &str, limit: u32) {
    let what =
        format!("map xb_lb4_be of the nodes' datapath takes {limit} backends (--datapath-capacity backends={limit})");
    let full = |event: &Value| {
        let message = event["message"].as_str().unwrap_or_default();
        (&event["involvedObject"]["kind"], &event["involvedObject"]["name"]) == (&json!(kind), &json!(name))
            && event["reason"] == "FailedToUpdateEndpointSlices"
            && message.contains(&what)
    };
    let ask = || async { cluster.all_of("events").await.iter().any(full).then_some(()) };
    cluster.until("an Event about the map that is full", ask).await;
}

async fn has_endpoints(cluster: &Cluster, service: &str, count: usize) {
    let of = |slice: &Value| slice["endpoints"].as_array().map_or(0, Vec::len);
    let ask = || async { (slices(cluster, service).await.iter().map(of).sum::<usize>() == count).then_some(()) };
    cluster.until(&format!("{count} endpoints of {service}"), ask).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_the_nodes_have_no_room_for_wait_until_they_have() {
    // Of these the node's own DNS takes two.
    let cluster = Cluster::with_limits(1, ServiceLimits { backends: 10, ..ServiceLimits::NONE }).await;
    cluster.namespace("ns").await;
    three_backends(&cluster).await;
    let names = ["a", "b", "c", "d"];
    for name in names {
        let mut pod = template("i");
        pod["metadata"]["name"] = name.into();
        cluster.make("pods", &pod).await;
    }
    cluster.ready_pods("ns", 4).await;
    // Two more and three, and once more those of the Service that has most.
    let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    cluster.make("services", &service).await;
    has_endpoints(&cluster, "s", 2).await;
    says_what_is_full(&cluster, "Service", "s", 10).await;
    // What is gone is withdrawn, and gives its room to another.
    let led_to = |slice: &Value| slice["endpoints"][0]["targetRef"]["name"].as_str().map(str::to_owned);
    let first = slices(&cluster, "s").await.iter().find_map(led_to).expect("an endpoint");
    cluster.remove(&format!("pods/{first}"), &json!({"gracePeriodSeconds": 0})).await;
    let moved_on = || async {
        let led_to =
            slices(&cluster, "s").await.iter().flat_map(|s| s["endpoints"].as_array().cloned()).flatten().collect();
        let led_to: Vec<Value> = led_to;
        (led_to.len() == 2 && led_to.iter().all(|e| e["targetRef"]["name"] != *first)).then_some(())
    };
    cluster.until("another endpoint instead", moved_on).await;
    cluster.remove("endpointslices/other", &Value::Null).await;
    has_endpoints(&cluster, "s", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_that_the_nodes_have_no_room_for_wait_until_they_have() {
    let cluster = Cluster::with_limits(0, ServiceLimits { backends: 8, ..ServiceLimits::NONE }).await;
    cluster.namespace("ns").await;
    three_backends(&cluster).await;
    cluster.make("services", &json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).await;
    let at = |ips: &[&str]| {
        let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        json!({"metadata": {"name": "s"}, "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]})
    };
    cluster.make("endpoints", &at(&["10.1.2.1", "10.1.2.2", "10.1.2.3"])).await;
    has_endpoints(&cluster, "s", 2).await;
    says_what_is_full(&cluster, "Endpoints", "s", 8).await;
    // Another port is another slice: the old one must make room.
    let mut other = at(&["10.1.2.1", "10.1.2.2"]);
    other["subsets"][0]["ports"] = json!([{"port": 81}]);
    cluster.change("endpoints/s", &other).await;
    let ported =
        |slice: &Value| slice["ports"][0]["port"] == 81 && slice["endpoints"].as_array().is_some_and(|e| e.len() == 2);
    slice(&cluster, "s", "the other port", ported).await;
    cluster.change("endpoints/s", &at(&["10.1.2.1", "10.1.2.2", "10.1.2.3"])).await;
    cluster.remove("services/other", &Value::Null).await;
    has_endpoints(&cluster, "s", 3).await;
}
