//! Wrong things get upstream's answer and change nothing.

use xebec_tests::{Cluster, Kubectl, Options};

#[test]
fn wrong_input_is_refused_as_upstream_refuses_it() {
    let cluster = Cluster::up(&Options { nodes: 1, ..Options::default() });
    for kubectl in cluster.kubectls() {
        check(&kubectl, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndat: {}\n", "unknown field \"dat\"");
        let nonsense = "apiVersion: v1\nkind: Nonsense\nmetadata: {name: a}\n";
        let message = kubectl.fails("create -f -", Some(nonsense));
        assert!(message.contains("no matches for kind \"Nonsense\""), "{message}");
        check(&kubectl, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n", "RFC 1123");
        check(
            &kubectl,
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: '!'}}\n",
            "a valid label must be",
        );
        check(
            &kubectl,
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 70000}]}\n",
            "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
        );
        check(
            &kubectl,
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n",
            "spec.containers: Required value",
        );
        check(&kubectl, "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: 7}\n", "containers");
        check(&kubectl, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a\n", "yaml");
        check(
            &kubectl,
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n",
            "provided IP is already allocated",
        );
    }
    updates(&cluster.kubectl());
    credentials(&cluster);
}

#[track_caller]
fn check(kubectl: &Kubectl, manifest: &str, wanted: &str) {
    let message = kubectl.fails("create -f -", Some(manifest));
    assert!(message.contains(wanted), "wanted {wanted:?} for:\n{manifest}\ngot: {message}");
}

fn updates(kubectl: &Kubectl) {
    kubectl.ok("create deployment web --image=xebec-demo:1 --replicas=0");
    let selector = "[{\"op\":\"replace\",\"path\":\"/spec/selector/matchLabels/app\",\"value\":\"x\"}]";
    let message = kubectl.fails(&format!("patch deployment web --type=json -p {selector}"), None);
    assert!(message.contains("invalid") || message.contains("immutable"), "{message}");
    kubectl.ok("create configmap c --from-literal=a=1");
    let stale = kubectl.ok("get configmap c -o json");
    kubectl.ok("label configmap c x=y");
    let message = kubectl.fails("replace -f -", Some(&stale));
    assert!(message.contains("the object has been modified"), "{message}");
    assert!(kubectl.fails("get pod none", None).contains("pods \"none\" not found"));
    assert!(kubectl.fails("get nonsense", None).contains("doesn't have a resource type"));
    assert!(kubectl.fails("create configmap c", None).contains("already exists"));
    assert!(kubectl.fails("-n nowhere create configmap c", None).contains("namespaces \"nowhere\" not found"));
}

fn credentials(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let server = kubectl.ok("config view -o jsonpath={.clusters[0].cluster.server}");
    let message = kubectl.fails(
        &format!("--kubeconfig=/dev/null --server={server} --insecure-skip-tls-verify --token=wrong get pods"),
        None,
    );
    assert!(message.contains("Unauthorized") || message.contains("must be logged in"), "{message}");
    let agent = cluster.agent(&["--server", &server, "--token", "abcdef.0123456789abcdef", "--node-name", "x"]);
    assert!(!agent.status.success());
    let message = String::from_utf8_lossy(&agent.stderr).into_owned();
    assert_eq!(message.lines().filter(|line| line.starts_with("xebec:")).count(), 1, "one line: {message}");
}
