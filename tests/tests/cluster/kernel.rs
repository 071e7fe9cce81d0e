//! What a node does on the kernel that it has: `cargo xtask vm` runs this on several.

use std::process::Command;

use serde_json::Value;
use xebec_tests::{Cluster, Kubectl, Options, eventually, patient, text};

use crate::exposed::reached;
use crate::lifecycle::traces;

/// What the datapath does without, and the first kernel that has it.
const SINCE: [(&str, (u32, u32)); 6] = [
    ("bpf_ktime_get_coarse_ns", (5, 11)),
    ("fib_mtu", (5, 12)),
    ("netns_cookie", (5, 14)),
    ("bpf_set_retval", (5, 18)),
    ("bpf_xdp_get_buff_len", (5, 18)),
    ("tcx", (6, 6)),
];

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: 'xebec-demo:1', command: [demo, http, '8080'],
         readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1},
         resources: {limits: {memory: 64Mi, cpu: 200m}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'xebec-demo:1', command: [demo, tcp-echo, '7000']}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{port: 7000}]
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'xebec-demo:1', command: [sleep, '100000']}]
";

#[test]
fn a_node_works_on_this_kernel_and_says_what_it_lacks() {
    let before = traces();
    let cluster = Cluster::up(&Options { nodes: 1, ..Options::default() });
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", MANIFEST);
    rolled_out(&kubectl);
    ready(&kubectl, "host");
    ready(&kubectl, "echo");
    requests(&cluster, &kubectl);
    commands(&kubectl);
    status(&cluster);
    rollout(&cluster);
    killed(&cluster, &kubectl);
    kubectl.ok("delete deployment,service web --timeout=60s");
    kubectl.ok("delete pod host held --timeout=60s");
    eventually("the pods are gone", 60, || match kubectl.ok("get pods -o name").as_str() {
        "" => Ok(()),
        pods => Err(pods.to_owned()),
    });
    drop(cluster);
    assert_eq!(before, traces());
}

/// Through the clusterIP and its name from a pod and from the node, through the NodePort from outside.
fn requests(cluster: &Cluster, kubectl: &Kubectl) {
    let service = kubectl.ok("get service web -o jsonpath={.spec.clusterIP}");
    kubectl.until(60, "exec deploy/web -- demo resolve web", &service);
    for from in ["deploy/web", "host"] {
        kubectl.until(60, &format!("exec {from} -- demo get http://{service} 4"), "from web-");
    }
    kubectl.until(60, "exec deploy/web -- demo get http://web 4", "from web-");
    let node = kubectl.ok("get node node-1 -o jsonpath={.status.addresses[0].address}");
    reached(cluster, &format!("get http://{node}:30080 4"), "from web-");
    for pod in kubectl.ok("get pods -l app=web -o jsonpath={.items[*].status.podIP}").split(' ') {
        kubectl.until(60, &format!("exec deploy/web -- demo get http://{pod}:8080 1"), "from web-");
    }
}

/// Every pod is replaced, and no request fails.
fn rollout(cluster: &Cluster) {
    let timeout = patient(120).to_string();
    let proof = cluster.xebec("rollout prove", &["deploy/web", "--runs", "1", "--timeout", &timeout]);
    let said = text(&proof);
    assert!(proof.status.success() && said.contains("2 pods replaced"), "{said}");
}

/// Pods and their connections are there for the next agent.
fn killed(cluster: &Cluster, kubectl: &Kubectl) {
    kubectl.until(60, "exec deploy/web -- demo tcp echo:7000 hello", "hello");
    // It ends when its connection breaks or is silent for some seconds, and its container with it.
    kubectl.ok("run held --image=xebec-demo:1 --restart=Never -- demo hold echo:7000 100000");
    ready(kubectl, "held");
    cluster.kill("node-1.agent");
    requests(cluster, kubectl);
    assert_eq!(kubectl.ok("exec held -- echo goes on"), "goes on\n");
    kubectl.ok("delete pod,service echo --timeout=60s");
    kubectl.until(60, "get pod held -o jsonpath={.status.phase}", "Failed");
    let held = kubectl.ok("logs held");
    let lines: Option<u64> = held.split(' ').nth(3).and_then(|lines| lines.parse().ok());
    assert!(held.contains("broke after") && lines.is_some_and(|lines| lines > 0), "{held}");
}

fn commands(kubectl: &Kubectl) {
    assert_eq!(kubectl.ok("exec deploy/web -- echo hello"), "hello\n");
    kubectl.until(20, "logs deploy/web", "listening on 8080");
    assert_eq!(limits(), vec!["67108864"; 4], "64Mi is the limit of two pods and of their containers");
    let pod = kubectl.ok("get pods -l app=web -o jsonpath={.items[0].metadata.name}");
    kubectl.ok(&format!("delete pod {pod} --timeout=60s"));
    rolled_out(kubectl);
}

// An emulated machine that is busy with pods that start keeps kubectl waiting for longer than its TLS handshake may take:
// what waits is asked again.

fn rolled_out(kubectl: &Kubectl) {
    kubectl.until(60, "rollout status deployment web --timeout=60s", "successfully rolled out");
}

fn ready(kubectl: &Kubectl, pod: &str) {
    kubectl.until(60, &format!("wait --for=condition=Ready pod/{pod} --timeout=60s"), "condition met");
}

/// In every hierarchy of cgroups; those of the sandboxes' own processes have none.
fn limits() -> Vec<String> {
    let script = "find /sys/fs/cgroup -path '*/xebec/*kubepods*' '(' -name memory.max -o -name memory.limit_in_bytes ')' | xargs cat";
    let found = Command::new("sh").args(["-c", script]).output().expect("start sh");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let is_limit = |line: &&str| line.parse().is_ok_and(|bytes: u64| bytes < 1 << 40);
    found.lines().filter(is_limit).map(str::to_owned).collect()
}

/// Of the running kernel, whose release is like `5.10.0-46-cloud-amd64`.
fn version() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().expect("a number"));
    (numbers.next().expect("major"), numbers.next().expect("minor"))
}

fn status(cluster: &Cluster) {
    let said = eventually("everything works", 120, || {
        let output = cluster.xebec("status", &["-o", "json"]);
        if output.status.success() { Ok(output.stdout) } else { Err(text(&output)) }
    });
    let status: Value = serde_json::from_slice(&said).expect("JSON");
    let features = status["nodes"][0]["report"]["features"].as_array().expect("features");
    let name = |feature: &Value| feature["name"].as_str().expect("a name").to_owned();
    let mut lacks: Vec<String> = features.iter().filter(|feature| feature["present"] == false).map(name).collect();
    lacks.sort();
    let mut expected: Vec<&str> = SINCE.iter().filter(|(_, since)| version() < *since).map(|(name, _)| *name).collect();
    expected.sort_unstable();
    assert_eq!((lacks, features.len()), (expected.iter().map(ToString::to_string).collect(), SINCE.len()), "{status}");

    let said = text(&cluster.xebec("status", &[]));
    for feature in features {
        let line = format!("{}: {}", name(feature), feature["instead"].as_str().expect("what takes its place"));
        assert_eq!(said.contains(&line), feature["present"] == false, "{line:?} in {said}");
    }
}
