//! Services and EndpointSlices that the nodes' maps have no room for.

use serde_json::{Value, json};
use xebec_apiserver::ServiceLimits;

use crate::harness::{Cluster, SERVICES};

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

fn service(name: &str, spec: &Value) -> Value {
    let mut object = json!({ "metadata": { "name": name }, "spec": { "ports": [{ "port": 80 }] } });
    spec.as_object().unwrap().iter().for_each(|(field, value)| object["spec"][field] = value.clone());
    object
}

/// Of a Service, with so many endpoints.
fn slice(service: &str, name: &str, endpoints: usize) -> Value {
    let endpoint = |n: usize| json!({ "addresses": [format!("192.0.2.{n}")], "conditions": { "ready": true } });
    json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "endpoints": (1..=endpoints).map(endpoint).collect::<Vec<_>>(),
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
    })
}

async fn with(limits: ServiceLimits) -> Cluster {
    Cluster::with(|config| config.service_limits = limits).await
}

/// Waits until so many entries of a map are counted as taken.
async fn taken(cluster: &Cluster, map: &str, entries: i64) {
    let series = format!("xebec_apiserver_service_map_entries{{map=\"{map}\"}}");
    let counted = async {
        while cluster.metric(&series).await != entries {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), counted).await;
    assert!(waited.is_ok(), "{map} has {} entries, not {entries}", cluster.metric(&series).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_the_nodes_have_no_room_for_are_refused() {
    // `default/kubernetes` has one.
    let cluster = with(ServiceLimits { frontends: 7, ..ServiceLimits::NONE }).await;
    cluster.post(SERVICES, &service("a", &json!({ "type": "NodePort" }))).await.expect(201);
    let two = json!({ "ports": [{ "name": "x", "port": 1 }, { "name": "y", "port": 2 }] });
    cluster.post(SERVICES, &service("b", &two)).await.refused(
        403,
        "Forbidden",
        "services \"b\" is forbidden: map xb_lb4_fe of the nodes' datapath takes 7 frontends (--datapath-capacity frontends=7): 6 \
         are taken, and this Service needs 2 more",
    );
    cluster.post(SERVICES, &service("b", &json!({}))).await.expect(201);
    cluster.delete(&format!("{SERVICES}/a"), &Value::Null).await.expect(200);
    taken(&cluster, "xb_lb4_fe", 2).await;
    let grown = json!({ "spec": { "type": "NodePort" } });
    cluster.patch("merge", &format!("{SERVICES}/b"), &grown).await.expect(200);
    assert_eq!(cluster.metric("xebec_apiserver_service_map_max_entries{map=\"xb_lb4_fe\"}").await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_that_the_nodes_have_no_room_for_are_refused() {
    let limits = ServiceLimits { backends: 10, ..ServiceLimits::NONE };
    let cluster = with(limits).await;
    for name in ["a", "b"] {
        cluster.post(SERVICES, &service(name, &json!({}))).await.expect(201);
    }
    cluster.post(SERVICES, &service("headless", &json!({ "clusterIP": "None" }))).await.expect(201);
    let full = "map xb_lb4_be of the nodes' datapath takes 10 backends (--datapath-capacity backends=10): 4 are taken, and this \
                EndpointSlice needs 4 more, besides 4 for the service port with the most, which has them twice while they change";
    let (one, other) = (format!("{SLICES}/a-1"), format!("{SLICES}/b-1"));
    let first = cluster.post(SLICES, &slice("a", "a-1", 4)).await.expect(201);
    cluster.post(SLICES, &slice("b", "b-1", 4)).await.refused(403, "Forbidden", full);
    cluster.post(&format!("{SLICES}?dryRun=All"), &slice("b", "b-1", 4)).await.refused(403, "Forbidden", full);
    cluster.post(SLICES, &slice("headless", "h", 100)).await.expect(201);
    cluster.post(SLICES, &slice("b", "b-1", 2)).await.expect(201);
    taken(&cluster, "xb_lb4_be", 6).await;
    // By every way to change one.
    let grown = slice("b", "b-1", 3);
    let no_room = "6 are taken, and this EndpointSlice needs 1 more";
    cluster.put(&other, &grown).await.refused(403, "Forbidden", no_room);
    cluster.patch("merge", &other, &json!({ "endpoints": grown["endpoints"] })).await.refused(
        403,
        "Forbidden",
        no_room,
    );
    let moved = json!({ "metadata": { "labels": { "kubernetes.io/service-name": "a" } } });
    cluster.patch("merge", &other, &moved).await.refused(403, "Forbidden", "needs 2 more, besides 6");

    // With a limit that is less than there is, nothing grows, and all else may be written.
    let cluster = cluster.beside(|config| config.service_limits = ServiceLimits { backends: 5, ..limits }).await;
    taken(&cluster, "xb_lb4_be", 6).await;
    let mut changed = first.clone();
    changed["endpoints"][0]["conditions"]["ready"] = false.into();
    cluster.put(&one, &changed).await.expect(200);
    cluster.put(&other, &grown).await.refused(403, "Forbidden", no_room);
    cluster.patch("merge", &other, &json!({ "endpoints": slice("b", "b-1", 1)["endpoints"] })).await.expect(200);
    taken(&cluster, "xb_lb4_be", 5).await;
    cluster.delete(&one, &Value::Null).await.expect(200);
    taken(&cluster, "xb_lb4_be", 1).await;
    cluster.put(&other, &slice("b", "b-1", 2)).await.expect(200);
    cluster.delete(&format!("{SERVICES}/b"), &Value::Null).await.expect(200);
    taken(&cluster, "xb_lb4_be", 0).await;
    // The slice is there still.
    cluster.post(SERVICES, &service("b", &json!({}))).await.expect(201);
    taken(&cluster, "xb_lb4_be", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_slices_gets_no_more_room_than_there_is() {
    // The Service has them twice.
    let cluster = with(ServiceLimits { backends: 100, ..ServiceLimits::NONE }).await;
    cluster.post(SERVICES, &service("a", &json!({}))).await.expect(201);
    let user = xebec_apiserver::UserInfo::loopback;
    let make = async |n: usize| cluster.as_local(user(), "POST", SLICES, &slice("a", &format!("a-{n}"), 10)).await.code;
    let codes = futures::future::join_all((0..40).map(make)).await;
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 5, "{codes:?}");
    assert!(codes.iter().all(|code| [201, 403].contains(code)), "{codes:?}");
    let cluster = cluster.restart().await;
    taken(&cluster, "xb_lb4_be", 50).await;
    cluster.post(SLICES, &slice("a", "more", 1)).await.expect(201);
}
