//! Pods with `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth`.

use std::fs;
use std::process::Command;

use xebec_tests::{Cluster, Kubectl, Options, eventually, text};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  annotations: {kubernetes.io/ingress-bandwidth: INGRESS, kubernetes.io/egress-bandwidth: 1G}
spec:
  containers:
  - {name: tcp, image: 'xebec-demo:1', command: [demo, tcp-echo, '7000']}
";

fn pod(kubectl: &Kubectl, name: &str, ingress: &str) {
    kubectl.ok_with("apply -f -", &POD.replace("NAME", name).replace("INGRESS", ingress));
}

/// What `tc` says about the pod's own device.
fn queue(pid: &str) -> String {
    let tc = ["--net", "tc", "qdisc", "show", "dev", "eth0"];
    let output = Command::new("nsenter").args(["-t", pid]).args(tc).output().expect("start nsenter");
    text(&output)
}

/// The process of a pod's container, by its cgroup.
fn process(kubectl: &Kubectl, name: &str) -> String {
    let id = kubectl.ok(&format!("get pod {name} -o jsonpath={{.status.containerStatuses[0].containerID}}"));
    let id = id.trim().trim_start_matches("containerd://").to_owned();
    let is_of = |pid: &String| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(&id));
    let processes = fs::read_dir("/proc").expect("read /proc").flatten();
    let mut pids = processes.map(|entry| entry.file_name().to_string_lossy().into_owned());
    pids.find(|pid| pid.parse::<u32>().is_ok() && is_of(pid)).expect("a process of the container")
}

#[track_caller]
fn becomes(what: &str, wanted: &str, ask: impl Fn() -> String) {
    eventually(what, 20, || match ask() {
        said if said.contains(wanted) => Ok(()),
        said => Err(said),
    });
}

#[test]
fn bandwidths_follow_annotations() {
    let cluster = Cluster::up(&Options { nodes: 1, ..Options::default() });
    let kubectl = cluster.kubectl();
    let limited = || kubectl.ok("get --raw /api/v1/nodes/node-1/proxy/metrics");
    let entries = |count| format!("xebec_datapath_map_entries{{map=\"xb_pod_rate\"}} {count}\n");
    pod(&kubectl, "limited", "1M");
    kubectl.ok("wait --for=condition=Ready pod/limited --timeout=60s");
    let pid = process(&kubectl, "limited");
    becomes("egress is limited", "tbf 7862: root refcnt", || queue(&pid));
    becomes("egress is limited", "rate 1Gbit", || queue(&pid));
    becomes("ingress is limited", &entries(1), limited);

    kubectl.ok("annotate pod limited --overwrite kubernetes.io/egress-bandwidth=2M");
    becomes("egress has another limit", "rate 2Mbit", || queue(&pid));
    let removed =
        Command::new("nsenter").args(["-t", &pid, "--net", "tc", "qdisc", "del", "dev", "eth0", "root"]).status();
    assert!(removed.expect("start nsenter").success());
    becomes("egress is limited again", "rate 2Mbit", || queue(&pid));
    becomes("the repair is told", "bandwidth removed or changed by others", || kubectl.ok("get events -A"));
    // What means nothing is told, and is no limit.
    kubectl.ok("annotate pod limited --overwrite kubernetes.io/ingress-bandwidth=5");
    becomes("ingress has no limit", &entries(0), limited);
    becomes("why is told", "unreasonably small (< 1kbit)", || kubectl.ok("get events"));
    kubectl.ok("annotate pod limited kubernetes.io/egress-bandwidth-");
    becomes("egress has no limit", "noqueue", || queue(&pid));

    // A pod that is made so is refused, as by upstream's runtimes.
    pod(&kubectl, "refused", "1001T");
    becomes("why is told", "unreasonably large (> 1Pbit)", || {
        kubectl.ok("get events --field-selector reason=FailedCreatePodSandBox")
    });
}
