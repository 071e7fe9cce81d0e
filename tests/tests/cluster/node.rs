//! What the kubelet does for pods, seen through kubectl.

use xebec_tests::{Cluster, Options};

const PODS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: green, file.txt: from-config}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: full, labels: {app: full}}
spec:
  initContainers:
  - {name: first, image: 'xebec-demo:1', command: [sh, -c, 'echo init > /shared/init'], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: main
    image: xebec-demo:1
    command: [sh, -c]
    args: ['echo started $(COLOR); exec demo http 8080']
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: hidden, key: password}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 200m, memory: 64Mi}}
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
    livenessProbe: {exec: {command: ['true']}, periodSeconds: 1}
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: settings, mountPath: /settings}
    - {name: hidden, mountPath: /hidden, readOnly: true}
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: settings, configMap: {name: settings}}
  - {name: hidden, secret: {secretName: hidden}}
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  containers: [{name: c, image: 'xebec-demo:1', command: [sh, -c, 'echo done; exit 3']}]
---
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  containers: [{name: c, image: 'xebec-demo:1', command: [sh, -c, 'echo last words; exit 1']}]
---
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec:
  containers: [{name: c, image: 'xebec-no-such-image:1'}]
---
apiVersion: v1
kind: Pod
metadata: {name: huge}
spec:
  containers: [{name: c, image: 'xebec-demo:1', resources: {requests: {cpu: '1000'}}}]
";

#[test]
fn pods_run_as_their_specs_say() {
    let cluster = Cluster::up(&Options { nodes: 1, ..Options::default() });
    let kubectl = cluster.kubectl();
    kubectl.ok_with("apply -f -", PODS);
    kubectl.ok("wait --for=condition=Ready pod/full --timeout=60s");
    let exec = |command: &str| kubectl.ok(&format!("exec full -- {command}"));
    assert_eq!(exec("sh -c 'echo $COLOR $PASSWORD $NODE $CPU'"), "green s3cret node-1 200\n");
    assert_eq!(exec("cat /shared/init"), "init\n");
    assert_eq!(exec("cat /settings/file.txt"), "from-config");
    assert_eq!(exec("cat /hidden/password"), "s3cret");
    let ip = kubectl.ok("get pod full -o jsonpath={.status.podIP}");
    assert_eq!(exec("sh -c 'echo $POD_IP'").trim(), ip);
    let token = exec("cat /var/run/secrets/kubernetes.io/serviceaccount/token");
    assert_eq!(token.matches('.').count(), 2, "a JWT: {token}");
    assert!(kubectl.ok("logs full").contains("started green"));
    assert!(kubectl.ok("logs full --tail=1").lines().count() == 1);
    limits(&cluster);

    kubectl.until(30, "get pod once -o jsonpath={.status.phase}", "Failed");
    let code = "get pod once -o jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    assert_eq!(kubectl.ok(code), "3");
    assert_eq!(kubectl.ok("logs once"), "done\n");
    kubectl.until(60, "get pod crash", "CrashLoopBackOff");
    assert_eq!(kubectl.ok("logs crash --previous"), "last words\n");
    kubectl.until(60, "get pod missing", "ImagePull");
    kubectl.until(30, "describe pod huge", "Insufficient cpu");
    kubectl.until(30, "get events", "FailedScheduling");

    // A changed ConfigMap reaches the volume; a deleted pod goes within its grace period.
    kubectl.ok_with("apply -f -", &PODS.split("---").next().expect("the ConfigMap").replace("from-config", "changed"));
    kubectl.until(100, "exec full -- cat /settings/file.txt", "changed");
    kubectl.ok("delete pod full once crash missing huge --grace-period=1 --timeout=60s");
    kubectl.fails("get pod full", None);
}

/// 200m of CPU is 20000 of 100000; 64Mi is 67108864 bytes: in cgroup v1 or v2 files.
fn limits(cluster: &Cluster) {
    let script = "cat $(find /sys/fs/cgroup -path '*/xebec/*kubepods*' -name cpu.cfs_quota_us -o -path '*/xebec/*kubepods*' -name cpu.max) 2>/dev/null;
        cat $(find /sys/fs/cgroup -path '*/xebec/*kubepods*' -name memory.limit_in_bytes -o -path '*/xebec/*kubepods*' -name memory.max) 2>/dev/null";
    let found = std::process::Command::new("sh").args(["-c", script]).output().expect("start sh");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.lines().any(|line| line.starts_with("20000")), "CPU limit in {}:\n{found}", cluster.dir().display());
    assert!(found.lines().any(|line| line == "67108864"), "memory limit:\n{found}");
}
