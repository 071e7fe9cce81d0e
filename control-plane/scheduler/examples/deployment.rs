//! Deployments from 0 to 1,000 pods each, created, bound and said to run, on an API server, its controllers and the scheduler
//! in one process with hollow nodes: `cargo run --release -p xebec-scheduler --example deployment [-- PODS NODES]`.
//! Targets: 1,000 pods on 100 nodes bound in 3 s; 150,000 pods on 5,000 nodes held in 4 GB.

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

const PODS: usize = 1_000;
const NODES: usize = 100;
const PODS_EACH: usize = 1_000;
const WRITERS: usize = 16;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>().unwrap());
    let (pods, nodes) = (numbers.next().unwrap_or(PODS), numbers.next().unwrap_or(NODES));
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
    add_nodes(&client, nodes).await;
    let pods_seen = informers.informer::<Pod>();
    pods_seen.synced().await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    let start = Instant::now();
    for n in 0..pods.div_ceil(PODS_EACH) {
        add_deployment(&client, n, PODS_EACH.min(pods - n * PODS_EACH)).await;
    }
    let seen = |what: fn(&Pod) -> bool| pods_seen.read().iter().filter(|pod| what(pod)).count();
    let until = async |what: fn(&Pod) -> bool| {
        while seen(what) < pods {
            assert!(start.elapsed() < Duration::from_secs(1_200), "{} of {pods}", seen(what));
            tokio::time::sleep(Duration::from_millis(pods as u64 / 200)).await;
        }
        start.elapsed()
    };
    let created = until(|_| true).await;
    let bound = until(|pod| !pods::node_name(pod).is_empty()).await;
    println!("{pods} pods on {nodes} nodes: created {created:.2?}, bound {bound:.2?}");
    let names: Vec<String> = pods_seen.read().iter().filter_map(|pod| pod.metadata.name.clone()).collect();
    run(&client, names).await;
    let running = until(pods::is_ready).await;
    // What waits to be written is gone then, and so is what the store keeps for watchers that are behind.
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!("all said to run {running:.2?}; {:.0} MB resident", resident_mb());
    stop.cancel();
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
}

async fn add_deployment(client: &Client, n: usize, pods: usize) {
    let labels = json!({"app": format!("web-{n}")});
    let resources = json!({"requests": {"cpu": "50m", "memory": "16Mi"}});
    let container = json!({"name": "c", "image": "web", "ports": [{"containerPort": 8080}], "resources": resources});
    let deployment = json!({"metadata": {"name": format!("web-{n}")}, "spec": {"replicas": pods, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}});
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
}

/// Writes what a kubelet writes of a pod that runs.
async fn run(client: &Client, names: Vec<String>) {
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let names = Arc::new(names);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (api, names) = (api.clone(), names.clone());
        writers.spawn(async move {
            for (n, name) in names.iter().enumerate().skip(writer).step_by(WRITERS) {
                let now = "2026-01-01T00:00:00Z";
                let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now, "observedGeneration": 1});
                let kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
                let ip = format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255);
                let status = json!({"phase": "Running", "qosClass": "Burstable", "startTime": now, "hostIP": "172.30.0.11",
                    "hostIPs": [{"ip": "172.30.0.11"}], "podIP": ip, "podIPs": [{"ip": ip}], "conditions": kinds.map(condition),
                    "containerStatuses": [{"name": "c", "image": "docker.io/library/web:1", "imageID": format!("sha256:{:064x}", 1),
                        "containerID": format!("containerd://{n:064x}"), "ready": true, "started": true, "restartCount": 0,
                        "state": {"running": {"startedAt": now}}}]});
                api.patch_status(name, &PatchParams::default(), &Patch::Strategic(json!({"status": status}))).await.unwrap();
            }
        });
    }
    writers.join_all().await;
}

async fn add_nodes(client: &Client, nodes: usize) {
    let api: Api<Node> = Api::all(client.clone());
    for n in 0..nodes {
        let name = format!("n{n}");
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let status = json!({"status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "500"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
}
