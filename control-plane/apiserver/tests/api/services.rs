use serde_json::{Value, json};

use crate::harness::{Cluster, SERVICES};

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
