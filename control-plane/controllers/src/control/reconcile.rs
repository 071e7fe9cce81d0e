//! The loop that a controller with a queue of keys runs.

use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use xebec_client::{Error, Key, Outcome, Workqueue, chain, is_conflict, is_not_found};

/// A controller whose work is one object at a time.
pub(crate) trait Reconcile: Sync {
    /// What the keys name, in logs.
    const KIND: &'static str;
    /// Keys worked on at the same time.
    const WORKERS: usize;

    fn queue(&self) -> &Workqueue<Key>;

    /// Brings what one key names nearer to what it should be. An error is tried again after a
    /// back-off.
    fn sync(&self, key: &Key) -> impl Future<Output = Result<Outcome, Error>> + Send;
}

/// Works until `stop`. The caller has waited for the informers.
pub(crate) async fn run<R: Reconcile>(controller: &R, stop: &CancellationToken) {
    let sync = |key: Key| async move { outcome(R::KIND, &key, controller.sync(&key).await) };
    controller.queue().run(R::WORKERS, stop, sync).await;
}

/// An error is tried again. That an object changed or went meanwhile is the course of things, and nothing to warn of.
pub(crate) fn outcome(kind: &str, key: &Key, result: Result<Outcome, Error>) -> Outcome {
    result.unwrap_or_else(|error| {
        if is_conflict(&error) || is_not_found(&error) {
            tracing::debug!(kind, %key, error = chain(&error), "sync failed");
        } else {
            tracing::warn!(kind, %key, error = chain(&error), "sync failed");
        }
        Outcome::Retry
    })
}

/// Once more after `wait`, if there is anything to wait for.
pub(crate) fn after(wait: Option<Duration>) -> Outcome {
    wait.map_or(Outcome::Done, Outcome::After)
}
