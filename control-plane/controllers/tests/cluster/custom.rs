//! The garbage collector follows kinds that are defined while it runs.

use crate::harness::Cluster;
use serde_json::json;
use xebec_client::kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use xebec_client::kube::{Api, api::PostParams};
use xebec_client::{DeleteParams, is_not_found};
use xebec_types::core::ConfigMap;
use xebec_types::object;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_kind_owns_is_collected_at_once() {
    let cluster = Cluster::start(0).await;
    cluster.namespace("ns").await;
    let definitions = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
        "customresourcedefinitions",
    );
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "shelves.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "shelves", "kind": "Shelf"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    let client = cluster.client.clone();
    let object = serde_json::from_value(definition).expect("an object");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &definitions);
    api.create(&PostParams::default(), &object).await.expect("define the kind");

    let shelves = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", "Shelf"), "shelves");
    let shelves: Api<DynamicObject> = Api::namespaced_with(client, "ns", &shelves);
    let shelf = json!({"apiVersion": "example.com/v1", "kind": "Shelf", "metadata": {"name": "s"}});
    let shelf: DynamicObject = serde_json::from_value(shelf).expect("an object");
    let created = || async { shelves.create(&PostParams::default(), &shelf).await.ok() };
    let owner = cluster.until("the kind is served", created).await;
    let owned = json!({"metadata": {"name": "owned", "ownerReferences": [
        {"apiVersion": "example.com/v1", "kind": "Shelf", "name": "s", "uid": object::uid(&owner.metadata)},
    ]}});
    let owned: ConfigMap = serde_json::from_value(owned).expect("an object");
    let configs = cluster.api::<ConfigMap>("ns");
    configs.create(&PostParams::default(), &owned).await.expect("create what is owned");
    shelves.delete("s", &DeleteParams::default()).await.expect("delete the owner");
    let collected = || async { configs.get("owned").await.err().filter(is_not_found) };
    cluster.until("what was owned is collected", collected).await;
}
