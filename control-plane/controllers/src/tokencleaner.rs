//! Deletes bootstrap tokens that have expired, as upstream's `tokencleaner` controller.

use crate::Context;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use xebec_client::informer::Selection;
use xebec_client::kube::api::Preconditions;
use xebec_client::{Api, DeleteParams, Informer, Key, Outcome, Workqueue, chain, is_conflict, is_not_found};
use xebec_types::core::Secret;
use xebec_types::namespace;
use xebec_types::time::{self, Timestamp};

const TYPE: &str = "bootstrap.kubernetes.io/token";
const EXPIRATION: &str = "expiration";

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let fields = format!("metadata.namespace={},type={TYPE}", namespace::KUBE_SYSTEM);
    let secrets: Arc<Informer<Secret>> = context.informers.selected(&Selection::fields(&fields));
    let queue: Workqueue<Key> = Workqueue::new();
    let sink = queue.clone();
    secrets.on_change(move |change| sink.add(change.key()));
    secrets.synced().await;
    let sync = |key: Key| {
        let (secrets, context) = (&secrets, &context);
        async move {
            let Some(secret) = secrets.get_key(&key) else { return Outcome::Done };
            match step(&secret, context.now()) {
                None => return Outcome::Done,
                Some(wait) if !wait.is_zero() => return Outcome::After(wait),
                Some(_) => {}
            }
            let api: Api<Secret> = Api::namespaced(context.client.clone(), &key.namespace);
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: secret.metadata.uid.clone(),
                    resource_version: secret.metadata.resource_version.clone(),
                }),
                ..DeleteParams::default()
            };
            match api.delete(&key.name, &params).await {
                Err(error) if !is_not_found(&error) && !is_conflict(&error) => {
                    tracing::warn!(secret = %key, error = chain(&error), "token not deleted");
                    Outcome::Retry
                }
                _ => Outcome::Done,
            }
        }
    };
    queue.run(1, &stop, sync).await;
}

/// How long the token lasts; `None` for ever. A time that cannot be read lets nobody in, so the
/// token can go.
#[must_use]
pub fn step(secret: &Secret, now: Timestamp) -> Option<Duration> {
    if secret.type_.as_deref() != Some(TYPE) {
        return None;
    }
    let expiration = secret.data.as_ref()?.get(EXPIRATION)?;
    let expiration = std::str::from_utf8(&expiration.0).ok().and_then(|e| e.trim().parse().ok());
    Some(expiration.map_or(Duration::ZERO, |at: Timestamp| time::until(at, now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_types::ByteString;

    #[track_caller]
    fn check(expiration: Option<&str>, expected: Option<u64>) {
        let data = expiration.map(|e| (EXPIRATION.to_string(), ByteString(e.into())));
        let secret = Secret { type_: Some(TYPE.into()), data: Some(data.into_iter().collect()), ..Secret::default() };
        let wait = step(&secret, Timestamp::from_second(60).expect("in range"));
        assert_eq!(wait, expected.map(Duration::from_secs), "{expiration:?}");
    }

    #[test]
    fn a_token_lasts_until_it_expires() {
        check(None, None);
        check(Some("1970-01-01T00:02:00Z"), Some(60));
        check(Some("1970-01-01T00:00:30Z"), Some(0));
        check(Some("soon"), Some(0));
    }
}
