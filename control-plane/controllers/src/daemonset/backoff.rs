//! How long a node's failed daemon waits to be replaced: client-go's `flowcontrol.Backoff` with
//! upstream's `failedPodsBackoff` limits.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// By the set's uid and the node's name.
#[derive(Default)]
pub(super) struct Backoffs(Mutex<HashMap<(String, String), Entry>>);

struct Entry {
    wait: Duration,
    since: Instant,
}

impl Backoffs {
    /// How long to wait before the next replacement. None: it is due now, and the next wait grows.
    pub(super) fn wait(&self, set: &str, node: &str) -> Option<Duration> {
        let now = Instant::now();
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| now.duration_since(entry.since) < 2 * LONGEST);
        let key = (set.to_string(), node.to_string());
        let Some(entry) = entries.get_mut(&key) else {
            entries.insert(key, Entry { wait: FIRST, since: now });
            return None;
        };
        let left = entry.wait.saturating_sub(now.duration_since(entry.since));
        if !left.is_zero() {
            return Some(left);
        }
        *entry = Entry { wait: (entry.wait * 2).min(LONGEST), since: now };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_failure_on_a_node_waits_twice_as_long() {
        let backoffs = Backoffs::default();
        assert_eq!(backoffs.wait("ds", "n1"), None);
        assert_eq!(backoffs.wait("ds", "n1"), Some(FIRST));
        assert_eq!(backoffs.wait("ds", "n2"), None, "another node has its own");
        tokio::time::advance(FIRST).await;
        assert_eq!(backoffs.wait("ds", "n1"), None);
        assert_eq!(backoffs.wait("ds", "n1"), Some(2 * FIRST));
        tokio::time::advance(2 * LONGEST).await;
        assert_eq!(backoffs.wait("ds", "n1"), None);
        assert_eq!(backoffs.wait("ds", "n1"), Some(FIRST), "a quiet node is forgiven");
    }
}
