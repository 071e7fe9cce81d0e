//! Pods that are replaced under load lose no request.

use xebec_tests::{Cluster, Options};

/// A server that ends at once when it is told to: whoever still sends to it loses a request.
const ABRUPT: &str = r#"{
  "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
  "spec": {
    "replicas": 3,
    "selector": {"matchLabels": {"app": "web"}},
    "template": {
      "metadata": {"labels": {"app": "web"}},
      "spec": {"containers": [{
        "name": "web", "image": "xebec-demo:1", "ports": [{"containerPort": 8080}],
        "command": ["sh", "-c", "demo http & trap \"kill -9 $!; exit 0\" TERM; wait"],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
      }]}
    }
  }
}"#;

#[test]
fn a_rollout_loses_no_request_and_its_pods_say_that_nodes_let_go_of_them() {
    let cluster = Cluster::up(&Options::default());
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", ABRUPT);
    kubectl.ok("expose deployment web --port=80 --target-port=8080");
    kubectl.ok("rollout status deployment web --timeout=60s");
    let proof = cluster.xebec("rollout prove", &["deploy/web", "--runs", "2"]);
    assert!(proof.status.success(), "{proof:?}");

    // A finalizer keeps the object of a deleted pod, and so its last conditions.
    let pod = kubectl.ok("get pods -l app=web -o jsonpath={.items[0].metadata.name}");
    kubectl.ok(&format!("patch pod {pod} --type=merge -p {{\"metadata\":{{\"finalizers\":[\"xebec.io/look\"]}}}}"));
    kubectl.ok(&format!("delete pod {pod} --wait=false"));
    let reason = "{.status.conditions[?(@.type==\"xebec.io/WithdrawnFromServices\")].reason}";
    kubectl.until(60, &format!("get pod {pod} -o jsonpath={reason}"), "AllNodesAcknowledged");
    kubectl.ok(&format!("patch pod {pod} --type=merge -p {{\"metadata\":{{\"finalizers\":null}}}}"));
}
