//! `xebec agent reset`: a node that leaves its cluster, and joins it again.

use std::path::Path;
use std::process::{Command, Output};

use xebec_tests::{Cluster, Options, required, text};

const PODS: &str = "
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'xebec-demo:1', command: [demo, http, '8080'], volumeMounts: [{name: hidden, mountPath: /hidden}, {name: host, mountPath: /host, subPath: kept}]}
  volumes: [{name: hidden, secret: {secretName: hidden}}, {name: host, hostPath: {path: HOST}}]
";

struct Node<'a> {
    cluster: &'a Cluster,
    netns: String,
}

impl Node<'_> {
    /// Runs a program in the node's namespaces, as on a host of its own.
    fn run(&self, program: &Path, args: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns));
        command.arg(format!("--mount={}", self.dir("run/node-1/mnt")));
        command.arg(program).args(args).output().expect("start nsenter")
    }

    fn sh(&self, script: &str) -> String {
        text(&self.run(Path::new("/bin/sh"), &["-c", script]))
    }

    fn dir(&self, below: &str) -> String {
        self.cluster.dir().join(below).display().to_string()
    }

    fn cgroup(&self) -> String {
        format!("xebec/{}", self.netns.trim_start_matches("xb-"))
    }

    fn reset(&self, name: &str, force: &[&str]) -> Output {
        let places = [
            ("--node-name", name.to_owned()),
            ("--data-dir", self.dir("node-1/agent")),
            ("--run-dir", self.dir("run/node-1")),
            ("--container-runtime-endpoint", self.dir("run/node-1/containerd.sock")),
            ("--cni-bin-dir", self.dir("node-1/cni/bin")),
            ("--cni-conf-dir", self.dir("node-1/cni/conf")),
            ("--cgroup-root", format!("/{}", self.cgroup())),
        ];
        let places = places.iter().flat_map(|(flag, value)| [*flag, value.as_str()]);
        let args: Vec<&str> = ["agent", "reset"].into_iter().chain(places).chain(force.iter().copied()).collect();
        self.run(&required("XEBEC", "the release binary"), &args)
    }

    #[track_caller]
    fn refuses(&self, name: &str, force: &[&str], reason: &str) {
        let output = self.reset(name, force);
        assert!(!output.status.success() && text(&output).contains(reason), "{}", text(&output));
    }
}

#[test]
fn a_node_leaves_nothing_on_its_host_and_joins_again() {
    let options = Options { nodes: 1, ..Options::default() };
    let cluster = Cluster::up(&options);
    let node = Node { netns: cluster.netns("node-1"), cluster: &cluster };
    let kubectl = cluster.kubectl();
    let host = tempfile::tempdir_in(cluster.dir()).expect("a directory");
    std::fs::create_dir(host.path().join("kept")).expect("a directory");
    std::fs::write(host.path().join("kept/file"), "of the host").expect("a file");
    let pods = PODS.replace("HOST", &host.path().display().to_string());
    kubectl.ok_with("apply -f -", &pods);
    kubectl.ok("wait --for=condition=Ready pod/web --timeout=60s");

    // Of others.
    node.sh("ip link add theirs type bridge && ip route add 192.0.2.0/24 via 172.30.0.200");
    node.sh("echo 8080,30000-32767,61000-65535 > /proc/sys/net/ipv4/ip_local_reserved_ports");
    std::fs::write(node.dir("node-1/agent/theirs"), "").expect("a file");

    cluster.kill("supervisor");
    node.refuses("node-1", &["--force"], "runs with --run-dir");
    cluster.kill("node-1.agent");
    node.refuses("node-1", &[], "say --force");
    node.refuses("other", &["--force"], "has the programs of node-1 and none of other: give the --node-name");

    let output = node.reset("node-1", &["--force"]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let removed: [&str; 9] = [
        "pod default/web",
        "program link eth0-from_netdev",
        "reserved ports 30000-32767,61000-65535",
        "device xb_host",
        "device xb_vxlan",
        &format!("cgroup /{}/kubepods", node.cgroup()),
        &node.dir("node-1/cni/conf/10-xebec.conflist"),
        &node.dir("node-1/agent/pki"),
        &node.dir("node-1/agent/kubelet"),
    ];
    for what in removed {
        assert!(said.lines().any(|line| line == format!("removed {what}")), "{what} in\n{said}");
    }
    assert!(said.contains("(DNS)") && said.ends_with("kubectl delete node node-1\n"), "{said}");

    assert_eq!(node.sh("ip -brief link | cut -d' ' -f1 | cut -d@ -f1 | sort"), "eth0\nlo\ntheirs\n");
    let routes = node.sh("ip route");
    assert!(routes.contains("192.0.2.0/24") && routes.lines().count() == 2, "{routes}");
    assert_eq!(node.sh("cat /proc/sys/net/ipv4/ip_local_reserved_ports"), "8080\n");
    assert_eq!(node.sh("ls /sys/fs/bpf | grep xebec"), "");
    assert_eq!(node.sh(&format!("find /sys/fs/cgroup -path '*{}/kubepods*'", node.cgroup())), "");
    let left = |below: &str| node.sh(&format!("ls {} 2>/dev/null", node.dir(below)));
    assert_eq!(left("node-1/agent"), "theirs\n");
    assert_eq!(left("node-1/cni/bin") + &left("node-1/cni/conf"), "");
    assert_eq!(left("run/node-1/containerd/io.containerd.runtime.v2.task/k8s.io"), "");
    assert!(!left("run/node-1").contains("cni.sock") && !left("run/node-1").contains("agent.pid"));
    assert_eq!(std::fs::read_to_string(host.path().join("kept/file")).expect("the host's file"), "of the host");

    let output = node.reset("node-1", &["--force"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(text(&output), "nothing is left of node node-1 on this host\n");

    cluster.up_again(&options);
    kubectl.until(60, "exec web -- cat /hidden/password /host/file", "s3cretof the host");
}
