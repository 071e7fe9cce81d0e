//! Budgets and quotas: what may go and what may come.

use crate::harness::Cluster;
use crate::web;
use serde_json::{Value, json};
use xebec_client::{DeleteParams, Error, Patch, PatchParams, PostParams};
use xebec_types::apps::Deployment;
use xebec_types::autoscaling::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use xebec_types::core::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota};
use xebec_types::policy::PodDisruptionBudget;
use xebec_types::{object, pod};

fn object<K: serde::de::DeserializeOwned>(json: Value) -> K {
    serde_json::from_value(json).expect("an object")
}

async fn evict(cluster: &Cluster, name: &str) -> Result<(), Error> {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let request = http::Request::post(format!("/api/v1/namespaces/ns/pods/{name}/eviction"));
    let request = request.header("content-type", "application/json").body(eviction.to_string().into_bytes());
    cluster.client.request::<Value>(request.expect("a request")).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_lets_one_pod_go_at_a_time() {
    let cluster = Cluster::start(2).await;
    cluster.namespace("ns").await;
    cluster.api::<Deployment>("ns").create(&PostParams::default(), &web(3, "a")).await.expect("create");
    cluster.ready_pods("ns", 3).await;
    let budgets = cluster.api::<PodDisruptionBudget>("ns");
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    budgets.create(&PostParams::default(), &object(budget)).await.expect("create");
    let allowed = |wanted: i32| {
        let budgets = budgets.clone();
        move || {
            let budgets = budgets.clone();
            async move {
                let status = budgets.get("b").await.ok()?.status?;
                (status.disruptions_allowed == Some(wanted)).then_some(status)
            }
        }
    };
    let status = cluster.until("an allowed disruption", allowed(1)).await;
    assert_eq!((status.expected_pods, status.desired_healthy, status.current_healthy), (Some(3), Some(2), Some(3)));

    let pods = cluster.api::<Pod>("ns").list(&Default::default()).await.expect("list").items;
    let names: Vec<&str> = pods.iter().map(|p| object::name(&p.metadata)).collect();
    // Both at once: one of them is served.
    let (first, second) = tokio::join!(evict(&cluster, names[0]), evict(&cluster, names[1]));
    let refused = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    let [Error::Api(refused)] = &refused[..] else { panic!("one is refused: {refused:?}") };
    assert_eq!(refused.code, 429);
    assert_eq!(refused.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    cluster.ready_pods("ns", 3).await;
    cluster.until("a replacement that counts", allowed(1)).await;
    let now = cluster.api::<Pod>("ns").list(&Default::default()).await.expect("list").items;
    assert_eq!(now.iter().filter(|p| pod::is_active(p)).count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_bounds_a_deployment_and_follows_what_goes() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let quotas = cluster.api::<ResourceQuota>("ns");
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2", "count/configmaps": "10"}}});
    quotas.create(&PostParams::default(), &object(quota)).await.expect("create");
    let used = |name: &'static str, wanted: &'static str| {
        let quotas = quotas.clone();
        move || {
            let quotas = quotas.clone();
            async move {
                let used = quotas.get("q").await.ok()?.status?.used?;
                (used.get(name)?.0 == wanted).then_some(())
            }
        }
    };
    // The namespace has its root CA.
    cluster.until("count of what was there", used("count/configmaps", "1")).await;
    let maps = cluster.api::<ConfigMap>("ns");
    maps.create(&PostParams::default(), &object(json!({"metadata": {"name": "m"}}))).await.expect("create");
    cluster.until("charge", used("count/configmaps", "2")).await;
    maps.delete("m", &DeleteParams::default()).await.expect("delete");
    cluster.until("release", used("count/configmaps", "1")).await;

    cluster.api::<Deployment>("ns").create(&PostParams::default(), &web(3, "a")).await.expect("create");
    cluster.ready_pods("ns", 2).await;
    cluster.until("full quota", used("pods", "2")).await;
    let more = Patch::Merge(json!({"spec": {"hard": {"pods": "3"}}}));
    quotas.patch("q", &PatchParams::default(), &more).await.expect("patch");
    cluster.ready_pods("ns", 3).await;
    cluster.until("all of it", used("pods", "3")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_bound_protected_and_lets_its_volume_go() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    let volumes = cluster.all::<PersistentVolume>();
    let (claims, pods) = (cluster.api::<PersistentVolumeClaim>("ns"), cluster.api::<Pod>("ns"));
    let spec =
        json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp/x"}});
    volumes
        .create(&PostParams::default(), &object(json!({"metadata": {"name": "v"}, "spec": spec})))
        .await
        .expect("create");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "500Mi"}}});
    claims
        .create(&PostParams::default(), &object(json!({"metadata": {"name": "c"}, "spec": spec})))
        .await
        .expect("create");
    let volume_phase = |wanted: &'static str| {
        let volumes = volumes.clone();
        move || {
            let volumes = volumes.clone();
            async move {
                volumes.get("v").await.ok().filter(|v| phase(v.status.as_ref().and_then(|s| s.phase.as_ref()), wanted))
            }
        }
    };
    let bound = || async {
        let claim = claims.get("c").await.ok()?;
        let status = claim.status.clone()?;
        phase(status.phase.as_ref(), "Bound").then_some(claim)
    };
    let claim = cluster.until("bound claim", bound).await;
    assert_eq!(claim.spec.expect("spec").volume_name.as_deref(), Some("v"));
    assert_eq!(claim.status.expect("status").capacity.expect("capacity")["storage"].0, "1Gi");
    cluster.until("bound volume", volume_phase("Bound")).await;

    let volume = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]);
    let spec =
        json!({"volumes": volume, "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "i"}]});
    pods.create(&PostParams::default(), &object(json!({"metadata": {"name": "p"}, "spec": spec})))
        .await
        .expect("create");
    cluster.ready_pods("ns", 1).await;
    claims.delete("c", &DeleteParams::default()).await.expect("delete");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(claims.get_opt("c").await.expect("get").is_some(), "a pod uses it");
    pods.delete("p", &DeleteParams::default()).await.expect("delete");
    cluster.until("claim gone", || async { crate::gone(claims.get_opt("c").await) }).await;
    cluster.until("released volume", volume_phase("Released")).await;
    volumes.delete("v", &DeleteParams::default()).await.expect("delete");
    cluster.until("volume gone", || async { crate::gone(volumes.get_opt("v").await) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_keeps_a_workload_in_its_bounds_and_says_what_it_lacks() {
    let cluster = Cluster::start(1).await;
    cluster.namespace("ns").await;
    cluster.api::<Deployment>("ns").create(&PostParams::default(), &web(1, "a")).await.expect("create");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    let spec = json!({"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 4, "metrics": [metric]});
    let autoscalers = cluster.api::<HorizontalPodAutoscaler>("ns");
    let created = object(json!({"metadata": {"name": "web"}, "spec": spec}));
    autoscalers.create(&PostParams::default(), &created).await.expect("create");
    cluster.ready_pods("ns", 2).await;
    let status = || async { autoscalers.get("web").await.ok()?.status.filter(|s| s.desired_replicas == 2) };
    let status = cluster.until("status", status).await;
    let able = |s: &HorizontalPodAutoscalerStatus| {
        s.conditions.iter().flatten().any(|c| c.type_ == "AbleToScale" && c.status == "True")
    };
    assert!(able(&status), "{status:?}");
    // No metrics are served here: that is said, and nothing is done.
    let touch = Patch::Merge(json!({"spec": {"maxReplicas": 5}}));
    autoscalers.patch("web", &PatchParams::default(), &touch).await.expect("patch");
    let says = || async {
        let conditions = autoscalers.get("web").await.ok()?.status?.conditions?;
        conditions.into_iter().find(|c| c.type_ == "ScalingActive" && c.status == "False")
    };
    let active = cluster.until("condition", says).await;
    assert_eq!(active.reason.as_deref(), Some("FailedGetResourceMetric"));
    let says = "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for \
        resource cpu: no metrics returned from resource metrics API";
    assert_eq!(active.message.as_deref(), Some(says));
    cluster.ready_pods("ns", 2).await;
}

fn phase(known: Option<&String>, wanted: &str) -> bool {
    known.is_some_and(|known| known == wanted)
}
