//! Clients that know nothing of xebec: helm, operators' frameworks and client libraries in three languages.

use std::path::{Path, PathBuf};
use std::process::Command;

use xebec_tests::{Cluster, Kubectl, Options, required, text};

#[test]
fn other_peoples_clients_work_unchanged() {
    let cluster = Cluster::up(&Options { nodes: 1, ..Options::default() });
    let kubectl = cluster.kubectl();
    helm(&cluster, &kubectl);
    for script in ["python_kubernetes.py", "python_kr8s.py", "python_kopf.py"] {
        let python = required("XEBEC_PYTHON", "the folder with the Python clients");
        run(&cluster, Command::new("python3").env("PYTHONPATH", python).arg(clients().join(script)));
    }
    javascript(&cluster);
}

/// A chart with hooks and a CustomResourceDefinition: installed, upgraded, rolled back after a failure, uninstalled.
fn helm(cluster: &Cluster, kubectl: &Kubectl) {
    let program = required("XEBEC_NPM", "the folder with helm").join("helm/helm");
    let chart = clients().join("chart");
    let helm = |args: &[&str]| run(cluster, Command::new(&program).args(args).arg("--timeout=90s"));
    let chart = chart.to_str().expect("the path is text");
    helm(&["install", "shop", chart, "--wait"]);
    assert_eq!(kubectl.ok("get shelf shop -o jsonpath={.spec}"), r#"{"label":"plain","size":1}"#);
    kubectl.ok("wait --for=condition=complete job/shop-pre-install --timeout=1s");
    helm(&["upgrade", "shop", chart, "--wait", "--set", "replicas=2,greeting=bye"]);
    assert_eq!(kubectl.ok("get deployment shop -o jsonpath={.status.readyReplicas}"), "2");
    kubectl.ok("wait --for=condition=complete job/shop-post-upgrade --timeout=1s");
    let mut broken = Command::new(&program);
    broken.args(["upgrade", "shop", chart, "--wait", "--set", "broken=true", "--timeout=3s"]);
    assert!(!kubeconfig(cluster, &mut broken).output().expect("start helm").status.success());
    helm(&["rollback", "shop", "1", "--wait"]);
    assert_eq!(kubectl.ok("get configmap shop -o jsonpath={.data.greeting}"), "hello");
    helm(&["uninstall", "shop", "--wait"]);
    assert_eq!(kubectl.ok("get deployments,services,shelves -l app.kubernetes.io/managed-by=Helm -o name"), "");
    kubectl.ok("get customresourcedefinition shelves.example.com");
}

fn javascript(cluster: &Cluster) {
    // Modules are found beside the program, not by a variable.
    let home = required("XEBEC_NPM", "the folder with the JavaScript client");
    let script = home.join("client.mjs");
    std::fs::copy(clients().join("client.mjs"), &script).expect("copy the program");
    run(cluster, Command::new("node").arg(script));
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

#[track_caller]
fn run(cluster: &Cluster, command: &mut Command) {
    let output = kubeconfig(cluster, command).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
}

fn kubeconfig<'a>(cluster: &Cluster, command: &'a mut Command) -> &'a mut Command {
    command.env("KUBECONFIG", cluster.dir().join("kubeconfig"))
}
