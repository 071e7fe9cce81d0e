//! Makes the `default` ServiceAccount of every namespace, as upstream's `serviceaccount` controller.

use crate::{Context, control};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use xebec_client::{Api, Error, Informer, Key, Outcome, PostParams, Workqueue, is_already_exists, is_not_found};
use xebec_types::ObjectMeta;
use xebec_types::core::{Namespace, ServiceAccount};

const DEFAULT: &str = "default";

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let namespaces: Arc<Informer<Namespace>> = context.informers.informer();
    let accounts: Arc<Informer<ServiceAccount>> = context.informers.informer();
    let queue: Workqueue<Key> = Workqueue::new();
    let sink = queue.clone();
    namespaces.on_change(move |change| sink.add(change.key()));
    let sink = queue.clone();
    accounts.on_change(move |change| {
        let key = change.key();
        if change.is_deletion() && &*key.name == DEFAULT {
            sink.add(Key::new("", &key.namespace));
        }
    });
    tokio::join!(namespaces.synced(), accounts.synced());
    let sync = |key: Key| {
        let (namespaces, accounts, context) = (&namespaces, &accounts, &context);
        async move {
            let namespace = namespaces.get_key(&key);
            let account = accounts.get(&key.name, DEFAULT);
            if !step(namespace.as_deref(), account.as_deref()) {
                return Outcome::Done;
            }
            control::outcome("namespace", &key, create(context, &key.name).await.map(|()| Outcome::Done))
        }
    };
    queue.run(2, &stop, sync).await;
}

/// Whether the account has to be made.
#[must_use]
pub fn step(namespace: Option<&Namespace>, account: Option<&ServiceAccount>) -> bool {
    namespace.is_some_and(is_active) && account.is_none()
}

/// Nothing is made in a namespace that is going away.
pub(crate) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
    phase != Some("Terminating") && namespace.metadata.deletion_timestamp.is_none()
}

async fn create(context: &Context, namespace: &str) -> Result<(), Error> {
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some(DEFAULT.into()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
    settled(api.create(&PostParams::default(), &account).await)
}

/// Somebody else made it, or its namespace is gone or going: there is nothing to do.
pub(crate) fn settled<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if is_already_exists(&error) || is_not_found(&error) => Ok(()),
        Err(Error::Api(status)) if crate::control::pods::is_terminating_namespace(&status) => Ok(()),
        Err(error) => Err(error),
    }
}
