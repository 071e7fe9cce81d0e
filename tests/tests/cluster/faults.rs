//! `kill -9` of any part: no acknowledged write is lost, pods and their connections go on.

use xebec_tests::{Cluster, Options};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  nodeName: node-2
  containers: [{name: c, image: 'xebec-demo:1', command: [demo, tcp-echo, '7000']}]
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports: [{port: 7000}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node-1
  containers: [{name: c, image: 'xebec-demo:1', command: [sleep, '100000']}]
";

#[test]
fn embedded_store_survives_kill_9_of_every_part() {
    survives("embedded", &["server", "node-1.agent", "node-2.agent", "node-1.containerd", "node-2.containerd"]);
}

#[test]
fn etcd_store_survives_kill_9_of_every_part() {
    survives("etcd", &["etcd", "server", "node-1.agent"]);
}

fn survives(store: &'static str, units: &[&str]) {
    let cluster = Cluster::up(&Options { store, ..Options::default() });
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", PODS);
    kubectl.ok("wait --for=condition=Ready pod/client pod/server --timeout=60s");
    kubectl.until(20, "exec client -- demo tcp server:7000 hello", "hello");
    // Through all the deaths, one connection between the pods, and one new connection after the other.
    let seconds = 5 * units.len();
    kubectl.ok(&format!("exec client -- sh -c 'demo hold server:7000 {seconds} >/tmp/held 2>&1 &'"));
    for (round, unit) in units.iter().enumerate() {
        kubectl.until(30, &format!("create configmap before-{round} --from-literal=unit={unit}"), "created");
        cluster.kill(unit);
        kubectl.until(30, &format!("get configmap before-{round} -o jsonpath={{.data.unit}}"), unit);
        kubectl.until(30, "exec client -- demo tcp server:7000 hello", "hello");
    }
    let held = kubectl.until(60, "exec client -- cat /tmp/held", "\n");
    assert!(held.contains("on one connection"), "{held}");
    for pod in ["client", "server"] {
        let restarts = format!("get pod {pod} -o jsonpath={{.status.containerStatuses[0].restartCount}}");
        assert_eq!(kubectl.ok(&restarts), "0", "{pod} restarted");
    }
    kubectl.ok("create deployment after --image=xebec-demo:1 --replicas=2");
    kubectl.ok("rollout status deployment after --timeout=60s");
}

#[test]
fn a_restarted_agent_takes_no_endpoint_away() {
    let cluster = Cluster::up(&Options::default());
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", include_str!("../../../examples/web.yaml"));
    kubectl.ok("-n web scale deployment back --replicas=1");
    kubectl.ok("-n web rollout status deployment back --timeout=60s");
    let node = kubectl.until(20, "-n web get pods -l app=back -o jsonpath={.items[*].spec.nodeName}", "node");
    kubectl.ok("run load --image=xebec-demo:1 --restart=Never -- demo load http://back.web 8");
    kubectl.ok("wait --for=jsonpath={.status.phase}=Running pod/load --timeout=30s");
    // The only endpoint's node, and one that sends to it.
    for unit in [format!("{}.agent", node.trim()), "node-1.agent".to_owned()] {
        cluster.kill(&unit);
        std::thread::sleep(std::time::Duration::from_secs(3));
    }
    kubectl.ok("wait --for=jsonpath={.status.phase}=Succeeded pod/load --timeout=30s");
    let report = kubectl.ok("logs load");
    assert!(report.contains("failed 0"), "{report}");
    let said = kubectl.ok("get events -A --field-selector reason=NodeNotReady -o name");
    assert_eq!(said.trim(), "", "{said}");
}

#[test]
fn a_deleted_pod_is_replaced_and_its_service_keeps_answering() {
    let cluster = Cluster::up(&Options::default());
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", include_str!("../../../examples/web.yaml"));
    kubectl.ok("-n web rollout status deployment back --timeout=60s");
    kubectl.ok("-n web rollout status deployment front --timeout=60s");
    kubectl.ok("run load --image=xebec-demo:1 --restart=Never -- demo load http://back.web 6");
    kubectl.ok("wait --for=jsonpath={.status.phase}=Running pod/load --timeout=30s");
    let pod = kubectl.ok("-n web get pods -l app=back -o jsonpath={.items[0].metadata.name}");
    kubectl.ok(&format!("-n web delete pod {pod}"));
    kubectl.ok("-n web rollout status deployment back --timeout=60s");
    kubectl.ok("wait --for=jsonpath={.status.phase}=Succeeded pod/load --timeout=30s");
    let report = kubectl.ok("logs load");
    assert!(report.contains("failed 0"), "{report}");
}
