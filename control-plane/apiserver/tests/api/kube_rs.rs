//! An operator as people write them with kube-rs, over TLS with the administrator's kubeconfig: a derived custom resource with its schema,
//! a reflector, and a controller that owns objects, writes status and cleans up behind a finalizer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::{WatchStreamExt, conditions, reflector, wait::await_condition, watcher};
use kube::{Client, CustomResource, CustomResourceExt, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::harness::Cluster;

const MANAGER: &str = "gardener";
const FINALIZER: &str = "example.com/weeds";

#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug)]
#[kube(group = "example.com", version = "v1", kind = "Garden", namespaced, status = "GardenStatus", shortname = "gd")]
#[kube(printcolumn = r#"{"name": "Beds", "type": "integer", "jsonPath": ".spec.beds"}"#)]
struct GardenSpec {
    #[schemars(range(min = 1))]
    beds: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
struct GardenStatus {
    dug: i64,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("talk to the server")]
    Api(#[from] kube::Error),
    #[error("finalize")]
    Finalizer(#[source] Box<kube::runtime::finalizer::Error<Self>>),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_works_unchanged() {
    let cluster = Cluster::start().await;
    let client = client(&cluster).await;
    define(&client).await;
    let gardens: Api<Garden> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let operator = tokio::spawn(operate(client.clone()));
    let (store, writer) = reflector::store();
    let stream = watcher(gardens.clone(), watcher::Config::default().streaming_lists());
    let reflected = tokio::spawn(reflector(writer, stream).default_backoff().for_each(|_| async {}));

    let spec = GardenSpec { beds: 2, label: None };
    gardens.create(&PostParams::default(), &Garden::new("kitchen", spec)).await.expect("create");
    let refused =
        gardens.create(&PostParams::default(), &Garden::new("none", GardenSpec { beds: 0, label: None })).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 422), "{refused:?}");
    until("dug", || dug(&gardens, 2)).await;
    until("in the reflector", || async {
        store.state().iter().any(|garden| garden.status == Some(GardenStatus { dug: 2 })).then_some(())
    })
    .await;
    // What the operator owns comes back, and follows the spec.
    let first = maps.get("kitchen").await.expect("the operator's object");
    assert_eq!(first.owner_references()[0].kind, "Garden");
    maps.delete("kitchen", &DeleteParams::default()).await.expect("delete");
    until("there again", || async {
        maps.get_opt("kitchen").await.ok()??.uid().filter(|uid| Some(uid) != first.uid().as_ref())
    })
    .await;
    let apply = json!({"apiVersion": "example.com/v1", "kind": "Garden", "spec": {"beds": 5}});
    let own = PatchParams::apply("neighbour");
    let conflict = gardens.patch("kitchen", &own, &Patch::Apply(&apply)).await;
    assert!(matches!(&conflict, Err(kube::Error::Api(status)) if status.code == 409), "{conflict:?}");
    gardens.patch("kitchen", &own.force(), &Patch::Apply(&apply)).await.expect("apply by force");
    until("dug again", || dug(&gardens, 5)).await;
    assert_eq!(maps.get("kitchen").await.expect("get").data.expect("data")["beds"], "5");

    let listed = gardens.list_metadata(&ListParams::default().labels("!none")).await.expect("list");
    assert_eq!(listed.items[0].finalizers(), [FINALIZER]);
    gardens.delete("kitchen", &DeleteParams::default()).await.expect("delete");
    until("cleaned up", || async { gardens.get_opt("kitchen").await.ok()?.is_none().then_some(()) }).await;
    // The finalizer held the garden until this was gone.
    assert!(maps.get_opt("kitchen").await.expect("get").is_none());
    until("out of the reflector", || async { store.state().is_empty().then_some(()) }).await;
    operator.abort();
    reflected.abort();
}

async fn client(cluster: &Cluster) -> Client {
    // Another test of this process may have been first.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let url = format!("https://localhost:{}", cluster.server.addresses()[0].port());
    let kubeconfig = Kubeconfig::from_yaml(&cluster.pki.admin_kubeconfig(&url).expect("a kubeconfig")).expect("YAML");
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a config");
    Client::try_from(config).expect("a client")
}

async fn define(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = Garden::crd_name();
    let apply = PatchParams::apply(MANAGER).force();
    definitions.patch(name, &apply, &Patch::Apply(Garden::crd())).await.expect("the derived definition");
    let established = await_condition(definitions, name, conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(20), established).await.expect("in time").expect("established");
}

async fn operate(client: Client) {
    let (gardens, maps) = (Api::<Garden>::all(client.clone()), Api::<ConfigMap>::all(client.clone()));
    let again = |_: Arc<Garden>, _: &Fault, _: Arc<Client>| Action::requeue(Duration::from_millis(50));
    let controller = Controller::new(gardens, watcher::Config::default()).owns(maps, watcher::Config::default());
    // What went wrong is tried again; a test that waits in vain shows it.
    let reconciled = controller.run(reconcile, again, Arc::new(client));
    let tell = async |outcome: Result<_, _>| {
        if let Err(fault) = outcome {
            eprintln!("{fault:?}")
        }
    };
    reconciled.for_each(tell).await;
}

async fn reconcile(garden: Arc<Garden>, client: Arc<Client>) -> Result<Action, Fault> {
    let gardens: Api<Garden> = Api::namespaced((*client).clone(), &garden.namespace().unwrap_or_default());
    let maps: Api<ConfigMap> = Api::namespaced((*client).clone(), &garden.namespace().unwrap_or_default());
    let work = async |event| match event {
        Event::Apply(garden) => dig(&gardens, &maps, &garden).await,
        Event::Cleanup(garden) => {
            maps.delete(&garden.name_any(), &DeleteParams::default()).await?;
            Ok(Action::await_change())
        }
    };
    let done = finalizer(&gardens, FINALIZER, Arc::clone(&garden), work).await;
    done.map_err(|fault| Fault::Finalizer(Box::new(fault)))
}

async fn dig(gardens: &Api<Garden>, maps: &Api<ConfigMap>, garden: &Garden) -> Result<Action, Fault> {
    let name = garden.name_any();
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            owner_references: Some(garden.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("beds".to_owned(), garden.spec.beds.to_string())])),
        ..ConfigMap::default()
    };
    let apply = PatchParams::apply(MANAGER).force();
    maps.patch(&name, &apply, &Patch::Apply(&map)).await?;
    let status = json!({"apiVersion": "example.com/v1", "kind": "Garden", "status": {"dug": garden.spec.beds}});
    gardens.patch_status(&name, &apply, &Patch::Apply(&status)).await?;
    Ok(Action::await_change())
}

async fn dug(gardens: &Api<Garden>, beds: i64) -> Option<()> {
    let garden = gardens.get("kitchen").await.ok()?;
    (garden.status?.dug == beds).then_some(())
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap_or_else(|_| panic!("{what}: not in 20 s"))
}
