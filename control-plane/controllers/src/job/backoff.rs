//! When a failed pod may be replaced: 10 s, doubled by every failure in a row, at most 10 min.
//! As upstream's `backoff_utils.go`.

use crate::job::view::finished_at;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use xebec_types::core::Pod;
use xebec_types::time::{self, Timestamp};

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// Failures since the last success.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Record {
    failures: u32,
    last: Option<Timestamp>,
}

impl Record {
    /// With pods that ended since.
    pub(super) fn with(self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let success = succeeded.iter().filter_map(|pod| finished_at(pod)).max();
        let mut record = if success.is_some() { Self::default() } else { self };
        let after = |at: &Timestamp| success.is_none_or(|success| *at > success);
        for at in failed.iter().filter_map(|pod| finished_at(pod)).filter(after) {
            record.failures = record.failures.saturating_add(1);
            record.last = record.last.max(Some(at));
        }
        record
    }

    /// How long until the next pod may be made.
    pub(super) fn left(&self, now: Timestamp) -> Option<Duration> {
        left(self.failures, self.last?, now)
    }
}

/// How long after the last of so many failures in a row.
pub(super) fn left(failures: u32, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let doubled = failures.checked_sub(1)?;
    let wait = 1_u32.checked_shl(doubled).map_or(LONGEST, |factor| FIRST.saturating_mul(factor).min(LONGEST));
    Some(time::until(time::after(last, wait), now)).filter(|left| !left.is_zero())
}

/// The records of all Jobs, by uid. They are lost with the process, as upstream's are.
#[derive(Default)]
pub(super) struct Records(Mutex<HashMap<String, Record>>);

impl Records {
    pub(super) fn get(&self, job: &str) -> Record {
        self.lock().get(job).copied().unwrap_or_default()
    }

    pub(super) fn set(&self, job: &str, record: Record) {
        if record != Record::default() {
            self.lock().insert(job.into(), record);
        } else {
            self.forget(job);
        }
    }

    pub(super) fn forget(&self, job: &str) {
        self.lock().remove(job);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(failures: u32, ago: i64, expected: Option<u64>) {
        let at = |second| Timestamp::from_second(second).expect("in range");
        assert_eq!(left(failures, at(1000 - ago), at(1000)), expected.map(Duration::from_secs), "{failures} {ago}");
    }

    #[test]
    fn each_failure_doubles_the_wait() {
        check(0, 0, None);
        check(1, 0, Some(10));
        check(1, 4, Some(6));
        check(1, 10, None);
        check(2, 0, Some(20));
        check(6, 0, Some(320));
        check(7, 0, Some(600));
        check(90, 0, Some(600));
    }
}
