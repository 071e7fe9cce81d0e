//! Deletes what lost its owners, as upstream's `garbage-collector` controller: background,
//! foreground and orphan deletion over every served kind, from watches of metadata alone.

mod collect;
mod graph;
mod monitor;
mod step;

use crate::Context;
use crate::discovery::{self, Served};
use graph::{Graph, Kind, Uid, Work};
use monitor::Monitors;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
pub use step::{Action, OwnerState, step};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use xebec_client::retry::Backoff;
use xebec_client::{Client, EventRecorder, Outcome, Workqueue, chain};

const WORKERS: usize = 20;
/// How often kinds that came or went are looked for, if no definition says so before.
const REDISCOVER: Duration = Duration::from_secs(60);
/// Definitions come in groups, and each is written several times until it is served.
const SETTLE: Duration = Duration::from_millis(50);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let collector = Arc::new(Collector {
        recorder: context.recorder("garbage-collector-controller"),
        client: context.client,
        graph: Mutex::default(),
        kinds: RwLock::default(),
        kinds_changed: Notify::new(),
        queue: Workqueue::new(),
    });
    let monitors = watch_kinds(Arc::clone(&collector));
    let sync = |work: Work| {
        let collector = Arc::clone(&collector);
        async move { collector.reconcile(work).await }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = monitors => {}
        () = collector.queue.run(WORKERS, &stop, sync) => {}
    }
}

/// Kinds by group and kind, as owner references name them.
type Kinds = HashMap<(String, String), Served>;

struct Collector {
    client: Client,
    recorder: EventRecorder,
    graph: Mutex<Graph>,
    kinds: RwLock<Kinds>,
    /// A CustomResourceDefinition came, changed or went.
    kinds_changed: Notify,
    queue: Workqueue<Work>,
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kind(&self, kind: &Kind) -> Option<Served> {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&(kind.group.to_string(), kind.name.to_string())).cloned()
    }

    fn enqueue(&self, work: Vec<Work>) {
        work.into_iter().for_each(|work| self.queue.add(work));
    }

    fn gone(&self, uid: &Uid) {
        let work = self.graph().remove(uid);
        self.enqueue(work);
    }

    async fn reconcile(&self, work: Work) -> Outcome {
        let result = match &work {
            Work::Delete(uid) => self.attempt_to_delete(uid).await,
            Work::Orphan(uid) => self.orphan(uid).await,
        };
        match result {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::debug!(?work, error = chain(&error), "not collected");
                Outcome::Retry
            }
        }
    }
}

/// Keeps one metadata watch for each kind that can be collected.
async fn watch_kinds(collector: Arc<Collector>) {
    let mut monitors = Monitors::default();
    let mut backoff = Backoff::reconnect();
    loop {
        let wait = match discovery::served(&collector.client).await {
            Ok(served) => {
                backoff.reset();
                let by_kind = |s: &Served| ((s.api.group.clone(), s.api.kind.clone()), s.clone());
                let kinds: Kinds = served.iter().map(by_kind).collect();
                *collector.kinds.write().unwrap_or_else(PoisonError::into_inner) = kinds;
                monitors.follow(&collector, served.into_iter().filter(is_collected).collect());
                REDISCOVER
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), "served kinds are not known");
                backoff.next_delay()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = collector.kinds_changed.notified() => tokio::time::sleep(SETTLE).await,
        }
    }
}

/// Events own nothing and are owned by nothing, and there are many.
fn is_collected(kind: &Served) -> bool {
    ["list", "watch", "delete"].iter().all(|verb| kind.allows(verb)) && kind.api.plural != "events"
}
