//! The controllers against the real API server, in one process, with nodes that are hollow.

mod batch;
mod certificate;
mod client;
mod custom;
mod denials;
mod devices;
mod endpoints;
mod eviction;
mod garbage;
mod harness;
mod loadbalancer;
mod node;
mod ownership;
mod policy;
mod quota;
mod raw;
mod rotation;
mod token;
mod workload;

use harness::Cluster;
use serde_json::json;
use std::time::{Duration, Instant};
use xebec_client::{DeleteParams, Patch, PatchParams, PostParams};
use xebec_types::apps::{Deployment, ReplicaSet};
use xebec_types::core::{ConfigMap, Endpoints, Event, Namespace, Node, Pod, Service, ServiceAccount};
use xebec_types::discovery::EndpointSlice;
use xebec_types::rbac::{ClusterRoleBinding, RoleBinding};
use xebec_types::{object, pod};

fn web(replicas: i32, image: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                    "name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}],
                }]},
            },
        },
    }))
    .expect("a Deployment")
}

fn web_service() -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    }))
    .expect("a Service")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_furnished_and_emptied() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let accounts = cluster.api::<ServiceAccount>("ns");
    cluster.until("default account", || async { accounts.get_opt("default").await.ok()? }).await;
    let maps = cluster.api::<ConfigMap>("ns");
    let map = cluster.until("CA", || async { maps.get_opt("kube-root-ca.crt").await.ok()? }).await;
    assert!(map.data.expect("data")["ca.crt"].contains("BEGIN CERTIFICATE"));
    cluster.api::<Deployment>("ns").create(&PostParams::default(), &web(3, "a")).await.expect("create");
    cluster.ready_pods("ns", 3).await;
    let namespaces = cluster.all::<Namespace>();
    namespaces.delete("ns", &DeleteParams::default()).await.expect("delete");
    cluster.until("no namespace", || async { gone(namespaces.get_opt("ns").await) }).await;
    assert_eq!(cluster.all::<Pod>().list(&Default::default()).await.expect("list").items.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_and_back_without_losing_an_endpoint() {
    let cluster = Cluster::start(2).await;
    cluster.namespace("ns").await;
    let deployments = cluster.api::<Deployment>("ns");
    cluster.api::<Service>("ns").create(&PostParams::default(), &web_service()).await.expect("create");
    deployments.create(&PostParams::default(), &web(3, "a")).await.expect("create");
    cluster.rolled_out("ns", "web").await;
    cluster.ready_endpoints("ns", "web", 3).await;

    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "b"}]}}}});
    let change = Patch::Strategic(patch);
    deployments.patch("web", &PatchParams::default(), &change).await.expect("patch");
    cluster.rolled_out("ns", "web").await;
    cluster.ready_endpoints("ns", "web", 3).await;
    let sets = cluster.api::<ReplicaSet>("ns").list(&Default::default()).await.expect("list").items;
    let mut revisions: Vec<_> = sets
        .iter()
        .map(|s| object::annotation(&s.metadata, "deployment.kubernetes.io/revision").map(String::from))
        .collect();
    revisions.sort();
    assert_eq!(revisions, [Some("1".into()), Some("2".into())]);
    let endpoints = cluster.api::<Endpoints>("ns");
    cluster
        .until("Endpoints", || async {
            let subsets = endpoints.get_opt("web").await.ok()??.subsets?;
            (subsets.first()?.addresses.as_ref()?.len() == 3).then_some(())
        })
        .await;

    let events = cluster.api::<Event>("ns");
    let told = || async {
        let events = events.list(&Default::default()).await.ok()?.items;
        let reasons: Vec<_> = events.iter().filter_map(|e| e.reason.clone()).collect();
        let all = ["ScalingReplicaSet", "SuccessfulCreate", "SuccessfulDelete"];
        all.iter().all(|r| reasons.iter().any(|x| x == r)).then_some(())
    };
    cluster.until("events", told).await;

    deployments.delete("web", &DeleteParams::background()).await.expect("delete");
    let no_pods = || async {
        let pods = cluster.api::<Pod>("ns").list(&Default::default()).await.ok()?.items;
        pods.is_empty().then_some(())
    };
    cluster.until("pods collected", no_pods).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_follows_the_propagation_policy() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let deployments = cluster.api::<Deployment>("ns");
    let sets = cluster.api::<ReplicaSet>("ns");
    deployments.create(&PostParams::default(), &web(2, "a")).await.expect("create");
    cluster.rolled_out("ns", "web").await;

    deployments.delete("web", &DeleteParams::orphan()).await.expect("delete");
    cluster.until("no Deployment", || async { gone(deployments.get_opt("web").await) }).await;
    let orphan = sets.list(&Default::default()).await.expect("list").items.pop().expect("the set stays");
    assert!(orphan.metadata.owner_references.is_none_or(|o| o.is_empty()));

    deployments.create(&PostParams::default(), &web(2, "a")).await.expect("create");
    cluster.rolled_out("ns", "web").await;
    let adopted = sets.list(&Default::default()).await.expect("list").items;
    assert_eq!(adopted.len(), 1, "the orphan is adopted");

    deployments.delete("web", &DeleteParams::foreground()).await.expect("delete");
    cluster.until("no Deployment", || async { gone(deployments.get_opt("web").await) }).await;
    assert_eq!(sets.list(&Default::default()).await.expect("list").items.len(), 0);
    assert_eq!(cluster.api::<Pod>("ns").list(&Default::default()).await.expect("list").items.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_loses_its_backends_and_then_its_pods() {
    let mut cluster = Cluster::start(3).await;
    cluster.namespace("ns").await;
    cluster.api::<Service>("ns").create(&PostParams::default(), &web_service()).await.expect("create");
    cluster.api::<Deployment>("ns").create(&PostParams::default(), &web(6, "a")).await.expect("create");
    cluster.rolled_out("ns", "web").await;
    let nodes = cluster.all::<Node>();
    let blocks: std::collections::BTreeSet<_> = nodes
        .list(&Default::default())
        .await
        .expect("list")
        .items
        .into_iter()
        .filter_map(|n| n.spec?.pod_cidr)
        .collect();
    assert_eq!(blocks.len(), 3, "every node has a block of its own: {blocks:?}");

    let victim = cluster.kill_node();
    let start = Instant::now();
    let slices = cluster.api::<EndpointSlice>("ns");
    let withdrawn = || async {
        let slices = slices.list(&Default::default()).await.ok()?.items;
        let endpoints = slices.iter().flat_map(|s| s.endpoints.iter().flatten());
        let mut on_victim = endpoints.filter(|e| e.node_name.as_deref() == Some(&victim));
        let ready =
            |e: &xebec_types::discovery::Endpoint| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or_default();
        on_victim.all(|e| !ready(e)).then_some(())
    };
    cluster.until("backends withdrawn", withdrawn).await;
    println!("backends of a dead node are withdrawn after {:?} (grace 3 s)", start.elapsed());
    let tainted = || async {
        let taints = nodes.get(&victim).await.ok()?.spec?.taints?;
        taints.iter().any(|t| t.key == "node.kubernetes.io/unreachable").then_some(())
    };
    cluster.until("taint", tainted).await;
    // The pods tolerate this for two seconds (their Deployment does not say so: admission would).
    let replaced = || async {
        let pods = cluster.api::<Pod>("ns").list(&Default::default()).await.ok()?.items;
        let ready = pods.iter().filter(|p| pod::is_ready(p) && pod::is_active(p));
        let elsewhere = ready.filter(|p| pod::node_name(p) != victim).count();
        (elsewhere == 6 || tolerates(&pods)).then_some(())
    };
    cluster.until("pods elsewhere", replaced).await;
    nodes.delete(&victim, &DeleteParams::default()).await.expect("delete");
}

fn tolerates(pods: &[Pod]) -> bool {
    let tolerations = pods.iter().flat_map(|p| p.spec.iter()).flat_map(|s| s.tolerations.iter().flatten());
    tolerations.into_iter().any(|t| t.key.as_deref() == Some("node.kubernetes.io/unreachable"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_with_a_token_and_renews_with_its_certificate() {
    let cluster = Cluster::start(0).await;
    let dir = tempfile::tempdir().expect("dir");
    let join = |token: Option<&str>| xebec_client::bootstrap::Join {
        servers: vec![cluster.url()],
        token: token.map(|t| t.parse().expect("token")),
        ca_file: None,
        dir: dir.path().into(),
        node_name: "n1".into(),
        clock: xebec_clock::Clock::default(),
    };
    let wrong = format!("abcdef.ffffffffffffffff@sha256:{}", cluster.ca_hash());
    let refused = xebec_client::bootstrap::join(&join(Some(&wrong))).await.err().expect("refused");
    assert!(refused.to_string().contains("refuses the token"), "{refused}");
    let joined = xebec_client::bootstrap::join(&join(Some(&cluster.token()))).await.expect("join");
    let addresses = [[127, 0, 0, 1].into()];
    let serving = joined.serving(&addresses).await.expect("serving certificate");
    assert_eq!(serving.addresses(), addresses);
    let again = xebec_client::bootstrap::join(&join(None)).await.expect("no token needed");
    assert_eq!(again.identity.pem(), joined.identity.pem());

    // A CA that is added is noticed, once it is whole.
    let ca = std::fs::read_to_string(dir.path().join("ca.crt")).expect("CA");
    let added = |part: &str| std::fs::write(dir.path().join("ca.crt"), format!("{ca}{part}")).expect("write");
    for (part, expected) in [("", false), (&ca[..ca.len() / 2], false), (ca.as_str(), true)] {
        added(part);
        assert_eq!(again.has_other_ca().expect("read"), expected, "{part}");
    }
    std::fs::write(dir.path().join("ca.crt"), "").expect("write");
    assert!(!again.has_other_ca().expect("read"), "an empty file is being written");
    added("");

    // A certificate in the last third of its life is replaced, and connections go on.
    let old = cluster.short_lived("system:node:n1", "system:nodes");
    std::fs::write(dir.path().join("kubelet-client.pem"), &old).expect("write");
    let aged = xebec_client::bootstrap::join(&join(None)).await.expect("join");
    assert_eq!(aged.identity.pem(), old);
    let stop = tokio_util::sync::CancellationToken::new();
    let renewed = async {
        let is_new = || async { (aged.identity.pem() != old).then_some(()) };
        cluster.until("renewed certificate", is_new).await;
        let nodes = xebec_client::Api::<Node>::all(aged.client.clone());
        assert!(nodes.get_opt("n1").await.expect("the certificate is good").is_none());
        let is_kept = || async {
            let kept = std::fs::read_to_string(dir.path().join("kubelet-client.pem")).ok()?;
            (kept == aged.identity.pem()).then_some(())
        };
        cluster.until("file", is_kept).await;
        stop.cancel();
    };
    tokio::join!(aged.rotate(&serving, &addresses, &stop), renewed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_deployment_makes_each_of_its_pods_once() {
    let cluster = Cluster::start(10).await;
    cluster.namespace("ns").await;
    cluster.api::<Deployment>("ns").create(&PostParams::default(), &web(100, "a")).await.expect("create");
    cluster.ready_pods("ns", 100).await;
    cluster.rolled_out("ns", "web").await;
    let is_deletion = |event: &&Event| event.reason.as_deref() == Some("SuccessfulDelete");
    let events = cluster.api::<Event>("ns").list(&Default::default()).await.expect("list events").items;
    assert_eq!(events.iter().find(is_deletion), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_account_is_bound_to_a_role_and_a_missing_right_is_seen() {
    let cluster = Cluster::start(0).await;
    let of_cluster = cluster.all::<ClusterRoleBinding>().list(&Default::default()).await.expect("list").items;
    let of_system = cluster.api::<RoleBinding>("kube-system").list(&Default::default()).await.expect("list").items;
    let subjects =
        of_cluster.into_iter().flat_map(|b| b.subjects).chain(of_system.into_iter().flat_map(|b| b.subjects));
    let bound: Vec<String> = subjects.flatten().filter(|s| s.kind == "ServiceAccount").map(|s| s.name).collect();
    let unbound: Vec<_> = xebec_controllers::accounts().filter(|account| !bound.iter().any(|b| b == account)).collect();
    assert_eq!(unbound, Vec::<&str>::new());

    let nobody = xebec_client::Api::<ConfigMap>::namespaced(cluster.accounts.client("nobody"), "default");
    let refused = nobody.create(&PostParams::default(), &ConfigMap::default()).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("kube-system:nobody")));
    assert_eq!(cluster.denials.take().len(), 1);
}

/// `Some` once the server says that there is no such object.
fn gone<K>(answer: Result<Option<K>, xebec_client::Error>) -> Option<()> {
    answer.ok()?.is_none().then_some(())
}

const PATIENCE: Duration = Duration::from_secs(20);
