//! Pods and Services of both IP families.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xebec_tests::{Cluster, Kubectl, Options, required};

use crate::exposed::{in_outside, reached, route};

/// Where the client outside the cluster is, on the nodes' network.
const OUTSIDE6: &str = "fd00:172:30::200";

/// A server on each node, a client pod and a host-network pod on the first.
const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: echo}}}
      containers:
      - {name: tcp, image: 'xebec-demo:1', command: [demo, tcp-echo, '7000'],
         readinessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: echo}
  ports: [{name: tcp, port: 7000, nodePort: 30700}]
---
apiVersion: v1
kind: Service
metadata: {name: here}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  ipFamilies: [IPv6]
  externalIPs: ['fd00:172:30::7:7']
  selector: {app: echo}
  ports: [{name: tcp, port: 7000, nodePort: 30800}]
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec:
  ipFamilies: [IPv6]
  selector: {app: echo}
  ports: [{name: tcp, port: 7000}]
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec:
  clusterIP: None
  ipFamilyPolicy: PreferDualStack
  selector: {app: echo}
  ports: [{name: tcp, port: 7000}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node-1
  containers:
  - name: c
    image: xebec-demo:1
    command: [sleep, '100000']
    env: [{name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  nodeName: node-1
  hostNetwork: true
  containers: [{name: c, image: 'xebec-demo:1', command: [sleep, '100000']}]
";

/// A server on each node and a client, in whatever families the cluster has.
const SIX: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
      - {name: tcp, image: 'xebec-demo:1', command: [demo, tcp-echo, '7000'],
         readinessProbe: {tcpSocket: {port: 7000}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  selector: {app: echo}
  ports: [{name: tcp, port: 7000, nodePort: 30700}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node-1
  containers: [{name: c, image: 'xebec-demo:1', command: [sleep, '100000']}]
";

#[test]
fn ipv6_alone_over_native_routing() {
    ipv6_alone("native");
}

#[test]
fn ipv6_alone_over_vxlan() {
    ipv6_alone("vxlan");
}

fn ipv6_alone(routing: &'static str) {
    let cluster = Cluster::up(&Options { routing, ip_families: "ipv6", ..Options::default() });
    works(&cluster, "ipv6", "8 of 8");
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", SIX);
    kubectl.ok("rollout status daemonset echo --timeout=60s");
    kubectl.ok("wait --for=condition=Ready pod/client --timeout=60s");
    let pods = kubectl.json("get pods -l app=echo")["items"].as_array().cloned().unwrap_or_default();
    let pods: Vec<String> = pods.iter().flat_map(|pod| ips(&pod["status"]["podIPs"])).collect();
    assert_eq!(families(&pods), ["IPv6", "IPv6"]);
    let service = cluster_ips(&kubectl, "echo");
    assert_eq!(families(&service), ["IPv6"]);
    for address in pods.iter().chain(&service) {
        exec(&kubectl, "client", &format!("demo tcp [{address}]:7000 hello"), "hello");
    }
    exec(&kubectl, "client", "demo tcp echo.default.svc.cluster.local:7000 hello", "hello");
    for node in ["fd00:172:30::11", "fd00:172:30::12"] {
        reached(&cluster, &format!("tcp [{node}]:30700 hello"), " hello");
    }
    load_balanced(&cluster, &kubectl, &["IPv6"]);
}

/// Every hook that the node has an address for does what it should.
fn works(cluster: &Cluster, families: &str, effective: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let output = cluster.xebec("status", &[]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let effective = format!("{effective} programs that were tried");
        if output.status.success() && text.matches(&effective).count() == 2 {
            assert!(
                text.lines().next().is_some_and(|line| line.ends_with(&format!("IP families {families}"))),
                "{text}"
            );
            return;
        }
        assert!(Instant::now() < deadline, "{text}{}", String::from_utf8_lossy(&output.stderr));
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn both_families_over_native_routing() {
    both_families("native");
}

#[test]
fn both_families_over_vxlan() {
    both_families("vxlan");
}

fn both_families(routing: &'static str) {
    let cluster = Cluster::up(&Options { routing, ip_families: "dual", ..Options::default() });
    works(&cluster, "dual", "24 of 24");
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", MANIFEST);
    kubectl.ok("rollout status deployment echo --timeout=60s");
    kubectl.ok("wait --for=condition=Ready pod/client pod/host --timeout=60s");

    let client = ips(&kubectl.json("get pod client")["status"]["podIPs"]);
    assert_eq!(families(&client), ["IPv4", "IPv6"]);
    let env = kubectl.ok("exec client -- env");
    assert!(env.lines().any(|line| line == format!("IPS={}", client.join(","))), "{env}");
    let node = &kubectl.json("get node node-1")["status"]["addresses"];
    assert_eq!((&node[0]["address"], &node[1]["address"]), (&json!("172.30.0.11"), &json!("fd00:172:30::11")));
    assert_eq!(ips(&kubectl.json("get pod host")["status"]["podIPs"]), ["172.30.0.11", "fd00:172:30::11"]);

    let pods = kubectl.json("get pods -l app=echo")["items"].as_array().cloned().unwrap_or_default();
    let pods: Vec<String> = pods.iter().flat_map(|pod| ips(&pod["status"]["podIPs"])).collect();
    assert_eq!(pods.len(), 4);
    let service = cluster_ips(&kubectl, "echo");
    assert_eq!(families(&service), ["IPv4", "IPv6"]);
    let six = cluster_ips(&kubectl, "six");
    for from in ["client", "host"] {
        for address in pods.iter().chain(&service).chain(&six) {
            exec(&kubectl, from, &format!("demo tcp {} hello", peer(address)), "hello");
        }
    }
    names(&kubectl, &service, &six, &pods);
    from_outside(&cluster);
    load_balanced(&cluster, &kubectl, &["IPv4", "IPv6"]);
    to_outside(&cluster, &kubectl);
    ranges(&kubectl);
}

/// NodePorts and external addresses of both families, at each node.
fn from_outside(cluster: &Cluster) {
    for node in ["172.30.0.11", "172.30.0.12", "[fd00:172:30::11]", "[fd00:172:30::12]"] {
        reached(cluster, &format!("tcp {node}:30700 hello"), " hello");
    }
    // Both nodes have a backend: each is Local to one, and sees its client.
    let client = format!("{OUTSIDE6} hello");
    for node in ["fd00:172:30::11", "fd00:172:30::12"] {
        reached(cluster, &format!("tcp [{node}]:30800 hello"), &client);
    }
    route(cluster, "fd00:172:30::7:7/128", "fd00:172:30::12");
    reached(cluster, "tcp [fd00:172:30::7:7]:7000 hello", &client);
}

/// A load balancer has an address of each family, which neighbours find.
fn load_balanced(cluster: &Cluster, kubectl: &Kubectl, expected: &[&str]) {
    kubectl.until(10, "get service echo -o jsonpath={.status.loadBalancer.ingress[*].ip}", "172");
    let addresses = ips(&kubectl.json("get service echo")["status"]["loadBalancer"]["ingress"]);
    assert_eq!(families(&addresses), expected);
    for address in addresses {
        reached(cluster, &format!("tcp {} hello", peer(&address)), " hello");
    }
}

/// A pod's connections of both families leave from its node's address: nobody outside knows a way to pods.
fn to_outside(cluster: &Cluster, kubectl: &Kubectl) {
    let demo = required("XEBEC_DEMO", "the demo program");
    let mut server = in_outside(cluster).arg(demo).args(["tcp-echo", "7100"]).spawn().expect("start the server");
    exec(kubectl, "client", "demo tcp 172.30.0.200:7100 hello", "172.30.0.11 hello");
    exec(kubectl, "client", &format!("demo tcp [{OUTSIDE6}]:7100 hello"), "fd00:172:30::11 hello");
    let _ = server.kill();
    let _ = server.wait();
}

/// A name has records of the families that its Service has.
fn names(kubectl: &Kubectl, service: &[String], six: &[String], pods: &[String]) {
    let zone = "default.svc.cluster.local";
    exec(kubectl, "client", "demo resolve echo A", &service[0]);
    exec(kubectl, "client", "demo resolve echo AAAA", &service[1]);
    exec(kubectl, "client", "demo resolve six AAAA", &six[0]);
    let none = kubectl.fails(&format!("exec client -- demo resolve six.{zone}. A"), None);
    assert!(none.contains("has no A record"), "{none}");
    for pod in pods {
        exec(
            kubectl,
            "client",
            &format!("demo resolve headless {}", if pod.contains(':') { "AAAA" } else { "A" }),
            pod,
        );
    }
}

/// A ServiceCIDR that is in use stays until it is free.
fn ranges(kubectl: &Kubectl) {
    let more =
        "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: more}, spec: {cidrs: [10.98.0.0/24]}}";
    kubectl.ok_with("apply -f -", more);
    kubectl.ok("wait --for=condition=Ready servicecidr/more servicecidr/kubernetes --timeout=30s");
    kubectl.until(10, "create service clusterip far --tcp=80 --clusterip=10.98.0.7", "created");
    kubectl.until(10, "get ipaddress 10.98.0.7", "services/default/far");
    kubectl.ok("delete servicecidr more --wait=false");
    kubectl.until(10, "get servicecidr more -o jsonpath={.status.conditions[0].reason}", "Terminating");
    kubectl.ok("delete service far");
    kubectl.ok("wait --for=delete servicecidr/more --timeout=60s");
}

fn cluster_ips(kubectl: &Kubectl, service: &str) -> Vec<String> {
    let list = &kubectl.json(&format!("get service {service}"))["spec"]["clusterIPs"];
    list.as_array().into_iter().flatten().filter_map(|ip| ip.as_str().map(str::to_owned)).collect()
}

fn ips(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item["ip"].as_str().map(str::to_owned)).collect()
}

fn peer(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:7000") } else { format!("{address}:7000") }
}

fn families(ips: &[String]) -> Vec<&'static str> {
    ips.iter().map(|ip| if ip.contains(':') { "IPv6" } else { "IPv4" }).collect()
}

#[track_caller]
fn exec(kubectl: &Kubectl, pod: &str, command: &str, wanted: &str) {
    kubectl.until(20, &format!("exec {pod} -- {command}"), wanted);
}
