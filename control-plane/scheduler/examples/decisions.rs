//! Decisions per second on synthetic nodes: `cargo run --release -p xebec-scheduler --example decisions`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use xebec_scheduler::cluster::Cluster;
use xebec_scheduler::decide::Search;
use xebec_types::core::Pod;

fn main() {
    let selector = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    for nodes in [100, 1_000, 5_000] {
        run("plain pods", nodes, 20_000, None, json!({}));
        run("default spreading of one workload", nodes, 20_000, Some(&selector), json!({}));
        let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]});
        run("hard spreading over zones", nodes, 5_000, None, spread);
        let term =
            json!({"topologyKey": "topology.kubernetes.io/zone", "labelSelector": {"matchLabels": {"app": "web"}}});
        let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
        run("required affinity by zone", nodes, 5_000, None, near);
        let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}});
        let away = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
        run("required anti-affinity by host", nodes, nodes.min(2_000), None, away);
    }
}

fn run(name: &str, nodes: usize, pods: usize, selector: Option<&BTreeMap<String, String>>, spec: Value) {
    let mut cluster = Cluster::default();
    for n in 0..nodes {
        let node = json!({
            "metadata": {"name": format!("node-{n}"), "labels": {
                "kubernetes.io/hostname": format!("node-{n}"),
                "topology.kubernetes.io/zone": format!("zone-{}", n % 3)}},
            "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "1000"}},
        });
        cluster.put_node(&serde_json::from_value(node).unwrap());
    }
    let mut pod = json!({
        "metadata": {"namespace": "default", "labels": {"app": "web", "pod-template-hash": "abc"}},
        "spec": {"containers": [{"name": "c", "image": "web", "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}}}]},
    });
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let pods: Vec<Arc<Pod>> = (0..pods)
        .map(|n| {
            pod["metadata"]["name"] = json!(format!("web-{n}"));
            pod["metadata"]["uid"] = json!(format!("uid-{n}"));
            Arc::new(serde_json::from_value(pod.clone()).unwrap())
        })
        .collect();
    let mut search = Search::new(1);
    let start = Instant::now();
    let mut placed = 0;
    for pod in &pods {
        let info = Cluster::compile(pod);
        if let Ok(decision) = search.decide(&info, &mut cluster, selector) {
            let node = cluster.node(decision.node).name().clone();
            cluster.put_pod(info, &node, true);
            placed += 1;
        }
    }
    let rate = pods.len() as f64 / start.elapsed().as_secs_f64();
    println!("{nodes:5} nodes, {name:34}: {rate:8.0} pods/s ({placed} of {} placed)", pods.len());
}
