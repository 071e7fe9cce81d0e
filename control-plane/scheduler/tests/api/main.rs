//! The scheduler on the real API server: bindings, conditions and events as `kubectl` would see them.

#![allow(clippy::unwrap_used)]

mod devices;
mod preemption;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_apiserver::pki::Pki;
use xebec_apiserver::{Server, UserInfo};
use xebec_client::{Api, Client, Informers, ListParams, Patch, PatchParams, PostParams};
use xebec_scheduler::Config;
use xebec_types::core::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use xebec_types::storage::StorageClass;
use xebec_types::{condition, pod as pods};

struct Cluster {
    client: Client,
    pods: Api<Pod>,
    _server: Server,
    _tasks: JoinSet<()>,
    _dir: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        xebec_client::connection::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pki = Arc::new(Pki::load_or_create(dir.path().join("pki"), &["127.0.0.1".to_owned()]).unwrap());
        let store = xebec_store::embedded::open(dir.path().join("db")).await.unwrap();
        let mut config = xebec_apiserver::Config::new(pki, vec![listener]);
        config.disable_admission_plugins = vec!["ServiceAccount".to_owned()];
        let server = Server::start(config, Arc::new(store)).await.unwrap();
        server.ready().await;
        let user = UserInfo::new("test", &["system:masters", "system:authenticated"]);
        let client = Client::new(server.local_client_service(user), "default");
        let mut tasks = JoinSet::new();
        let informers = Informers::new(client.clone());
        let controllers = xebec_controllers::Controllers {
            accounts: xebec_controllers::Accounts::shared(client.clone()),
            informers: informers.clone(),
            config: xebec_controllers::Config {
                controllers: vec!["persistentvolume-binder".into(), "resourceclaim-controller".into()],
                ..xebec_controllers::Config::default()
            },
        };
        tasks.spawn(xebec_controllers::run(controllers, CancellationToken::new()));
        let user = UserInfo::new("system:kube-scheduler", &["system:authenticated"]);
        let scheduler = Client::new(server.local_client_service(user), "default");
        tasks.spawn(xebec_scheduler::run(scheduler, informers, Config::default(), CancellationToken::new()));
        let pods = Api::namespaced(client.clone(), "default");
        Self { client, pods, _server: server, _tasks: tasks, _dir: dir }
    }

    async fn node(&self, name: &str, cpu: &str) {
        let api: Api<Node> = Api::all(self.client.clone());
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        api.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let status = json!({"status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "5000"}}});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        // A node is born with the taint `not-ready`, which its lifecycle controller would take away.
        let untainted = json!({"spec": {"taints": null}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(untainted)).await.unwrap();
    }

    async fn pod(&self, name: &str, cpu: &str, more: Value) {
        let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "c", "image": "app", "resources": {"requests": {"cpu": cpu}}}]}});
        pod["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }

    async fn until(&self, name: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let pod = self.pods.get(name).await.unwrap();
            if holds(&pod) {
                return pod;
            }
            assert!(Instant::now() < deadline, "{name}: {what} does not happen: {:?}", pod.status);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn bound(&self, name: &str) -> String {
        let pod = self.until(name, "binding", |pod| !pods::node_name(pod).is_empty()).await;
        pods::node_name(&pod).to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_bound_and_carry_the_condition() {
    let cluster = Cluster::start().await;
    cluster.node("n1", "4").await;
    cluster.pod("p", "1", json!({})).await;
    assert_eq!(cluster.bound("p").await, "n1");
    let scheduled = |pod: &Pod| {
        pods::find_condition(pod, condition::POD_SCHEDULED).is_some_and(|known| known.status == condition::TRUE)
    };
    cluster.until("p", "PodScheduled", scheduled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_pod_says_why() {
    let cluster = Cluster::start().await;
    cluster.node("n1", "1").await;
    cluster.node("n2", "4").await;
    cluster.pod("p", "2", json!({"nodeSelector": {"kubernetes.io/hostname": "n1"}})).await;
    const EXPECTED: &str =
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector.";
    let says = |pod: &Pod| {
        pods::find_condition(pod, condition::POD_SCHEDULED).is_some_and(|known| {
            known.status == condition::FALSE
                && known.reason.as_deref() == Some("Unschedulable")
                && known.message.as_deref() == Some(EXPECTED)
        })
    };
    cluster.until("p", "the condition", says).await;
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), "default");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let list = events.list(&ListParams::default().fields("involvedObject.name=p")).await.unwrap();
        if list
            .items
            .iter()
            .any(|e| e.reason.as_deref() == Some("FailedScheduling") && e.message.as_deref() == Some(EXPECTED))
        {
            break;
        }
        assert!(Instant::now() < deadline, "no event: {:?}", list.items);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The node grows: the pod goes there.
    let api: Api<Node> = Api::all(cluster.client.clone());
    let grown = json!({"status": {"allocatable": {"cpu": "8"}}});
    api.patch_status("n1", &PatchParams::default(), &Patch::Merge(grown)).await.unwrap();
    assert_eq!(cluster.bound("p").await, "n1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gates_hold_a_pod_back() {
    let cluster = Cluster::start().await;
    cluster.node("n1", "4").await;
    cluster.pod("gated", "1", json!({"schedulingGates": [{"name": "example.com/wait"}]})).await;
    cluster.pod("free", "1", json!({})).await;
    cluster.bound("free").await;
    assert_eq!(pods::node_name(&cluster.pods.get("gated").await.unwrap()), "");
    let open = json!({"spec": {"schedulingGates": null}});
    cluster.pods.patch("gated", &PatchParams::default(), &Patch::Merge(open)).await.unwrap();
    assert_eq!(cluster.bound("gated").await, "n1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_goes_where_a_volume_for_its_claim_is() {
    let cluster = Cluster::start().await;
    let create = PostParams::default();
    let class = json!({"metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer"});
    let classes: Api<StorageClass> = Api::all(cluster.client.clone());
    classes.create(&create, &serde_json::from_value(class).unwrap()).await.unwrap();
    let claim = json!({"metadata": {"name": "data"}, "spec": {"storageClassName": "local",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client.clone(), "default");
    claims.create(&create, &serde_json::from_value(claim).unwrap()).await.unwrap();
    cluster.node("n1", "4").await;
    cluster.node("n2", "4").await;
    let volumes = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    cluster.pod("p", "1", json!({"volumes": volumes})).await;
    const NONE: &str = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.";
    let says = |pod: &Pod| {
        pods::find_condition(pod, condition::POD_SCHEDULED).is_some_and(|c| c.message.as_deref() == Some(NONE))
    };
    cluster.until("p", "the condition", says).await;
    let volume = json!({"metadata": {"name": "disk"}, "spec": {
        "storageClassName": "local", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"},
        "local": {"path": "/mnt/disk"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]}},
    }});
    let disks: Api<PersistentVolume> = Api::all(cluster.client.clone());
    disks.create(&create, &serde_json::from_value(volume).unwrap()).await.unwrap();
    assert_eq!(cluster.bound("p").await, "n2");
    let claim = claims.get("data").await.unwrap();
    assert_eq!(claim.spec.unwrap().volume_name.as_deref(), Some("disk"), "bound before the pod was");
}
