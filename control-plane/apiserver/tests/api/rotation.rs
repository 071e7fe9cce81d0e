//! The end of the cluster's CA, by a clock that the test moves. (`controllers/tests/cluster/rotation.rs` has the rest.)

use std::time::{Duration, SystemTime};

use xebec_apiserver::Pki;
use xebec_apiserver::pki::PkiError;
use xebec_clock::Clock;

use crate::harness::Cluster;

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
    clock.advance(Duration::try_from(end - clock.now()).unwrap() - 121 * DAY);
    cluster.get("/api/v1/namespaces").await.expect(200);
    assert_eq!(warnings(&cluster).await, Vec::<String>::new(), "not a hundred and twenty days yet");
    clock.advance(2 * DAY);
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
    clock.advance(100 * DAY);
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
