//! Claims from their template to a bound pod, and on to the next pod.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xebec_client::kube::core::{ClusterResourceScope, NamespaceResourceScope};
use xebec_client::{Api, DeleteParams, PostParams, Resource};
use xebec_types::core::Pod;
use xebec_types::device::{self, DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice};
use xebec_types::{condition, finalizer, object, pod as pods};

use super::Cluster;

async fn create<K: Serialize + DeserializeOwned + Clone + std::fmt::Debug>(api: Api<K>, object: Value) -> K {
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

fn all<K: Resource<DynamicType = (), Scope = ClusterResourceScope>>(cluster: &Cluster) -> Api<K> {
    Api::all(cluster.client.clone())
}

fn namespaced<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(cluster: &Cluster) -> Api<K> {
    Api::namespaced(cluster.client.clone(), "default")
}

/// Nodes `n1` and `n2`, the second with devices, and a template for one of them.
async fn start(devices: usize) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.node("n1", "4").await;
    cluster.node("n2", "4").await;
    let selectors = json!([{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]);
    create::<DeviceClass>(all(&cluster), json!({"metadata": {"name": "gpu"}, "spec": {"selectors": selectors}})).await;
    let devices: Vec<Value> = (0..devices).map(|n| json!({"name": format!("gpu-{n}")})).collect();
    let pool = json!({"name": "n2", "generation": 1, "resourceSliceCount": 1});
    let spec = json!({"driver": "gpu.example.com", "nodeName": "n2", "pool": pool, "devices": devices});
    create::<ResourceSlice>(all(&cluster), json!({"metadata": {"name": "n2"}, "spec": spec})).await;
    let spec = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}});
    let template = json!({"metadata": {"name": "t"}, "spec": {"spec": spec}});
    create::<ResourceClaimTemplate>(namespaced(&cluster), template).await;
    cluster
}

fn from_template() -> Value {
    json!({"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]})
}

/// The claim that was made for the pod.
async fn claim_of(cluster: &Cluster, pod: &str) -> ResourceClaim {
    let pod = cluster.pods.get(pod).await.unwrap();
    let name = device::claim_name(&pod, &device::pod_claims(&pod)[0]).unwrap();
    namespaced::<ResourceClaim>(cluster).get(name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_goes_from_one_pod_to_the_next() {
    let cluster = start(1).await;
    cluster.pod("first", "1", from_template()).await;
    assert_eq!(cluster.bound("first").await, "n2");
    let (pod, claim) = (cluster.pods.get("first").await.unwrap(), claim_of(&cluster, "first").await);
    assert_eq!(device::results(&claim)[0].device, "gpu-0");
    assert_eq!(device::reserved_for(&claim), [device::consumer(&pod)]);
    assert!(object::has_finalizer(&claim.metadata, finalizer::DELETE_PROTECTION));
    cluster.pod("second", "1", from_template()).await;
    const NONE: &str = "0/2 nodes are available: 2 cannot allocate all claims.";
    let says = |pod: &Pod| {
        pods::find_condition(pod, condition::POD_SCHEDULED).is_some_and(|c| c.message.as_deref() == Some(NONE))
    };
    cluster.until("second", "the condition", says).await;
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    cluster.pods.delete("first", &now).await.unwrap();
    assert_eq!(cluster.bound("second").await, "n2");
    assert_eq!(device::results(&claim_of(&cluster, "second").await)[0].device, "gpu-0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_one_moment_get_different_devices() {
    let cluster = start(8).await;
    for n in 0..8 {
        cluster.pod(&format!("p{n}"), "100m", from_template()).await;
    }
    let mut devices = Vec::new();
    for n in 0..8 {
        assert_eq!(cluster.bound(&format!("p{n}")).await, "n2");
        devices.push(device::results(&claim_of(&cluster, &format!("p{n}")).await)[0].device.clone());
    }
    devices.sort();
    devices.dedup();
    assert_eq!(devices.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_share_a_claim_by_name() {
    let cluster = start(1).await;
    for name in ["a", "b"] {
        cluster.pod(name, "100m", json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "shared"}]})).await;
    }
    const NONE: &str = "0/2 nodes are available: resourceclaim \"shared\" not found.";
    let says = |pod: &Pod| {
        pods::find_condition(pod, condition::POD_SCHEDULED).is_some_and(|c| c.message.as_deref() == Some(NONE))
    };
    cluster.until("a", "the condition", says).await;
    let spec = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}});
    let claims = namespaced::<ResourceClaim>(&cluster);
    create(claims.clone(), json!({"metadata": {"name": "shared"}, "spec": spec})).await;
    for name in ["a", "b"] {
        assert_eq!(cluster.bound(name).await, "n2");
    }
    assert_eq!(device::reserved_for(&claims.get("shared").await.unwrap()).len(), 2);
}
