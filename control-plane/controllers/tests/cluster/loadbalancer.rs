//! Addresses from LoadBalancerIPPools.

use serde_json::{Value, json};
use xebec_client::{Api, DeleteParams, PostParams, is_not_found};
use xebec_controllers::service_lb::LoadBalancerIPPool;
use xebec_types::core::Service;

use crate::harness::Cluster;

fn pool(name: &str, spec: Value) -> LoadBalancerIPPool {
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("a pool")
}

/// What a pool's condition and its numbers say.
fn said(pool: &LoadBalancerIPPool) -> Option<(String, i64, i64, i64)> {
    let status = &pool.status;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
    Some((ready.reason.clone(), status.total, status.used, status.available))
}

fn address(service: &Service) -> Option<String> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.first()?.ip.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_gives_addresses_and_takes_them_back() {
    let cluster = Cluster::start(0).await;
    cluster.namespace("ns").await;
    let pools: Api<LoadBalancerIPPool> = cluster.all();
    let spec = json!({ "blocks": [{ "start": "192.0.2.10", "stop": "192.0.2.12" }] });
    let create = || async { pools.create(&PostParams::default(), &pool("edge", spec.clone())).await.ok() };
    cluster.until("the kind is served", create).await;
    let services = cluster.api::<Service>("ns");
    let service =
        json!({ "metadata": { "name": "web" }, "spec": { "type": "LoadBalancer", "ports": [{ "port": 80 }] } });
    let service: Service = serde_json::from_value(service).expect("a Service");
    services.create(&PostParams::default(), &service).await.expect("create");
    let given = || async { address(&services.get("web").await.ok()?) };
    assert_eq!(cluster.until("an address", given).await, "192.0.2.10");
    let counted = || async { said(&pools.get("edge").await.ok()?).filter(|said| said.2 == 1) };
    assert_eq!(cluster.until("the pool counts it", counted).await, ("Available".to_owned(), 3, 1, 2));
    // A pool that overlaps gives nothing, and says so.
    let other = pool("other", json!({ "blocks": [{ "cidr": "192.0.2.0/24" }] }));
    pools.create(&PostParams::default(), &other).await.expect("create");
    let refused = || async { said(&pools.get("other").await.ok()?) };
    assert_eq!(cluster.until("the pool is looked at", refused).await, ("Conflict".to_owned(), 254, 1, 0));
    pools.delete("other", &DeleteParams::default()).await.expect("delete");
    // A pool goes when its addresses are back.
    pools.delete("edge", &DeleteParams::default()).await.expect("delete");
    let gone = || async { pools.get("edge").await.err().filter(is_not_found) };
    cluster.until("the pool is gone", gone).await;
    let service = services.get("web").await.expect("get");
    assert_eq!(address(&service), None);
    cluster.denials.assert_none();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_without_sense_is_refused() {
    let cluster = Cluster::start(0).await;
    let pools: Api<LoadBalancerIPPool> = cluster.all();
    let served = || async { pools.list(&Default::default()).await.ok() };
    cluster.until("the kind is served", served).await;
    for (block, expected) in [
        (json!({}), "either cidr or start is required"),
        (json!({ "cidr": "192.0.2.0/24", "start": "192.0.2.1" }), "either cidr or start is required"),
        (json!({ "cidr": "192.0.2.0/24", "stop": "192.0.2.1" }), "stop is for start"),
        (json!({ "cidr": "192.0.2.0/33" }), "spec.blocks[0].cidr"),
        (json!({ "start": "192.0.2.300" }), "start is not an address"),
        (json!({ "start": "192.0.2.1", "stop": "web" }), "stop is not an address"),
    ] {
        let error = pools.create(&PostParams::default(), &pool("bad", json!({ "blocks": [block] }))).await;
        let text = error.expect_err("refused").to_string();
        assert!(text.contains(expected), "{text}");
    }
}
