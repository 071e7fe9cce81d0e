//! The end of the cluster's CA, and the dates of what is written, by a clock that the test moves. (`controllers/tests/cluster/rotation.rs` has the rest.)

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use xebec_apiserver::Pki;
use xebec_apiserver::pki::PkiError;
use xebec_clock::Clock;

use crate::harness::{CONFIG_MAPS, Cluster, PODS, SERVICES, config_map, pod};

const DAY: Duration = Duration::from_secs(86_400);

/// The texts of the warnings about the CA.
async fn warnings(cluster: &Cluster) -> Vec<String> {
    let events = cluster.get("/api/v1/namespaces/kube-system/events").await.expect(200);
    let warned = events["items"].as_array().unwrap().iter().filter(|e| e["reason"] == "CertificateExpirationWarning");
    warned.map(|e| format!("{} {}", e["involvedObject"]["name"], e["message"])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_ca_is_told_in_time() {
    let clock = Clock::default();
    let cluster = Cluster::by_clock(clock.clone(), |_| {}).await;
    let end = cluster.pki.ca_validity().not_after;
    cluster.advance(&clock, Duration::try_from(end - clock.now()).unwrap() - 121 * DAY).await;
    cluster.get("/api/v1/namespaces").await.expect(200);
    assert_eq!(warnings(&cluster).await, Vec::<String>::new(), "not a hundred and twenty days yet");
    cluster.advance(&clock, 2 * DAY).await;
    let told = async {
        while warnings(&cluster).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("a warning");
    let told = warnings(&cluster).await;
    let what = format!("\"kube-root-ca.crt\" \"The cluster's CA certificate expires on {},", end.date());
    assert!(told[0].starts_with(&what), "{told:?}");

    // Nothing that it signs says to be good for longer than itself.
    cluster.advance(&clock, 100 * DAY).await;
    let issued = cluster.pki.issue_client("a", &[]).unwrap();
    assert_eq!(issued.validity.not_after, end);
    let left = end - clock.now();
    assert!(left > time::Duration::ZERO && left < time::Duration::days(30), "{left}");
    cluster.get("/api/v1/namespaces").await.expect(200);
}

#[test]
fn a_ca_that_has_expired_is_named_at_start() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::default());
    let load = || Pki::by_clock(dir.path(), &[], clock.clone());
    let end: SystemTime = load().unwrap().ca_validity().not_after.into();
    load().expect("it is good");
    clock.advance(end.duration_since(clock.now()).unwrap());
    let refused = load().err().expect("it has expired");
    assert!(matches!(refused, PkiError::Expired { .. }), "{refused}");
    assert!(refused.to_string().contains("ca.crt"), "{refused}");
}

/// Every date in an object, with what it is of.
fn dates(name: &str, value: &Value, found: &mut Vec<(String, SystemTime)>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(field, value)| dates(&format!("{name}.{field}"), value, found))
        }
        Value::Array(items) => items.iter().for_each(|item| dates(name, item, found)),
        Value::String(text) => {
            found.extend(xebec_machinery::time::parse(text).map(|date| (name.to_owned(), date)));
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_dated_by_the_clock_of_the_server() {
    let clock = Clock::default();
    let cluster = Cluster::by_clock(clock.clone(), |_| {}).await;
    cluster.advance(&clock, 60 * DAY).await;
    let since = clock.now() - Duration::from_secs(1);
    cluster.post(CONFIG_MAPS, &config_map("posted")).await.expect(201);
    let applied = format!("{CONFIG_MAPS}/applied?fieldManager=test");
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}});
    cluster.patch("apply", &applied, &config).await.expect(201);
    let service = cluster.post(SERVICES, &json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).await;
    let address = service.expect(201)["spec"]["clusterIP"].as_str().unwrap().to_owned();
    cluster.post(PODS, &pod("p")).await.expect(201);
    let target = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    cluster.post(&format!("{PODS}/p/binding"), &target).await.expect(201);
    cluster.post(&format!("{PODS}/p/eviction"), &json!({"metadata": {"name": "p"}})).await.expect(201);
    let definition = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    crate::crd::establish(&cluster, &definition).await;
    for (path, count) in [
        (format!("{CONFIG_MAPS}/posted"), 2),
        (format!("{CONFIG_MAPS}/applied"), 2),
        (format!("/apis/networking.k8s.io/v1/ipaddresses/{address}"), 1),
        // Its creation and deletion, who wrote it, and a condition.
        (format!("{PODS}/p"), 4),
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com".to_owned(), 4),
    ] {
        let mut found = Vec::new();
        dates(&path, &cluster.get(&path).await.expect(200), &mut found);
        assert!(found.len() >= count, "{found:?}");
        for (what, date) in found {
            assert!(date >= since, "{what} is of {:?} ago", since.duration_since(date));
        }
    }
}
