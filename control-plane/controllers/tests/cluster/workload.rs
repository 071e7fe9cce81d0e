//! StatefulSets, DaemonSets and ReplicationControllers from the API to their pods.

use crate::harness::Cluster;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xebec_client::kube::core::NamespaceResourceScope;
use xebec_client::{DeleteParams, Patch, PatchParams, PostParams, Resource};
use xebec_types::apps::{ControllerRevision, DaemonSet, StatefulSet};
use xebec_types::core::{Event, Node, PersistentVolumeClaim, Pod, ReplicationController};
use xebec_types::{object, pod};

pub fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": image}]},
    })
}

pub async fn create<K>(cluster: &Cluster, object: Value) -> K
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + serde::Serialize,
{
    let object: K = serde_json::from_value(object).expect("an object");
    cluster.api::<K>("ns").create(&PostParams::default(), &object).await.expect("create")
}

pub async fn patch<K>(cluster: &Cluster, name: &str, patch: Value) -> K
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let patch = Patch::Merge(patch);
    cluster.api::<K>("ns").patch(name, &PatchParams::default(), &patch).await.expect("patch")
}

/// Waits until every one of these reasons was told.
pub async fn events(cluster: &Cluster, reasons: &[&str]) {
    let told = || async {
        let events = cluster.api::<Event>("ns").list(&Default::default()).await.ok()?.items;
        reasons.iter().all(|reason| events.iter().any(|e| e.reason.as_deref() == Some(reason))).then_some(())
    };
    cluster.until(&format!("events {reasons:?}"), told).await;
}

/// Images of active pods by name, once there are `count` and all are ready.
async fn images(cluster: &Cluster, count: usize) -> Vec<(String, String)> {
    let ask = || async {
        let pods = cluster.api::<Pod>("ns").list(&Default::default()).await.ok()?.items;
        let settled = pods.len() == count && pods.iter().all(|p| pod::is_ready(p) && pod::is_active(p));
        settled.then(|| {
            let image = |p: &Pod| p.spec.as_ref()?.containers.first()?.image.clone();
            let of = |p: &Pod| (object::name(&p.metadata).to_string(), image(p).unwrap_or_default());
            pods.iter().map(of).collect()
        })
    };
    cluster.until(&format!("{count} settled pods"), ask).await
}

async fn updated(cluster: &Cluster, name: &str) -> StatefulSet {
    let ask = || async {
        let set = cluster.api::<StatefulSet>("ns").get(name).await.ok()?;
        let status = set.status.clone()?;
        let replicas = set.spec.as_ref()?.replicas?;
        let complete = status.updated_replicas == Some(replicas)
            && status.ready_replicas == Some(replicas)
            && status.current_revision == status.update_revision
            && status.observed_generation == set.metadata.generation;
        complete.then_some(set)
    };
    cluster.until("complete update", ask).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_keeps_names_and_claims_through_updates_and_scaling() {
    let cluster = Cluster::start(2).await;
    cluster.namespace("ns").await;
    let claim = json!({"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}});
    create::<StatefulSet>(
        &cluster,
        json!({"metadata": {"name": "web"}, "spec": {
            "replicas": 3, "serviceName": "web", "selector": {"matchLabels": {"app": "web"}},
            "template": template("v1"), "volumeClaimTemplates": [claim],
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"},
        }}),
    )
    .await;
    let of = |images: &[(String, String)]| images.iter().map(|(n, i)| format!("{n}={i}")).collect::<Vec<_>>().join(" ");
    assert_eq!(of(&images(&cluster, 3).await), "web-0=v1 web-1=v1 web-2=v1");
    updated(&cluster, "web").await;

    // A canary, the whole update, and back.
    let to = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    patch::<StatefulSet>(&cluster, "web", to("v2")).await;
    let canary = || async { Some(of(&images(&cluster, 3).await)).filter(|i| i == "web-0=v1 web-1=v1 web-2=v2") };
    cluster.until("canary", canary).await;
    let all = json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}});
    patch::<StatefulSet>(&cluster, "web", all).await;
    updated(&cluster, "web").await;
    assert_eq!(of(&images(&cluster, 3).await), "web-0=v2 web-1=v2 web-2=v2");
    patch::<StatefulSet>(&cluster, "web", to("v1")).await;
    let rolled_back = || async { Some(of(&images(&cluster, 3).await)).filter(|i| i == "web-0=v1 web-1=v1 web-2=v1") };
    cluster.until("rollback", rolled_back).await;
    updated(&cluster, "web").await;
    let revisions = cluster.api::<ControllerRevision>("ns").list(&Default::default()).await.expect("list").items;
    let mut numbers: Vec<_> = revisions.iter().map(|r| r.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3], "a rollback renumbers");

    // A claim goes with its pod when the set shrinks, and stays with the set's deletion.
    let claims = || async {
        let claims = cluster.api::<PersistentVolumeClaim>("ns").list(&Default::default()).await.ok()?.items;
        Some(claims.iter().map(|c| object::name(&c.metadata).to_string()).collect::<Vec<_>>())
    };
    assert_eq!(claims().await.expect("list").len(), 3);
    patch::<StatefulSet>(&cluster, "web", json!({"spec": {"replicas": 1}})).await;
    cluster.until("shrunk", || async { claims().await.filter(|c| *c == ["data-web-0"]) }).await;
    cluster.api::<StatefulSet>("ns").delete("web", &DeleteParams::background()).await.expect("delete");
    let no_pods =
        || async { cluster.api::<Pod>("ns").list(&Default::default()).await.ok()?.items.is_empty().then_some(()) };
    cluster.until("no pods", no_pods).await;
    assert_eq!(claims().await.expect("list"), ["data-web-0"]);
    events(&cluster, &["SuccessfulCreate", "SuccessfulDelete"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_follows_nodes_and_its_template() {
    let cluster = Cluster::start(3).await;
    cluster.namespace("ns").await;
    let mut of = template("v1");
    of["spec"]["nodeSelector"] = json!({"daemon": "yes"});
    create::<DaemonSet>(
        &cluster,
        json!({"metadata": {"name": "agent"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}}, "template": of}}),
    )
    .await;
    let nodes = cluster.all::<Node>();
    let label = |node: &'static str, value: Value| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"daemon": value}}}));
        let nodes = nodes.clone();
        async move { nodes.patch(node, &PatchParams::default(), &patch).await.expect("label") }
    };
    label("n0", json!("yes")).await;
    label("n2", json!("yes")).await;
    images(&cluster, 2).await;
    let pods = cluster.api::<Pod>("ns").list(&Default::default()).await.expect("list").items;
    let mut on: Vec<_> = pods.iter().map(pod::node_name).collect();
    on.sort_unstable();
    assert_eq!(on, ["n0", "n2"]);

    // A pod that fails is replaced.
    let victim = object::name(&pods[0].metadata).to_string();
    let failed = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    cluster.api::<Pod>("ns").patch_status(&victim, &PatchParams::default(), &failed).await.expect("fail");
    let gone = || async { cluster.api::<Pod>("ns").get_opt(&victim).await.ok()?.is_none().then_some(()) };
    cluster.until("failed daemon gone", gone).await;
    images(&cluster, 2).await;

    let to = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    patch::<DaemonSet>(&cluster, "agent", to).await;
    let rolled = || async { images(&cluster, 2).await.iter().all(|(_, image)| image == "v2").then_some(()) };
    cluster.until("rollout", rolled).await;
    let counted = || async {
        let set = cluster.api::<DaemonSet>("ns").get("agent").await.ok()?;
        let status = set.status?;
        let all = [status.desired_number_scheduled, status.current_number_scheduled, status.number_ready];
        (all == [2, 2, 2] && status.updated_number_scheduled == Some(2) && status.number_available == Some(2))
            .then_some(())
    };
    cluster.until("status", counted).await;
    label("n0", Value::Null).await;
    images(&cluster, 1).await;
    events(&cluster, &["SuccessfulCreate", "SuccessfulDelete", "FailedDaemonPod"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_adopts_and_releases() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let orphan = json!({"metadata": {"name": "orphan", "labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "i"}]}});
    create::<Pod>(&cluster, orphan).await;
    create::<ReplicationController>(
        &cluster,
        json!({"metadata": {"name": "rc"}, "spec": {"replicas": 2, "selector": {"app": "web"}, "template": template("i")}}),
    )
    .await;
    let adopted = || async {
        let pod = cluster.api::<Pod>("ns").get("orphan").await.ok()?;
        (object::controller_of(&pod.metadata)?.kind == "ReplicationController").then_some(())
    };
    cluster.until("adoption", adopted).await;
    images(&cluster, 2).await;
    patch::<Pod>(&cluster, "orphan", json!({"metadata": {"labels": {"app": "other"}}})).await;
    let released = || async {
        let pod = cluster.api::<Pod>("ns").get("orphan").await.ok()?;
        object::controller_of(&pod.metadata).is_none().then_some(())
    };
    cluster.until("release", released).await;
    images(&cluster, 3).await;
    let counted = || async {
        let status = cluster.api::<ReplicationController>("ns").get("rc").await.ok()?.status?;
        (status.replicas == 2 && status.available_replicas == Some(2)).then_some(())
    };
    cluster.until("status", counted).await;
    let foreground = DeleteParams::foreground();
    cluster.api::<ReplicationController>("ns").delete("rc", &foreground).await.expect("delete");
    images(&cluster, 1).await;
}
