//! A Deployment from 0 to 1,000 pods, created and bound, on an API server, its controllers and the scheduler in one process
//! with hollow nodes: `cargo run --release -p xebec-scheduler --example deployment`.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_apiserver::pki::Pki;
use xebec_apiserver::{Server, UserInfo};
use xebec_client::{Api, Client, Informers, Patch, PatchParams, PostParams};
use xebec_types::apps::Deployment;
use xebec_types::core::{Node, Pod};
use xebec_types::pod as pods;

const NODES: usize = 20;
const PODS: usize = 1_000;

#[tokio::main]
async fn main() {
    xebec_client::connection::install_crypto();
    let dir = tempfile::tempdir_in(".").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pki = Arc::new(Pki::load_or_create(dir.path().join("pki"), &["127.0.0.1".to_owned()]).unwrap());
    let store = xebec_store::embedded::open(dir.path().join("db")).await.unwrap();
    let server = Server::start(xebec_apiserver::Config::new(pki, vec![listener]), Arc::new(store)).await.unwrap();
    server.ready().await;
    let user = UserInfo::new("bench", &["system:masters", "system:authenticated"]);
    let client = Client::new(server.local_client_service(user), "default");
    let informers = Informers::new(client.clone());
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let controllers = xebec_controllers::Controllers {
        accounts: xebec_controllers::Accounts::shared(client.clone()),
        informers: informers.clone(),
        config: xebec_controllers::Config {
            node_monitor_grace_period: Duration::from_secs(3600),
            ..Default::default()
        },
    };
    tasks.spawn(xebec_controllers::run(controllers, stop.clone()));
    tasks.spawn(xebec_scheduler::run(client.clone(), informers.clone(), Default::default(), stop.clone()));
    add_nodes(&client).await;
    let pods_seen = informers.informer::<Pod>();
    pods_seen.synced().await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": PODS, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web"}]}}}});
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let start = Instant::now();
    api.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
    let mut created = None;
    loop {
        let (all, bound) = {
            let pods_seen = pods_seen.read();
            (pods_seen.len(), pods_seen.iter().filter(|pod| !pods::node_name(pod).is_empty()).count())
        };
        if all >= PODS && created.is_none() {
            created = Some(start.elapsed());
        }
        if bound >= PODS {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{all} pods, {bound} bound");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!(
        "Deployment 0 to {PODS} on {NODES} nodes: created {:.2?}, bound {:.2?}",
        created.unwrap_or_default(),
        start.elapsed()
    );
    stop.cancel();
}

async fn add_nodes(client: &Client) {
    let api: Api<Node> = Api::all(client.clone());
    for n in 0..NODES {
        let name = format!("n{n}");
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let status = json!({"status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "500"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
}
