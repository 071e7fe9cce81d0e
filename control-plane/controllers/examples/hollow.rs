//! An API server with its controllers and hollow nodes, to try kubectl on:
//! `cargo run -p xebec-controllers --example hollow -- 3`.

#[allow(dead_code)]
#[path = "../tests/cluster/denials.rs"]
mod denials;
#[path = "../tests/cluster/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../tests/cluster/node.rs"]
mod node;

use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let nodes = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(3);
    let cluster = harness::Cluster::start(nodes).await;
    let path = std::env::temp_dir().join(format!("hollow-{}.kubeconfig", std::process::id()));
    std::fs::write(&path, cluster.kubeconfig()).expect("write the kubeconfig");
    println!("export KUBECONFIG={}", path.display());
    tokio::signal::ctrl_c().await.expect("signal");
    std::fs::remove_file(&path).expect("remove the kubeconfig");
}
