//! Services as the world outside the cluster reaches them: NodePort, externalIPs, hostPort, both traffic policies.

use std::process::Command;

use xebec_tests::{Cluster, Kubectl, Options, eventually, required, text};

/// Where the client outside the cluster is, on the nodes' network.
const OUTSIDE: &str = "172.30.0.200";

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
      - {name: tcp, image: 'xebec-demo:1', command: [demo, tcp-echo, '7000'], ports: [{containerPort: 7000, hostPort: 7070}],
         readinessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1}}
      - {name: udp, image: 'xebec-demo:1', command: [demo, udp-echo, '7001']}
---
apiVersion: v1
kind: Service
metadata: {name: everywhere}
spec:
  type: NodePort
  selector: {app: echo}
  externalIPs: [172.30.7.7]
  ports:
  - {name: tcp, port: 7000, nodePort: 30700}
  - {name: udp, port: 7001, nodePort: 30701, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: here}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: echo}
  ports: [{name: tcp, port: 7000, nodePort: 30800}]
";

#[test]
fn services_are_reached_from_outside_over_vxlan() {
    exposed("vxlan");
}

#[test]
fn services_are_reached_from_outside_over_native_routing() {
    exposed("native");
}

fn exposed(routing: &'static str) {
    let cluster = Cluster::up(&Options { nodes: 2, routing, ..Options::default() });
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", MANIFEST);
    kubectl.ok("rollout status deployment echo --timeout=60s");
    let nodes = ["node-1", "node-2"].map(|node| address(&kubectl, node));
    for node in &nodes {
        reached(&cluster, &format!("tcp {node}:30700 hello"), " hello");
        reached(&cluster, &format!("udp {node}:30701 hello"), " hello");
    }
    // Local keeps the client's address, and only the node with a backend answers.
    reached(&cluster, &format!("tcp {}:30800 hello", nodes[0]), &format!("{OUTSIDE} hello"));
    assert!(!outside(&cluster, &format!("tcp {}:30800 hello", nodes[1])).0, "a node without a backend answered");
    reached(&cluster, &format!("tcp {}:7070 hello", nodes[0]), &format!("{OUTSIDE} hello"));
    // An external address is whatever the network sends to a node.
    route(&cluster, "172.30.7.7/32", &nodes[1]);
    reached(&cluster, "tcp 172.30.7.7:7000 hello", " hello");
    match routing {
        "vxlan" => returned_directly(&cluster, &kubectl, &nodes[1]),
        _ => returned_in_vain(&cluster, &kubectl),
    }
    renumbered(&cluster, &nodes[1]);
    health_check(&cluster, &kubectl, &nodes);
}

/// A backend on another node than the one that is dialled sees its client, if the Service asks for that.
fn returned_directly(cluster: &Cluster, kubectl: &Kubectl, node: &str) {
    kubectl.ok("annotate service everywhere xebec.io/forwarding-mode=dsr");
    for to in [&format!("tcp {node}:30700"), &format!("udp {node}:30701"), "tcp 172.30.7.7:7000"] {
        reached(cluster, &format!("{to} hello"), &format!("{OUTSIDE} hello"));
    }
    says(cluster, "snat; dsr of 1 Services: default/everywhere");
    kubectl.ok("annotate service everywhere xebec.io/forwarding-mode-");
}

/// With native routing the annotation does nothing on nodes without the flag: they say so.
fn returned_in_vain(cluster: &Cluster, kubectl: &Kubectl) {
    kubectl.ok("annotate service everywhere xebec.io/forwarding-mode=dsr");
    for node in ["node-1", "node-2"] {
        let message = format!("node {node}: annotation xebec.io/forwarding-mode: dsr has no effect");
        kubectl.until(20, "get events --field-selector reason=ForwardingModeIgnored,type=Warning", &message);
    }
    says(cluster, "snat; no dsr: with native routing");
    kubectl.ok("annotate service everywhere xebec.io/forwarding-mode-");
}

/// What every node says of its forwarding, when it has written its next report.
fn says(cluster: &Cluster, forwarding: &str) {
    eventually("xebec status says how it is forwarded", 40, || {
        let status = text(&cluster.xebec("status", &[]));
        if status.matches(forwarding).count() == 2 { Ok(()) } else { Err(status) }
    });
}

/// An address that a node gets while it runs has NodePorts until it goes again.
fn renumbered(cluster: &Cluster, node: &str) {
    const SECOND: &str = "192.0.2.7";
    let address = |verb: &str| {
        let netns = format!("--net=/run/netns/{}", cluster.netns("node-2"));
        let ip = ["ip", "address", verb, &format!("{SECOND}/32"), "dev", "eth0"].map(str::to_owned);
        let done = Command::new("nsenter").arg(netns).args(ip).status().expect("start ip");
        assert!(done.success(), "ip address {verb} {SECOND}");
    };
    address("add");
    route(cluster, &format!("{SECOND}/32"), node);
    reached(cluster, &format!("tcp {SECOND}:30700 hello"), " hello");
    address("del");
    eventually("the address has no NodePorts", 20, || match outside(cluster, &format!("tcp {SECOND}:30700 hello")) {
        (false, _) => Ok(()),
        (true, answer) => Err(answer),
    });
}

/// A load balancer asks each node whether it has backends of a Service that is Local.
fn health_check(cluster: &Cluster, kubectl: &Kubectl, nodes: &[String; 2]) {
    kubectl.ok("patch service here -p {\"spec\":{\"type\":\"LoadBalancer\"}}");
    let port = kubectl.until(20, "get service here -o jsonpath={.spec.healthCheckNodePort}", "3");
    let asked = |node: &str, wanted: &str| {
        eventually(&format!("{node} answers health checks"), 20, || {
            match outside(cluster, &format!("get http://{node}:{port} 1")).1 {
                answer if answer.contains(wanted) => Ok(()),
                answer => Err(answer),
            }
        });
    };
    asked(&nodes[0], "\"localEndpoints\":1");
    asked(&nodes[1], "503");
}

fn address(kubectl: &Kubectl, node: &str) -> String {
    kubectl.ok(&format!("get node {node} -o jsonpath={{.status.addresses[0].address}}"))
}

#[track_caller]
pub fn reached(cluster: &Cluster, request: &str, wanted: &str) {
    eventually(&format!("demo {request} from outside"), 20, || match outside(cluster, request) {
        (true, answer) if answer.contains(wanted) => Ok(()),
        (_, answer) => Err(answer),
    });
}

/// Runs the demo program outside the cluster: whether it succeeded, and what it printed.
fn outside(cluster: &Cluster, request: &str) -> (bool, String) {
    let demo = required("XEBEC_DEMO", "the demo program");
    let output = in_outside(cluster).arg(demo).args(request.split(' ')).output().expect("start the client");
    (output.status.success(), text(&output))
}

pub fn route(cluster: &Cluster, destination: &str, via: &str) {
    let added = in_outside(cluster).args(["ip", "route", "add", destination, "via", via]).status().expect("start ip");
    assert!(added.success(), "route {destination} via {via}");
}

pub fn in_outside(cluster: &Cluster) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", cluster.netns("outside")));
    command
}
