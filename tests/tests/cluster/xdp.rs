//! A cluster whose uplinks balance in their drivers: services dialled from outside, with backends on another node.

use serde_json::Value;
use xebec_tests::{Cluster, Kubectl, Options, eventually, text};

use crate::exposed::{reached, route};

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      nodeName: node-1
      containers:
      - {name: tcp, image: 'xebec-demo:1', command: [demo, tcp-echo, '7000'],
         readinessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1}}
      - {name: udp, image: 'xebec-demo:1', command: [demo, udp-echo, '7001']}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: LoadBalancer
  selector: {app: echo}
  ports:
  - {name: tcp, port: 7000, nodePort: 30700}
  - {name: udp, port: 7001, nodePort: 30701, protocol: UDP}
";

/// More than a stack gives to a device at once, and more than one packet that it puts together of what it receives.
const LONG: usize = 100_000;

#[test]
fn drivers_balance_over_vxlan() {
    balances("vxlan", "xdp_overlay");
}

#[test]
fn drivers_balance_over_native_routing() {
    balances("native", "xdp_forward");
}

fn balances(routing: &'static str, counter: &str) {
    let cluster = Cluster::up(&Options { nodes: 2, routing, xdp: Some("native"), ..Options::default() });
    let refused = cluster.xebec("up", &["--xdp", "generic"]);
    assert!(!refused.status.success() && text(&refused).contains("made with --xdp native"), "{}", text(&refused));
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", MANIFEST);
    kubectl.ok("rollout status deployment echo --timeout=60s");
    let node = kubectl.ok("get node node-2 -o jsonpath={.status.addresses[0].address}");
    let balanced = kubectl.until(20, "get service echo -o jsonpath={.status.loadBalancer.ingress[0].ip}", "172.30.0.2");
    // Whoever announces it: its packets come to the node without a backend.
    route(&cluster, &format!("{balanced}/32"), &node);
    let long = "x".repeat(LONG);
    for (host, tcp, udp) in [(&node, 30_700, 30_701), (&balanced, 7_000, 7_001)] {
        let before = sent(&kubectl, counter);
        reached(&cluster, &format!("tcp {host}:{tcp} hello"), " hello");
        reached(&cluster, &format!("udp {host}:{udp} hello"), " hello");
        reached(&cluster, &format!("tcp {host}:{tcp} {long}"), &long);
        // Of the long one alone: in overlays the answers are other programs'.
        let sent = sent(&kubectl, counter) - before;
        assert!(sent > LONG as u64 / 1_500, "{host}: drivers sent on {sent} packets\n{}", status(&cluster));
    }
    let all = sent(&kubectl, counter);
    eventually("xebec status counts them", 40, || {
        let report = report(&cluster);
        let (xdp, sent) = (&report["xdp"][0], report["xdpSent"].as_u64().unwrap_or_default());
        assert_eq!((xdp["uplink"].as_str(), xdp["mode"].as_str()), (Some("eth0"), Some("native")), "{report}");
        if sent >= all { Ok(()) } else { Err(format!("{sent} of {all}")) }
    });
    assert!(status(&cluster).contains("eth0 native"), "{}", status(&cluster));
}

/// Packets that the drivers of the node without backends sent on.
fn sent(kubectl: &Kubectl, counter: &str) -> u64 {
    let metrics = kubectl.ok("get --raw /api/v1/nodes/node-2/proxy/metrics");
    let line = metrics.lines().find(|line| line.starts_with("xebec_datapath_events_total") && line.contains(counter));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {counter} in:\n{metrics}"))
}

fn report(cluster: &Cluster) -> Value {
    let output = cluster.xebec("status", &["-o", "json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    status["nodes"][1]["report"].clone()
}

fn status(cluster: &Cluster) -> String {
    text(&cluster.xebec("status", &[]))
}
