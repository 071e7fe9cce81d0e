//! What upstream certifies of kubectl and does not need nodes for: each command, and what it prints or leaves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use xebec_tests::{Kubectl, Place, eventually};

const CONTROLLER: &str = r#"
apiVersion: v1
kind: ReplicationController
metadata: {name: primary, labels: {app: agnhost}}
spec:
  replicas: 2
  selector: {app: agnhost}
  template:
    metadata: {labels: {app: agnhost}}
    spec: {containers: [{name: c, image: agnhost, ports: [{name: server, containerPort: 6379}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: primary, labels: {app: agnhost}}
spec: {selector: {app: agnhost}, ports: [{port: 6379, targetPort: server}]}
"#;

#[test]
fn kubectl_does_what_upstream_certifies() {
    let place = Place::new(None);
    let _server = place.serve(&["--no-scheduler"]);
    for (round, kubectl) in place.kubectls().iter().enumerate() {
        let namespace = format!("round-{round}");
        kubectl.ok(&format!("create namespace {namespace}"));
        kubectl.until(20, &format!("-n {namespace} get serviceaccount default"), "default");
        says_what_serves(kubectl);
        describes(kubectl, &namespace);
        changes_pods(kubectl, &namespace);
        tells_the_difference(kubectl, &namespace);
        proxies(kubectl);
    }
}

/// All of these words are in the answer.
#[track_caller]
fn check(kubectl: &Kubectl, line: &str, expected: &[&str]) {
    let said = kubectl.ok(line);
    let missing: Vec<_> = expected.iter().filter(|word| !said.contains(**word)).collect();
    assert!(missing.is_empty(), "kubectl {line} does not say {missing:?}: {said}");
}

fn says_what_serves(kubectl: &Kubectl) {
    assert!(kubectl.ok("api-versions").lines().any(|line| line == "v1"));
    check(kubectl, "cluster-info", &["Kubernetes control plane", "is running at", "https://"]);
    check(kubectl, "version", &["Client Version: v1.", "Server Version: v1.36."]);
}

fn describes(kubectl: &Kubectl, namespace: &str) {
    kubectl.ok_with(&format!("-n {namespace} create -f -"), CONTROLLER);
    let pods = format!("-n {namespace} get pods -l app=agnhost -o name");
    eventually("two pods", 20, || match kubectl.ok(&pods).lines().count() {
        2 => Ok(()),
        count => Err(format!("{count}")),
    });
    let all = kubectl.ok(&pods);
    let first = all.lines().next().expect("a pod");
    let common = ["Name:", "Namespace:", "Labels:", "app=agnhost", "Annotations:"];
    let told = |more: &[&'static str]| [&common[..], more].concat();
    let pod =
        told(&["Status:", "IP:", "Controlled By:", "ReplicationController/primary", "Image:", "agnhost", "QoS Class:"]);
    check(kubectl, &format!("-n {namespace} describe {first}"), &pod);
    let controller =
        told(&["Selector:", "Replicas:", "Pods Status:", "Pod Template:", "Image:", "Events:", "SuccessfulCreate"]);
    eventually("events", 20, || {
        let said = kubectl.ok(&format!("-n {namespace} describe rc primary"));
        if said.contains("SuccessfulCreate") { Ok(()) } else { Err(said) }
    });
    check(kubectl, &format!("-n {namespace} describe rc primary"), &controller);
    let service =
        told(&["Selector:", "Type:", "ClusterIP", "IP:", "Port:", "6379/TCP", "Endpoints:", "Session Affinity:"]);
    check(kubectl, &format!("-n {namespace} describe service primary"), &service);
    check(
        kubectl,
        &format!("describe namespace {namespace}"),
        &["Name:", "Labels:", "Annotations:", "Status:", "Active"],
    );

    for pod in all.lines() {
        kubectl.ok(&format!("-n {namespace} patch {pod} -p {{\"metadata\":{{\"annotations\":{{\"x\":\"y\"}}}}}}"));
    }
    let notes =
        kubectl.ok(&format!("-n {namespace} get pods -l app=agnhost -o jsonpath={{.items[*].metadata.annotations.x}}"));
    assert_eq!(notes, "y y");
}

fn changes_pods(kubectl: &Kubectl, namespace: &str) {
    let k = |line: &str| kubectl.ok(&format!("-n {namespace} {line}"));
    let image = || k("get pod once -o jsonpath={.spec.containers[0].image}");
    k("run once --image=httpd:1 --restart=Never --labels=run=once");
    assert_eq!((image().as_str(), k("get pod once -o jsonpath={.spec.restartPolicy}").as_str()), ("httpd:1", "Never"));

    k("label pods once testing-label=testing-label-value");
    assert!(k("get pod once -L testing-label").contains("testing-label-value"));
    k("label pods once testing-label-");
    assert!(!k("get pod once -L testing-label").contains("testing-label-value"));

    k("patch pod once --dry-run=server -p {\"spec\":{\"containers\":[{\"name\":\"once\",\"image\":\"busybox:1\"}]}}");
    assert_eq!(image(), "httpd:1");
    let manifest = k("get pod once -o json").replace("\"httpd:1\"", "\"busybox:1\"");
    kubectl.ok_with(&format!("-n {namespace} replace --dry-run=server -f -"), &manifest);
    assert_eq!(image(), "httpd:1");
    kubectl.ok_with(&format!("-n {namespace} replace -f -"), &manifest);
    assert_eq!(image(), "busybox:1");
}

fn tells_the_difference(kubectl: &Kubectl, namespace: &str) {
    kubectl.ok(&format!("-n {namespace} create deployment web --image=httpd:1"));
    let manifest = kubectl.ok(&format!("-n {namespace} get deployment web -o yaml"));
    let changed = manifest.replace("image: httpd:1", "image: busybox:1");
    let said = kubectl.fails(&format!("-n {namespace} diff -f -"), Some(&changed));
    let line = |sign: char, image: &str| {
        said.lines().any(|line| line.starts_with(sign) && line.ends_with(&format!("image: {image}")))
    };
    assert!(line('-', "httpd:1") && line('+', "busybox:1"), "{said}");
}

/// A `kubectl proxy` that ends with the value.
struct Proxy {
    process: Child,
    /// Where it says that it serves.
    at: String,
}

impl Proxy {
    fn start(kubectl: &Kubectl, flags: &str) -> Self {
        let mut command = kubectl.command(&format!("proxy {flags}"));
        let mut process = command.stdout(Stdio::piped()).spawn().expect("start kubectl");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let at =
            line.trim().strip_prefix("Starting to serve on ").unwrap_or_else(|| panic!("kubectl proxy says {line:?}"));
        Self { at: at.to_owned(), process }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

fn proxies(kubectl: &Kubectl) {
    let proxy = Proxy::start(kubectl, "-p 0 --disable-filter");
    serves_versions(TcpStream::connect(&proxy.at).expect("connect to the proxy"));
    let dir = tempfile::tempdir().expect("make a directory");
    let socket = dir.path().join("test");
    let _proxy = Proxy::start(kubectl, &format!("--unix-socket={}", socket.display()));
    serves_versions(UnixStream::connect(&socket).expect("connect to the socket"));
}

fn serves_versions(mut stream: impl Read + Write) {
    stream.write_all(b"GET /api/ HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("send a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read the answer");
    assert!(answer.contains(" 200 OK") && answer.contains("\"APIVersions\""), "{answer}");
}
