//! The client over TLS, while servers come and go.

use crate::harness::Cluster;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use xebec_client::leader::{Elector, Timing};
use xebec_client::{DeleteParams, Informers, PostParams};
use xebec_types::core::ConfigMap;

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).expect("a ConfigMap")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_informer_goes_on_after_the_server_was_restarted() {
    let mut cluster = Cluster::start(0).await;
    // Nobody listens at the first address.
    let servers = ["https://127.0.0.1:1".to_string(), cluster.url()];
    let client = cluster.dial(&servers).client().expect("client");
    let informers = Informers::new(client.clone());
    let maps = informers.informer::<ConfigMap>();
    maps.synced().await;
    let changes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&changes);
    let names = ["before", "after"];
    maps.on_change(move |change| {
        if names.contains(&&*change.key().name) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let api = xebec_client::Api::<ConfigMap>::namespaced(client, "default");
    api.create(&PostParams::default(), &map("before")).await.expect("create");
    cluster.until("first object", || async { maps.get("default", "before") }).await;
    cluster.restart().await;
    assert!(maps.get("default", "before").is_some(), "what was known stays known");
    let create = || async { api.create(&PostParams::default(), &map("after")).await.ok() };
    cluster.until("connection", create).await;
    cluster.until("second object", || async { maps.get("default", "after") }).await;
    api.delete("before", &DeleteParams::default()).await.expect("delete");
    let gone = || async { maps.get("default", "before").is_none().then_some(()) };
    cluster.until("deletion", gone).await;
    assert_eq!(changes.load(Ordering::Relaxed), 3, "nothing is told twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_candidates_leads_and_the_other_follows() {
    let cluster = Cluster::start(0).await;
    let timing = Timing {
        lease_duration: Duration::from_secs(3),
        renew_deadline: Duration::from_secs(2),
        retry_period: Duration::from_millis(200),
    };
    let leaders = Arc::new(AtomicUsize::new(0));
    let elect = |identity: &'static str, stop: CancellationToken| {
        let elector = Elector::new(cluster.client.clone(), "kube-system", "test", identity);
        let (elector, leaders) = (elector.timing(timing), Arc::clone(&leaders));
        async move {
            let lead = |lost: CancellationToken| async move {
                assert_eq!(leaders.fetch_add(1, Ordering::SeqCst), 0, "one leader at a time");
                lost.cancelled().await;
                leaders.fetch_sub(1, Ordering::SeqCst);
            };
            elector.run(&stop, lead).await;
        }
    };
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(elect("a", first.clone()));
    let leases = cluster.api::<xebec_types::coordination::Lease>("kube-system");
    let holder = || async { leases.get_opt("test").await.ok()??.spec?.holder_identity };
    assert_eq!(cluster.until("leader", holder).await, "a");
    tasks.spawn(elect("b", second.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(holder().await.as_deref(), Some("a"));
    first.cancel();
    let moved = || async { holder().await.filter(|h| h == "b") };
    cluster.until("new leader", moved).await;
    second.cancel();
    while tasks.join_next().await.is_some() {}
    assert_eq!(leaders.load(Ordering::SeqCst), 0);
}
