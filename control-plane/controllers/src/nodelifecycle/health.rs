//! When each node was last heard of, by this machine's clock.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use xebec_types::MicroTime;
use xebec_types::Time;
use xebec_types::coordination::Lease;
use xebec_types::core::Node;

#[derive(Default)]
pub(super) struct Health(Mutex<HashMap<String, Heard>>);

struct Heard {
    at: Instant,
    renewal: Option<MicroTime>,
    heartbeat: Option<Time>,
    /// Whether it has been found silent since.
    was_silent: bool,
}

impl Health {
    /// A lease event. Answers whether the node speaks again after it was found silent.
    pub(super) fn renewed(&self, node: &str, lease: &Lease, now: Instant) -> bool {
        let renewal = lease.spec.as_ref().and_then(|s| s.renew_time.clone());
        let mut all = self.lock();
        let heard = all.entry(node.into()).or_insert_with(|| Heard::first(now));
        if heard.renewal == renewal {
            return false;
        }
        heard.renewal = renewal;
        heard.at = now;
        std::mem::take(&mut heard.was_silent)
    }

    /// A node event; a new heartbeat in its Ready condition counts like a renewal.
    pub(super) fn posted(&self, name: &str, node: &Node, now: Instant) {
        let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let ready = conditions.into_iter().find(|c| c.type_ == "Ready");
        let heartbeat = ready.and_then(|c| c.last_heartbeat_time.clone());
        let mut all = self.lock();
        let heard = all.entry(name.into()).or_insert_with(|| Heard::first(now));
        if heard.heartbeat != heartbeat {
            heard.heartbeat = heartbeat;
            heard.at = now;
            heard.was_silent = false;
        }
    }

    /// Nodes that were never heard of are given the whole grace period from now.
    pub(super) fn silent_for(&self, node: &str, now: Instant) -> Duration {
        let mut all = self.lock();
        let heard = all.entry(node.into()).or_insert_with(|| Heard::first(now));
        now.saturating_duration_since(heard.at)
    }

    pub(super) fn found_silent(&self, node: &str) {
        if let Some(heard) = self.lock().get_mut(node) {
            heard.was_silent = true;
        }
    }

    pub(super) fn forget(&self, node: &str) {
        self.lock().remove(node);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn first(now: Instant) -> Self {
        Self { at: now, renewal: None, heartbeat: None, was_silent: false }
    }
}
