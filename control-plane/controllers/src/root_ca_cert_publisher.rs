//! Publishes the cluster CA certificate as `kube-root-ca.crt` in every namespace, as upstream's
//! `root-ca-certificate-publisher` controller.

use crate::{Context, control, serviceaccount};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use xebec_client::informer::Selection;
use xebec_client::{Api, Error, Informer, Key, Outcome, PostParams, Workqueue};
use xebec_types::core::{ConfigMap, Namespace};
use xebec_types::{ObjectMeta, annotation};

const NAME: &str = "kube-root-ca.crt";
const DATA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "The CA certificate with which a pod verifies the API server inside the cluster.";

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    if context.config.ca_pem.is_empty() {
        return stop.cancelled().await;
    }
    let namespaces: Arc<Informer<Namespace>> = context.informers.informer();
    // Other ConfigMaps are none of our business, nor of our memory.
    let selection = Selection::fields(&format!("metadata.name={NAME}"));
    let maps: Arc<Informer<ConfigMap>> = context.informers.selected(&selection);
    let queue: Workqueue<Key> = Workqueue::new();
    let sink = queue.clone();
    namespaces.on_change(move |change| sink.add(change.key()));
    let sink = queue.clone();
    maps.on_change(move |change| sink.add(Key::new("", &change.key().namespace)));
    tokio::join!(namespaces.synced(), maps.synced());
    let sync = |key: Key| {
        let (namespaces, maps, context) = (&namespaces, &maps, &context);
        async move {
            let namespace = namespaces.get_key(&key);
            let map = maps.get(&key.name, NAME);
            let ca = &context.config.ca_pem;
            let Some(desired) = step(namespace.as_deref(), map.as_deref(), ca) else {
                return Outcome::Done;
            };
            control::outcome(
                "namespace",
                &key,
                write(context, &key.name, &desired, map.is_some()).await.map(|()| Outcome::Done),
            )
        }
    };
    queue.run(2, &stop, sync).await;
}

/// What to write, if anything.
#[must_use]
pub fn step(namespace: Option<&Namespace>, known: Option<&ConfigMap>, ca_pem: &str) -> Option<ConfigMap> {
    if !namespace.is_some_and(serviceaccount::is_active) {
        return None;
    }
    let data = BTreeMap::from([(DATA_KEY.to_string(), ca_pem.to_string())]);
    if known.is_some_and(|k| k.data.as_ref() == Some(&data) && k.binary_data.is_none()) {
        return None;
    }
    let described = (annotation::DESCRIPTION.to_string(), DESCRIPTION.to_string());
    let mut desired = known.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            annotations: Some([described].into()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    desired.data = Some(data);
    desired.binary_data = None;
    Some(desired)
}

async fn write(context: &Context, namespace: &str, map: &ConfigMap, exists: bool) -> Result<(), Error> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let params = PostParams::default();
    serviceaccount::settled(if exists { api.replace(NAME, &params, map).await } else { api.create(&params, map).await })
}
