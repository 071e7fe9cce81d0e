//! What people type, with every kubectl at hand.

use serde_json::Value;
use xebec_tests::{Cluster, Kubectl, Options};

#[test]
fn ordinary_commands_work_with_every_kubectl() {
    let cluster = Cluster::up(&Options::default());
    for (round, kubectl) in cluster.kubectls().iter().enumerate() {
        let namespace = format!("round-{round}");
        kubectl.ok(&format!("create namespace {namespace}"));
        reading(kubectl, &namespace);
        writing(kubectl, &namespace);
        workloads(kubectl, &namespace);
        nodes_and_access(kubectl, &namespace);
        kubectl.ok(&format!("delete namespace {namespace} --timeout=60s"));
        kubectl.fails(&format!("get namespace {namespace}"), None);
    }
}

fn reading(kubectl: &Kubectl, namespace: &str) {
    kubectl.until(20, &format!("-n {namespace} get serviceaccount default"), "default");
    kubectl.until(20, &format!("-n {namespace} get configmap kube-root-ca.crt"), "kube-root-ca.crt");
    for output in [
        "json",
        "yaml",
        "wide",
        "name",
        "jsonpath={.items[*].metadata.name}",
        "custom-columns=N:.metadata.name",
        "'go-template={{len .items}}'",
    ] {
        assert!(!kubectl.ok(&format!("get nodes -o {output}")).is_empty(), "-o {output}");
    }
    assert!(kubectl.ok("get nodes").contains("Ready"));
    assert!(kubectl.ok("get pods -A").is_empty() || kubectl.ok("get all -A").contains("service/kubernetes"));
    assert!(kubectl.ok("describe node node-1").contains("Allocatable"));
    assert!(kubectl.ok("describe service kubernetes").contains("443"));
    assert!(kubectl.ok("api-resources").contains("deployments"));
    assert!(kubectl.ok("api-versions").contains("apps/v1"));
    assert!(kubectl.ok("explain deployment.spec.strategy").contains("rollingUpdate"));
    assert!(kubectl.ok("version").contains("Server Version: v1.36"));
    assert!(kubectl.ok("get --raw /readyz?verbose").contains("check passed"));
    assert!(kubectl.ok("get nodes -l kubernetes.io/hostname=node-1").lines().count() == 2);
    assert!(kubectl.ok("cluster-info").contains("is running at"));
}

fn writing(kubectl: &Kubectl, namespace: &str) {
    let k = |line: &str| kubectl.ok(&format!("-n {namespace} {line}"));
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1', b: '2'}\n";
    let changed = manifest.replace("'2'", "'3'");
    let with = |line: &str, input: &str| kubectl.run(&format!("-n {namespace} {line}"), Some(input));
    assert!(with("create -f -", manifest).is_ok_and(|out| out.contains("created")));
    assert!(with("apply -f -", manifest).is_ok_and(|out| out.contains("configured") || out.contains("unchanged")));
    assert!(with("diff -f -", &changed).is_err_and(|out| out.contains("+  b: \"3\"")));
    assert!(with("apply -f -", &changed).is_ok_and(|out| out.contains("configured")));
    assert!(
        with("apply --server-side --force-conflicts -f -", manifest)
            .is_ok_and(|out| out.contains("serverside-applied"))
    );
    assert!(with("replace -f -", manifest).is_ok_and(|out| out.contains("replaced")));
    k("patch configmap c -p {\"data\":{\"b\":null}}");
    k("patch configmap c --type=merge -p {\"data\":{\"c\":\"4\"}}");
    k("patch configmap c --type=json -p [{\"op\":\"add\",\"path\":\"/data/d\",\"value\":\"5\"}]");
    assert_eq!(k("get configmap c -o jsonpath={.data}"), r#"{"a":"1","c":"4","d":"5"}"#);
    k("label configmap c tier=web");
    k("annotate configmap c note=x");
    assert!(k("get configmap -l tier=web").contains("c "));
    assert!(k("get configmap --field-selector metadata.name=c -o name").contains("configmap/c"));
    let mut edit = kubectl.command(&format!("-n {namespace} edit configmap c"));
    let output = edit.env("KUBE_EDITOR", "sed -i s/\\\"4\\\"/\\\"6\\\"/").output().expect("start kubectl");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(k("get configmap c -o jsonpath={.data.c}"), "6");
    k("create secret generic s --from-literal=x=y");
    k("create role r --verb=get --resource=pods");
    k("create rolebinding rb --role=r --serviceaccount=default:default");
    k("delete configmap c --wait=true");
}

fn workloads(kubectl: &Kubectl, namespace: &str) {
    let k = |line: &str| kubectl.ok(&format!("-n {namespace} {line}"));
    k("create deployment web --image=xebec-demo:1 --replicas=2 --port=8080");
    k("rollout status deployment web --timeout=60s");
    k("expose deployment web --port=80 --target-port=8080");
    k("scale deployment web --replicas=3");
    k("wait --for=jsonpath={.status.readyReplicas}=3 deployment/web --timeout=60s");
    k("set env deployment/web COLOR=red");
    k("rollout status deployment web --timeout=60s");
    k("rollout restart deployment web");
    k("rollout status deployment web --timeout=60s");
    assert!(k("rollout history deployment web").lines().filter(|line| line.starts_with(char::is_numeric)).count() >= 3);
    k("rollout undo deployment web");
    k("rollout status deployment web --timeout=60s");
    kubectl.until(20, &format!("-n {namespace} get endpointslices"), "web-");
    kubectl.until(20, &format!("-n {namespace} get endpoints web"), ":8080");
    let pods = kubectl.json(&format!("-n {namespace} get pods -l app=web"));
    // Those of the revision before may be on their way out.
    let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let pod = pods["items"].as_array().and_then(|pods| pods.iter().find(stays)).expect("a pod of web");
    let pod = pod["metadata"]["name"].as_str().expect("a name");
    assert!(k(&format!("describe pod {pod}")).contains("Started"));
    assert!(k(&format!("logs {pod}")).contains("listening on 8080"));
    assert_eq!(k(&format!("exec {pod} -- echo hello")), "hello\n");
    assert!(k("get events").contains("ScalingReplicaSet"));
    assert!(k("get all").contains("replicaset.apps/web-"));
    k("delete deployment web --cascade=foreground --timeout=60s");
    assert_eq!(k("get replicasets -o name"), "");
}

fn nodes_and_access(kubectl: &Kubectl, namespace: &str) {
    kubectl.ok("cordon node-1");
    assert!(kubectl.ok("get node node-1").contains("SchedulingDisabled"));
    kubectl.ok("uncordon node-1");
    assert_eq!(kubectl.ok("auth can-i create pods").trim(), "yes");
    let denied = kubectl
        .run(&format!("-n {namespace} auth can-i delete nodes --as=system:serviceaccount:default:default"), None);
    assert!(denied.is_err_and(|out| out.contains("no")));
    assert!(kubectl.ok("auth whoami").contains("kubernetes-admin") || kubectl.ok("auth whoami").contains("admin"));
}
