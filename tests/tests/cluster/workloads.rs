//! The workload kinds on real nodes: names, order, completion, one pod per node, drain.

use xebec_tests::{Cluster, Kubectl, Options};

const MANIFEST: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers: [{name: c, image: 'xebec-demo:1', command: [demo, http, '8080'], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      containers: [{name: c, image: 'xebec-demo:1', command: [sleep, '100000']}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: indexed}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: 'xebec-demo:1', command: [sh, -c, 'echo index $JOB_COMPLETION_INDEX']}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: failing}
spec:
  backoffLimit: 1
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: 'xebec-demo:1', command: [sh, -c, exit 3]}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: 0 3 * * *
  timeZone: Europe/Berlin
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{name: c, image: 'xebec-demo:1', command: [echo, done]}]
";

#[test]
fn workloads_run_on_real_nodes() {
    let cluster = Cluster::up(&Options { nodes: 2, ..Options::default() });
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", MANIFEST);
    stateful(&kubectl);
    jobs(&kubectl);
    kubectl.ok("rollout status daemonset agent --timeout=60s");
    assert_eq!(kubectl.ok("get daemonset agent -o jsonpath={.status.numberReady}"), "2");
    drain(&kubectl);
}

/// Ordinals have stable names in DNS, and come back under them after an update.
fn stateful(kubectl: &Kubectl) {
    kubectl.ok("rollout status statefulset db --timeout=60s");
    assert_eq!(kubectl.ok("get pods -l app=db -o name"), "pod/db-0\npod/db-1\n");
    kubectl.until(20, "exec db-0 -- demo get http://db-1.db:8080 1", "from db-1 ");
    kubectl.ok("set env statefulset/db COLOR=red");
    kubectl.ok("rollout status statefulset db --timeout=90s");
    kubectl.until(20, "exec db-1 -- demo get http://db-0.db:8080 1", "from db-0 ");
}

fn jobs(kubectl: &Kubectl) {
    kubectl.ok("wait --for=condition=complete job/indexed --timeout=60s");
    assert_eq!(kubectl.ok("get job indexed -o jsonpath={.status.completedIndexes}"), "0-2");
    let pod = "get pods -l batch.kubernetes.io/job-completion-index=2 -o jsonpath={.items[0].metadata.name}";
    assert_eq!(kubectl.ok(&format!("logs {}", kubectl.ok(pod))), "index 2\n");
    kubectl.ok("wait --for=condition=failed job/failing --timeout=90s");
    assert!(kubectl.ok("describe job failing").contains("BackoffLimitExceeded"));
    kubectl.ok("create job --from=cronjob/nightly now");
    kubectl.ok("wait --for=condition=complete job/now --timeout=60s");
    assert!(kubectl.ok("get cronjob nightly").contains("Europe/Berlin"));
}

/// A budget holds an eviction back; without it the pods move to the other node.
fn drain(kubectl: &Kubectl) {
    kubectl.ok("create poddisruptionbudget db --selector=app=db --min-available=2");
    kubectl.until(20, "get pdb db -o jsonpath={.status.currentHealthy}", "2");
    let node = kubectl.ok("get pod db-0 -o jsonpath={.spec.nodeName}");
    let drain = format!("drain {node} --ignore-daemonsets --force --delete-emptydir-data");
    let refused = kubectl.fails(&format!("{drain} --timeout=4s"), None);
    assert!(refused.contains("Cannot evict pod as it would violate the pod's disruption budget"), "{refused}");
    kubectl.ok("delete pdb db");
    kubectl.ok(&format!("{drain} --timeout=60s"));
    kubectl.ok("rollout status statefulset db --timeout=60s");
    assert_ne!(kubectl.ok("get pod db-0 -o jsonpath={.spec.nodeName}"), node);
    kubectl.ok(&format!("uncordon {node}"));
}
