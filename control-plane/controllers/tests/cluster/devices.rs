//! ResourceClaims that are made for pods, and end with them.

use crate::harness::Cluster;
use crate::workload::{create, events, patch};
use serde_json::{Value, json};
use xebec_client::{DeleteParams, Patch, PatchParams};
use xebec_types::core::Pod;
use xebec_types::device::{ResourceClaim, ResourceClaimTemplate};
use xebec_types::{finalizer, object};

fn spec() -> Value {
    json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}})
}

async fn pod(cluster: &Cluster, name: &str, claim: Value) -> Pod {
    let containers = json!([{"name": "c", "image": "forever", "resources": {"claims": [{"name": "gpu"}]}}]);
    let spec = json!({"schedulerName": "other", "containers": containers, "resourceClaims": [claim]});
    create::<Pod>(cluster, json!({"metadata": {"name": name}, "spec": spec})).await
}

/// As a scheduler does it.
async fn allocate(cluster: &Cluster, claim: &str, pod: &Pod) {
    patch::<ResourceClaim>(cluster, claim, json!({"metadata": {"finalizers": [finalizer::DELETE_PROTECTION]}})).await;
    let results = json!([{"request": "gpu", "driver": "gpu.example.com", "pool": "p", "device": "gpu-0"}]);
    let consumer = json!({"resource": "pods", "name": pod.metadata.name, "uid": pod.metadata.uid});
    let status = json!({"status": {"allocation": {"devices": {"results": results}}, "reservedFor": [consumer]}});
    let api = cluster.api::<ResourceClaim>("ns");
    api.patch_status(claim, &PatchParams::default(), &Patch::Merge(status)).await.expect("allocation");
}

async fn told(cluster: &Cluster, pod: &str) -> String {
    let ask = || async {
        let status = cluster.api::<Pod>("ns").get(pod).await.ok()?.status?;
        status.resource_claim_statuses?.first()?.resource_claim_name.clone()
    };
    cluster.until("name of a claim", ask).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_made_from_a_template_and_goes_when_its_pod_is_done() {
    let cluster = Cluster::start(0).await;
    cluster.namespace("ns").await;
    let made_for = pod(&cluster, "p", json!({"name": "gpu", "resourceClaimTemplateName": "t"})).await;
    events(&cluster, &["FailedResourceClaimCreation"]).await;
    let template = json!({"metadata": {"name": "t"}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": spec()}});
    create::<ResourceClaimTemplate>(&cluster, template).await;
    let name = told(&cluster, "p").await;
    let claims = cluster.api::<ResourceClaim>("ns");
    let claim = claims.get(&name).await.expect("claim");
    assert!(name.starts_with("p-gpu-") && name.len() == "p-gpu-".len() + 5, "{name}");
    assert_eq!(object::annotation(&claim.metadata, "resource.kubernetes.io/pod-claim-name"), Some("gpu"));
    assert_eq!(object::label(&claim.metadata, "a"), Some("b"));
    let owner = object::controller_of(&claim.metadata).expect("an owner");
    assert_eq!((&*owner.kind, Some(&owner.uid)), ("Pod", made_for.metadata.uid.as_ref()));
    // A claim that somebody deletes is made again.
    claims.delete(&name, &DeleteParams::default()).await.expect("deletion");
    let again = || async { Some(told(&cluster, "p").await).filter(|again| *again != name) };
    let name = cluster.until("another claim", again).await;
    allocate(&cluster, &name, &made_for).await;
    let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    cluster.api::<Pod>("ns").patch_status("p", &PatchParams::default(), &ended).await.expect("phase");
    let gone = || async { claims.get_opt(&name).await.ok()?.is_none().then_some(()) };
    cluster.until("deletion of the claim", gone).await;
    assert_eq!(claims.list(&Default::default()).await.expect("list").items.len(), 0, "none was made too many");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_claim_is_free_after_its_last_pod() {
    let cluster = Cluster::start(0).await;
    cluster.namespace("ns").await;
    create::<ResourceClaim>(&cluster, json!({"metadata": {"name": "shared"}, "spec": spec()})).await;
    let user = pod(&cluster, "p", json!({"name": "gpu", "resourceClaimName": "shared"})).await;
    allocate(&cluster, "shared", &user).await;
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    cluster.api::<Pod>("ns").delete("p", &now).await.expect("deletion");
    let freed = || async {
        let claim = cluster.api::<ResourceClaim>("ns").get("shared").await.ok()?;
        let status = claim.status.unwrap_or_default();
        let free = status.allocation.is_none() && status.reserved_for.is_none();
        (free && claim.metadata.finalizers.is_none()).then_some(())
    };
    cluster.until("a free claim", freed).await;
}
