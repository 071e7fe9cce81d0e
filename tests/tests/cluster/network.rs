//! Pods, services and DNS over the eBPF datapath, with real traffic.

use std::process::{Command, Stdio};

use xebec_tests::{Cluster, Kubectl, Options, eventually};

/// An echo server on each node, a client pod and a host-network pod on the first.
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
      - {name: http, image: 'xebec-demo:1', command: [demo, http, '8080'], ports: [{name: http, containerPort: 8080}],
         readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}
      - {name: tcp, image: 'xebec-demo:1', command: [demo, tcp-echo, '7000']}
      - {name: udp, image: 'xebec-demo:1', command: [demo, udp-echo, '7001']}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: tcp, port: 7000}
  - {name: udp, port: 7001, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec:
  clusterIP: None
  selector: {app: echo}
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node-1
  containers: [{name: c, image: 'xebec-demo:1', command: [sleep, '100000']}]
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  nodeName: node-1
  hostNetwork: true
  containers: [{name: c, image: 'xebec-demo:1', command: [sleep, '100000']}]
";

#[test]
fn traffic_over_vxlan() {
    traffic("vxlan");
}

#[test]
fn traffic_over_native_routing() {
    traffic("native");
}

fn traffic(routing: &'static str) {
    let cluster = Cluster::up(&Options { routing, ..Options::default() });
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", MANIFEST);
    kubectl.ok("rollout status deployment echo --timeout=60s");
    kubectl.ok("wait --for=condition=Ready pod/client pod/host --timeout=60s");
    let pods = kubectl.ok("get pods -l app=echo -o jsonpath={.items[*].status.podIP}");
    let pods: Vec<&str> = pods.split(' ').collect();
    let service = kubectl.ok("get service echo -o jsonpath={.spec.clusterIP}");
    for from in ["client", "host"] {
        for pod in &pods {
            exec(&kubectl, from, &format!("demo tcp {pod}:7000 direct"), "direct");
            exec(&kubectl, from, &format!("demo udp {pod}:7001 direct"), "direct");
        }
        exec(&kubectl, from, &format!("demo tcp {service}:7000 service"), "service");
        exec(&kubectl, from, &format!("demo udp {service}:7001 unconnected"), "unconnected");
        exec(&kubectl, from, &format!("demo udp {service}:7001 connected connected"), "connected");
        let answers = kubectl.ok(&format!("exec {from} -- demo get http://{service} 40"));
        assert_eq!(answers.lines().count(), 2, "both backends answer {from}:\n{answers}");
    }
    dns(&kubectl, &service, &pods);
    hairpin(&kubectl, &service);
    let refused = kubectl.fails("exec client -- demo get http://nobody", None);
    assert!(!refused.contains("timed out"), "a service without backends must refuse at once: {refused}");
    in_cluster_client(&kubectl);
    masquerade(&cluster, &kubectl);
    for node in ["node-1", "node-2"] {
        // No iptables or nftables rule anywhere: that is the point.
        let rules = in_netns(&cluster, node, "nft").args(["list", "ruleset"]).output().expect("start nft");
        assert!(rules.status.success(), "nft: {rules:?}");
        assert_eq!(String::from_utf8_lossy(&rules.stdout), "", "{node} has packet filter rules");
    }
}

/// A Go client in a pod finds the API server by `default/kubernetes` and trusts it, with nothing but what every pod has:
/// the variables, the token and the cluster's CA.
fn in_cluster_client(kubectl: &Kubectl) {
    let program = kubectl.program().canonicalize().expect("kubectl is a file");
    let pod = format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: api-client}}
spec:
  restartPolicy: Never
  volumes: [{{name: kubectl, hostPath: {{path: {program}, type: File}}}}]
  containers:
  - name: c
    image: xebec-demo:1
    command: [/kubectl, get, service, kubernetes, -o, name]
    volumeMounts: [{{name: kubectl, mountPath: /kubectl}}]
",
        program = program.display()
    );
    kubectl.ok("create rolebinding api-client --clusterrole=view --serviceaccount=default:default");
    kubectl.ok_with("apply -f -", &pod);
    let phase = eventually("the pod that asks the API server ends", 60, || {
        match kubectl.ok("get pod api-client -o jsonpath={.status.phase}").as_str() {
            phase @ ("Succeeded" | "Failed") => Ok(phase.to_owned()),
            phase => Err(phase.to_owned()),
        }
    });
    let log = kubectl.ok("logs api-client");
    assert_eq!((phase.as_str(), log.trim()), ("Succeeded", "service/kubernetes"));
}

fn dns(kubectl: &Kubectl, service: &str, pods: &[&str]) {
    let zone = "default.svc.cluster.local";
    exec(kubectl, "client", "demo resolve echo", service);
    exec(kubectl, "client", &format!("demo resolve echo.{zone}."), service);
    exec(kubectl, "client", &format!("demo resolve _http._tcp.echo.{zone}. SRV"), ":80");
    for pod in pods {
        exec(kubectl, "client", "demo resolve headless", pod);
        let dashed = pod.replace('.', "-");
        exec(kubectl, "client", &format!("demo resolve {dashed}.default.pod.cluster.local."), pod);
    }
    let reversed: Vec<&str> = service.split('.').rev().collect();
    exec(kubectl, "client", &format!("demo resolve {}.in-addr.arpa. PTR", reversed.join(".")), &format!("echo.{zone}"));
    let missing = kubectl.fails(&format!("exec client -- demo resolve no-such-service.{zone}."), None);
    assert!(missing.contains("NXDOMAIN"), "{missing}");
}

/// A pod that reaches itself through its own service.
fn hairpin(kubectl: &Kubectl, service: &str) {
    let pods = kubectl.ok("get pods -l app=echo -o jsonpath={.items[*].metadata.name}");
    for pod in pods.split(' ') {
        let answers = kubectl.ok(&format!("exec {pod} -c http -- demo get http://{service} 40"));
        assert!(answers.contains(&format!("from {pod} ")), "{pod} never reached itself:\n{answers}");
    }
}

/// Traffic that leaves the cluster comes from the node's address.
fn masquerade(cluster: &Cluster, kubectl: &Kubectl) {
    let demo = std::env::var("XEBEC_DEMO").expect("XEBEC_DEMO names the demo program");
    let mut server =
        in_netns(cluster, "outside", &demo).args(["tcp-echo", "9000"]).stdout(Stdio::null()).spawn().expect("start it");
    let node = kubectl.ok("get node node-1 -o jsonpath={.status.addresses[0].address}");
    let answer = eventually("the server outside answers", 10, || {
        kubectl.run("exec client -- demo tcp 172.30.0.200:9000 hello", None)
    });
    server.kill().expect("end the server outside");
    server.wait().expect("wait for the server outside");
    assert!(answer.contains(&format!("{node} hello")), "seen from outside: {answer}, the node is {node}");
}

fn in_netns(cluster: &Cluster, role: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", cluster.netns(role))).arg(program);
    command
}

#[track_caller]
fn exec(kubectl: &Kubectl, pod: &str, command: &str, wanted: &str) {
    kubectl.until(20, &format!("exec {pod} -- {command}"), wanted);
}
