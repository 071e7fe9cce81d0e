//! What connections to Services take, over all nodes.

use serde_json::Value;
use xebec_tests::{Cluster, Options, text};

#[test]
fn services_are_shown_by_name_with_what_connections_to_them_took() {
    let cluster = Cluster::up(&Options::default());
    let kubectl = cluster.kubectl();
    kubectl.ok("create deployment web --image=xebec-demo:1 --replicas=2 --port=8080");
    kubectl.ok("expose deployment web --port=80 --target-port=8080");
    kubectl.ok("rollout status deployment web --timeout=60s");
    kubectl.ok("run client --image=xebec-demo:1 --restart=Never -- sleep 100000");
    kubectl.ok("wait --for=condition=Ready pod/client --timeout=60s");
    kubectl.until(20, "exec client -- demo get http://web 12", "from web-");
    let output = cluster.xebec("top services", &["--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let services = shown["services"].as_array().expect("services");
    let web = services.iter().find(|service| service["service"] == "default/web:80");
    let web = web.unwrap_or_else(|| panic!("no default/web:80 in {shown}"));
    assert!(web["total"]["connections"].as_u64() >= Some(12), "{web}");
    assert!(web["total"]["connect_us"]["p99"].as_u64() > Some(0), "{web}");
    assert!(web["backends"].as_object().is_some_and(|backends| !backends.is_empty()), "{web}");
    let table = cluster.xebec("top services", &["--sort", "connect", "--backends"]);
    let table = text(&table);
    assert!(table.starts_with("SERVICE") && table.contains("default/web:80"), "{table}");
}
