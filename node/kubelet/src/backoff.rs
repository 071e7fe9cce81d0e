//! Crash-loop back-off: client-go's `flowcontrol.Backoff`, with time as an argument.

use std::collections::HashMap;
use std::time::Duration;

use xebec_types::time::{self, Timestamp};

pub const INITIAL: Duration = Duration::from_secs(10);
pub const MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub struct Backoff {
    entries: HashMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: Duration,
    last_update: Timestamp,
}

impl Backoff {
    /// How much of the back-off is left for something that failed at `failed_at`; `None` when it may be tried.
    pub fn left(&self, key: &str, failed_at: Timestamp, now: Timestamp) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        if expired(failed_at, entry) {
            return None;
        }
        let left = entry.delay.checked_sub(time::since(failed_at, now))?;
        (!left.is_zero()).then_some(left)
    }

    /// Whether the pause after the last note still lasts, whenever the failure was.
    pub fn pausing(&self, key: &str, now: Timestamp) -> bool {
        self.entries.get(key).is_some_and(|entry| time::since(entry.last_update, now) < entry.delay)
    }

    /// Notes a try after a failure at `failed_at`: the next back-off is twice as long.
    pub fn next(&mut self, key: &str, failed_at: Timestamp, now: Timestamp) {
        let known = self.entries.get(key).filter(|entry| !expired(failed_at, entry));
        let delay = known.map_or(INITIAL, |entry| (entry.delay * 2).min(MAX));
        self.entries.insert(key.to_owned(), Entry { delay, last_update: now });
    }

    pub fn delay(&self, key: &str) -> Duration {
        self.entries.get(key).map_or(INITIAL, |entry| entry.delay)
    }

    pub fn forget(&mut self, prefix: &str) {
        self.entries.retain(|key, _| !key.starts_with(prefix));
    }
}

/// Something that ran for twice the longest back-off starts afresh.
fn expired(failed_at: Timestamp, entry: &Entry) -> bool {
    time::since(entry.last_update, failed_at) > MAX * 2
}

#[cfg(test)]
mod tests;
