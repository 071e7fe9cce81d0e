use serde_json::{Value, json};

use crate::harness::{Cluster, SERVICES};

const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";

fn service(name: &str, spec: Value) -> Value {
    let mut object = json!({ "metadata": { "name": name }, "spec": { "ports": [{ "port": 80 }] } });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_and_ports_are_handed_out_once() {
    let cluster = Cluster::start().await;
    let made = cluster.post(SERVICES, &service("a", json!({}))).await.expect(201);
    let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_eq!(made["spec"]["clusterIPs"], json!([ip]));
    let taken = cluster.post(SERVICES, &service("b", json!({ "clusterIP": ip }))).await;
    taken.refused(
        422,
        "Invalid",
        &format!(
            "spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to allocate IP {ip}: provided IP is already allocated"
        ),
    );
    let outside = cluster.post(SERVICES, &service("b", json!({ "clusterIP": "1.2.3.4" }))).await;
    outside.refused(422, "Invalid", "is not in the valid range. The range of valid IPs is 10.96.0.0/16");
    let port = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30080 }] });
    cluster.post(SERVICES, &service("c", port.clone())).await.expect(201);
    cluster.post(SERVICES, &service("d", port.clone())).await.refused(
        422,
        "Invalid",
        "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
    );
    cluster.delete(&format!("{SERVICES}/c"), &Value::Null).await.expect(200);
    cluster.post(SERVICES, &service("d", port)).await.expect(201);
    cluster.delete(&format!("{SERVICES}/a"), &Value::Null).await.expect(200);
    cluster.post(SERVICES, &service("e", json!({ "clusterIP": ip }))).await.expect(201);
    let headless = cluster.post(SERVICES, &service("f", json!({ "clusterIP": "None" }))).await.expect(201);
    assert_eq!(headless["spec"]["clusterIP"], "None");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_have_an_address_of_each_family_that_they_ask_for() {
    let dual = |config: &mut xebec_apiserver::Config| {
        config.service_cluster_ip_range = ["10.96.0.0/16", "fd00:96::/112"].map(|net| net.parse().unwrap()).to_vec();
    };
    let cluster = Cluster::with(dual).await;
    let kubernetes = cluster.get(&format!("{SERVICES}/kubernetes")).await.expect(200);
    assert_eq!(kubernetes["spec"]["clusterIPs"], json!(["10.96.0.1"]));
    assert_eq!(
        (&kubernetes["spec"]["ports"][0]["name"], &kubernetes["spec"]["ports"][0]["port"]),
        (&json!("https"), &json!(443))
    );
    assert_eq!(kubernetes["spec"]["ipFamilyPolicy"], "SingleStack");
    let path = format!("{SERVICES}/a");
    let made = cluster.post(SERVICES, &service("a", json!({ "ipFamilyPolicy": "PreferDualStack" }))).await.expect(201);
    let second = made["spec"]["clusterIPs"][1].as_str().unwrap().to_owned();
    assert!(second.starts_with("fd00:96::"), "{second}");
    let address = format!("{ADDRESSES}/{second}");
    let claim = cluster.get(&address).await.expect(200);
    assert_eq!(claim["spec"]["parentRef"]["name"], "a");
    assert_eq!(claim["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], "IPv6");

    let dry =
        cluster.put(&format!("{path}?dryRun=All"), &service("a", json!({ "ipFamilyPolicy": "SingleStack" }))).await;
    assert_eq!(dry.expect(200)["spec"]["clusterIPs"].as_array().map(Vec::len), Some(1));
    cluster.get(&address).await.expect(200);
    let single = cluster.put(&path, &service("a", json!({ "ipFamilyPolicy": "SingleStack" }))).await.expect(200);
    assert_eq!(single["spec"]["ipFamilies"], json!(["IPv4"]));
    cluster.get(&address).await.expect(404);
    let both = cluster.put(&path, &service("a", json!({ "ipFamilyPolicy": "RequireDualStack" }))).await.expect(200);
    assert_eq!(both["spec"]["clusterIPs"][0], made["spec"]["clusterIPs"][0]);
    assert_eq!(both["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_cidrs_are_what_addresses_are_taken_from() {
    let narrow = |config: &mut xebec_apiserver::Config| {
        config.service_cluster_ip_range = vec!["10.96.0.0/24".parse().unwrap()];
    };
    let cluster = Cluster::with(narrow).await;
    let own = cluster.get(&format!("{RANGES}/kubernetes")).await.expect(200);
    assert_eq!(own["spec"]["cidrs"], json!(["10.96.0.0/24"]));
    let fixed = service("far", json!({ "clusterIP": "10.98.0.7" }));
    cluster.post(SERVICES, &fixed).await.refused(422, "Invalid", "The range of valid IPs is 10.96.0.0/24");
    let more = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["10.98.0.0/24"] } });
    cluster.post(RANGES, &more).await.expect(201);
    // The server hears of it by its own watch.
    let mut answer = cluster.post(SERVICES, &fixed).await;
    for _ in 0..100 {
        if answer.code != 422 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        answer = cluster.post(SERVICES, &fixed).await;
    }
    answer.expect(201);

    // The record of an address in use comes back, with an event.
    let address = format!("{ADDRESSES}/10.98.0.7");
    let uid = cluster.get(&address).await.expect(200)["metadata"]["uid"].clone();
    cluster.delete(&address, &Value::Null).await.expect(200);
    for _ in 0..100 {
        let again = cluster.get(&address).await;
        let events = cluster.get("/api/v1/namespaces/default/events").await.expect(200);
        let told = events["items"].as_array().unwrap().iter().any(|event| event["reason"] == "ClusterIPNotAllocated");
        if again.code == 200 && told {
            assert_ne!(again.expect(200)["metadata"]["uid"], uid);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the address was not claimed again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_keep_what_was_handed_out() {
    let cluster = Cluster::start().await;
    let made = cluster.post(SERVICES, &service("a", json!({}))).await.expect(201);
    let path = format!("{SERVICES}/a");
    let updated = cluster.put(&path, &service("a", json!({ "type": "NodePort" }))).await.expect(200);
    assert_eq!(updated["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    let port = updated["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30_000..=32_767).contains(&port));
    let again = cluster.put(&path, &service("a", json!({ "type": "NodePort" }))).await.expect(200);
    assert_eq!(again["spec"]["ports"][0]["nodePort"], port);
    cluster.put(&path, &service("a", json!({ "type": "ClusterIP" }))).await.expect(200);
    let fixed = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] });
    cluster.post(SERVICES, &service("b", fixed)).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_knows_what_is_taken() {
    let cluster = Cluster::start().await;
    let made = cluster.post(SERVICES, &service("a", json!({}))).await.expect(201);
    let cluster = cluster.restart().await;
    let same = json!({ "clusterIP": made["spec"]["clusterIP"] });
    cluster.post(SERVICES, &service("b", same)).await.refused(422, "Invalid", "provided IP is already allocated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_one_store_never_hand_out_a_number_twice() {
    let few =
        |config: &mut xebec_apiserver::Config| config.service_cluster_ip_range = vec!["10.96.0.0/26".parse().unwrap()];
    let first = Cluster::with(few).await;
    let second = first.beside(few).await;
    // 62 addresses, of which `kubernetes` has one: the last ones are found by both servers at the same moment.
    let make = async |cluster: &Cluster, name: String| {
        let service = service(&name, json!({ "type": "NodePort" }));
        cluster.as_local(xebec_apiserver::UserInfo::loopback(), "POST", SERVICES, &service).await
    };
    let make = &make;
    let requests = (0..60).map(|i| make(if i % 2 == 0 { &first } else { &second }, format!("a{i}")));
    let made = futures::future::join_all(requests).await;
    let made: Vec<Value> = made.into_iter().map(|answer| answer.expect(201)).collect();
    let distinct = |path: &str| {
        let values: std::collections::BTreeSet<_> = made.iter().map(|s| s.pointer(path).unwrap().to_string()).collect();
        assert_eq!(values.len(), made.len(), "{path}");
    };
    distinct("/spec/clusterIP");
    distinct("/spec/ports/0/nodePort");
    // What one server gave away the other refuses, and what one gets back the other may give.
    let taken = json!({ "clusterIP": made[0]["spec"]["clusterIP"] });
    let refused = second.post(SERVICES, &service("c", taken.clone())).await;
    refused.refused(422, "Invalid", "provided IP is already allocated");
    first.delete(&format!("{SERVICES}/a0"), &Value::Null).await.expect(200);
    let freed = async {
        while second.post(SERVICES, &service("c", taken.clone())).await.code != 201 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), freed).await.expect("the other server hears of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kubernetes_service_leads_to_every_server_that_runs() {
    let at = |address: &'static str| {
        move |config: &mut xebec_apiserver::Config| {
            config.shared_store = true;
            (config.advertise_address, config.advertise_port) = (address.parse().unwrap(), 6443);
        }
    };
    let first = Cluster::with(at("192.0.2.1")).await;
    let second = first.beside(at("192.0.2.2")).await;
    let until = async |wanted: &[&str]| {
        let wanted: Vec<Value> = wanted.iter().map(|address| json!({ "ip": address })).collect();
        let reached = async {
            while first.get(ENDPOINTS).await.body["subsets"][0]["addresses"] != json!(wanted) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), reached).await.expect("the endpoints follow");
    };
    until(&["192.0.2.1", "192.0.2.2"]).await;
    // The slice is written after the Endpoints.
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let reached = async {
        while first.get(slice).await.body["endpoints"][1]["addresses"] != json!(["192.0.2.2"]) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), reached).await.expect("the slice follows");
    second.server.shutdown().await;
    until(&["192.0.2.1"]).await;
}
