//! `xebec up` and `xebec down`.

use std::process::Command;

use xebec_tests::{Cluster, Options};

/// What clusters may leave on a machine, as one text per kind.
pub fn traces() -> Vec<String> {
    let sh = |script: &str| {
        let output = Command::new("sh").args(["-c", script]).output().expect("start sh");
        format!("{script}:\n{}", String::from_utf8_lossy(&output.stdout))
    };
    [
        "ls /run/netns 2>/dev/null | grep '^xb-' | sort",
        "grep ' /var/tmp/xb' /proc/self/mounts",
        "find /sys/fs/cgroup -type d -path '*/xebec*' 2>/dev/null | sort",
        "ls /run/containerd/s 2>/dev/null | sort",
        "ls -d /sys/class/net/* | sort",
        "ls -d /var/tmp/xb* 2>/dev/null",
    ]
    .map(sh)
    .into()
}

#[test]
fn up_twice_is_a_no_op_and_down_leaves_nothing() {
    let options = Options { nodes: 3, ..Options::default() };
    let before = traces();
    let cluster = Cluster::up(&options);
    let kubectl = cluster.kubectl();
    kubectl.ok("create deployment web --image=xebec-demo:1 --replicas=3");
    kubectl.ok("rollout status deployment web --timeout=60s");
    let server = |cluster: &Cluster| std::fs::read_to_string(cluster.dir().join("run/server.pid")).expect("a pid file");
    let first = server(&cluster);
    cluster.up_again(&options);
    assert_eq!(first, server(&cluster), "up restarted the server");
    let refused = cluster.xebec("up", &["--nodes", "2"]);
    assert!(!refused.status.success(), "up with other --nodes must be refused");
    // The worst that can happen to the parts before `down`.
    cluster.kill("node-1.agent");
    cluster.kill("node-2.containerd");
    cluster.kill("supervisor");
    drop(cluster);
    assert_eq!(before, traces());
}

#[test]
fn keep_data_resumes_with_every_object() {
    let options = Options { nodes: 1, ..Options::default() };
    let cluster = Cluster::up(&options);
    let kubectl = cluster.kubectl();
    kubectl.ok("create configmap kept --from-literal=a=b");
    kubectl.ok("create deployment web --image=xebec-demo:1");
    kubectl.ok("rollout status deployment web --timeout=60s");
    let output = cluster.xebec("down", &["--keep-data"]);
    assert!(output.status.success(), "{output:?}");
    cluster.up_again(&options);
    assert_eq!(kubectl.ok("get configmap kept -o jsonpath={.data.a}"), "b");
    kubectl.until(60, "get deployment web -o jsonpath={.status.readyReplicas}", "1");
}

#[test]
fn clusters_in_two_directories_do_not_meet_and_one_directory_holds_one() {
    let options = Options { nodes: 1, ..Options::default() };
    let (one, two) = (Cluster::up(&options), Cluster::up(&options));
    one.kubectl().ok("create namespace only-here");
    two.kubectl().fails("get namespace only-here", None);
    let second = one.xebec("supervise", &[]);
    assert!(!second.status.success());
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(message.contains("already runs"), "{message}");
}
