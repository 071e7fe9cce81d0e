//! What runs as a stream between kubectl and a pod: attach, cp, port-forward; and what is measured of pods: top, and an autoscaler by CPU.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout};
use std::time::Duration;

use xebec_tests::{Cluster, Kubectl, Options, eventually, text};

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: xebec-demo:1
        command: [sh, -c, 'touch /tmp/busy; while :; do while [ -e /tmp/busy ]; do :; done; sleep 1; done']
        resources: {requests: {cpu: 100m}, limits: {cpu: 100m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  minReplicas: 1
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
  behavior:
    scaleUp: {stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 1, periodSeconds: 15}]}
    scaleDown: {stabilizationWindowSeconds: 5, policies: [{type: Percent, value: 100, periodSeconds: 15}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: c, image: 'xebec-demo:1', command: [demo, tcp-echo, '7000']}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{port: 80, targetPort: 7000}]
";

#[test]
fn kubectl_streams_to_pods_and_autoscalers_follow_their_cpu() {
    let cluster = Cluster::up(&Options { nodes: 1, ..Options::default() });
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", MANIFEST);
    kubectl.ok("rollout status deployment echo --timeout=60s");
    for (round, kubectl) in cluster.kubectls().iter().enumerate() {
        attach(kubectl, round);
        copy(kubectl);
        let pod = pod_of(kubectl, "echo");
        for (target, port) in
            [(format!("pod/{pod}"), 7000), ("service/echo".into(), 80), ("deployment/echo".into(), 7000)]
        {
            forward(kubectl, &target, port);
        }
        forwarding_ends_with_its_pod(kubectl);
    }
    top(&kubectl);
    scaled(&kubectl, "2");
    assert!(kubectl.ok("describe hpa busy").contains("New size: 2; reason: cpu resource utilization"));
    for pod in kubectl.ok("get pods -l app=busy -o name").lines() {
        kubectl.ok(&format!("exec {pod} -- rm -f /tmp/busy"));
    }
    scaled(&kubectl, "1");
    assert!(kubectl.ok("describe hpa busy").contains("New size: 1; reason: All metrics below target"));
}

/// What is written to the container comes out of it; its end is the end of the call.
fn attach(kubectl: &Kubectl, round: usize) {
    let pod = format!("attached-{round}");
    let container = "{name: c, image: 'xebec-demo:1', stdin: true, stdinOnce: true,
        command: [sh, -c, 'while read line; do echo got $line; done; echo end']}";
    let spec = format!("{{restartPolicy: Never, containers: [{container}]}}");
    let manifest = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}}}\nspec: {spec}\n");
    kubectl.ok_with("apply -f -", &manifest);
    kubectl.ok(&format!("wait --for=condition=Ready pod/{pod} --timeout=60s"));
    let output = kubectl.ok_with(&format!("attach -i {pod}"), "one\ntwo\n");
    assert!(output.contains("got one\ngot two\nend\n"), "{output}");
    kubectl.until(30, &format!("get pod {pod} -o jsonpath={{.status.phase}}"), "Succeeded");
    kubectl.fails(&format!("attach {pod}"), None);
}

/// A folder goes into a pod and comes back the same.
fn copy(kubectl: &Kubectl) {
    let dir = tempfile::tempdir().expect("make a directory");
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    std::fs::create_dir_all(there.join("sub")).expect("make a directory");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| u8::try_from(i % 1009 % 251).unwrap_or(0)).collect();
    std::fs::write(there.join("sub/large"), &bytes).expect("write");
    std::fs::write(there.join("small"), "small").expect("write");
    let pod = pod_of(kubectl, "echo");
    kubectl.ok(&format!("cp {} {pod}:/tmp/copied", there.display()));
    assert_eq!(kubectl.ok(&format!("exec {pod} -- cat /tmp/copied/small")), "small");
    kubectl.ok(&format!("cp {pod}:/tmp/copied {}", back.display()));
    assert!(std::fs::read(back.join("sub/large")).expect("read") == bytes, "the large file is another");
    assert_eq!(std::fs::read_to_string(back.join("small")).expect("read"), "small");
    // Versions of kubectl differ in how they end then, and it may end before it has shown what the pod's tar said; there
    // is a word about it, and no file.
    eventually("a word about a missing file", 30, || {
        let missing = kubectl.command(&format!("cp {pod}:/tmp/none {}", dir.path().join("none").display()));
        let said = said_of(missing);
        if said.contains("No such file") { Ok(()) } else { Err(said) }
    });
    assert!(!dir.path().join("none").exists());
    kubectl.ok(&format!("exec {pod} -- rm -r /tmp/copied"));
}

/// Both streams of a call, however it ends.
fn said_of(mut command: std::process::Command) -> String {
    text(&command.output().expect("start kubectl"))
}

/// Several connections at once, lines there and back on each; the port is closed when kubectl ends.
fn forward(kubectl: &Kubectl, target: &str, port: u16) {
    let Forwarding { mut child, local, _stdout } = forwarding(kubectl, target, port);
    let mut connections: Vec<_> = (0..3).map(|_| TcpStream::connect(("127.0.0.1", local)).expect("connect")).collect();
    for round in 0..3 {
        for (index, connection) in connections.iter_mut().enumerate() {
            let line = format!("line {round} of {index}");
            assert!(said(connection, &line).ends_with(&line), "{target}: {line}");
        }
    }
    drop(connections);
    child.kill().expect("kill kubectl");
    child.wait().expect("wait for kubectl");
    assert!(TcpStream::connect(("127.0.0.1", local)).is_err(), "{target}: the port is still open");
}

fn forwarding_ends_with_its_pod(kubectl: &Kubectl) {
    let pod = pod_of(kubectl, "echo");
    let Forwarding { mut child, local, _stdout } = forwarding(kubectl, &format!("pod/{pod}"), 7000);
    let mut connection = TcpStream::connect(("127.0.0.1", local)).expect("connect");
    assert!(said(&mut connection, "before").ends_with("before"));
    kubectl.ok(&format!("delete pod {pod} --timeout=60s"));
    eventually("the connection ends", 30, || {
        let ended =
            connection.write_all(b"after\n").is_err() || matches!(connection.read(&mut [0; 64]), Ok(0) | Err(_));
        if ended { Ok(()) } else { Err("it is still there".into()) }
    });
    eventually("port-forward ends", 30, || {
        // It notices when it is used.
        let _refused = TcpStream::connect(("127.0.0.1", local));
        match child.try_wait() {
            Ok(Some(status)) if !status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    kubectl.ok("rollout status deployment echo --timeout=60s");
}

/// A kubectl that forwards a local port. It writes a line for every connection: without a reader it would end.
struct Forwarding {
    child: Child,
    local: u16,
    _stdout: BufReader<ChildStdout>,
}

/// Forwards a free local port to `port` of the target.
fn forwarding(kubectl: &Kubectl, target: &str, port: u16) -> Forwarding {
    let mut child = kubectl.spawn(&format!("port-forward {target} :{port} --address=127.0.0.1"));
    let mut stdout = BufReader::new(child.stdout.take().expect("standard output"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("read from kubectl");
    let local = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next()?.parse().ok());
    let Some(local) = local else {
        let mut error = String::new();
        child.stderr.take().expect("standard error").read_to_string(&mut error).expect("read from kubectl");
        panic!("port-forward {target}: {line}{error}");
    };
    Forwarding { child, local, _stdout: stdout }
}

/// The line that comes back for one.
fn said(connection: &mut TcpStream, line: &str) -> String {
    connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    connection.write_all(format!("{line}\n").as_bytes()).expect("write");
    let mut back = String::new();
    let mut byte = [0];
    while connection.read_exact(&mut byte).is_ok() && byte != *b"\n" {
        back.push(char::from(byte[0]));
    }
    back
}

fn top(kubectl: &Kubectl) {
    let nodes = kubectl.until(60, "top node", "node-1");
    assert!(nodes.starts_with("NAME") && nodes.contains("Mi"), "{nodes}");
    let pods = kubectl.until(60, "top pod -l app=busy --containers", "busy-");
    let cpu = pods.lines().nth(1).and_then(|line| line.split_whitespace().nth(2)).unwrap_or("");
    let milli: Option<u32> = cpu.strip_suffix('m').and_then(|milli| milli.parse().ok());
    assert!(milli > Some(50), "a pod that is busy within 100m: {pods}");
}

fn scaled(kubectl: &Kubectl, replicas: &str) {
    eventually(&format!("{replicas} replicas"), 120, || {
        let found = kubectl.ok("get deployment busy -o jsonpath={.spec.replicas}/{.status.readyReplicas}");
        match found == format!("{replicas}/{replicas}") {
            true => Ok(()),
            false => Err(format!("{found}: {}", kubectl.ok("get hpa busy"))),
        }
    });
}

/// A pod of the deployment that stays.
fn pod_of(kubectl: &Kubectl, app: &str) -> String {
    let pods = kubectl.json(&format!("get pods -l app={app}"));
    let pods = pods["items"].as_array().expect("pods");
    let stays = pods.iter().find(|pod| pod["metadata"]["deletionTimestamp"].is_null()).expect("a pod that stays");
    stays["metadata"]["name"].as_str().expect("a name").to_owned()
}
