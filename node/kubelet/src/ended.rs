//! Pods that the node itself ends: for good, with a reason, while their objects stay.

use std::time::Duration;

use xebec_types::core::Pod;
use xebec_types::time::Timestamp;

use crate::pod;

/// Why a pod has failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub reason: &'static str,
    pub message: String,
    /// By the kubelet's choice: the condition `DisruptionTarget` says so.
    pub evicted: bool,
}

impl Ended {
    pub fn deadline_exceeded() -> Self {
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        Self { reason: "DeadlineExceeded", message, evicted: false }
    }
}

/// What is left of `activeDeadlineSeconds`, counted from the pod's start here.
pub fn deadline_left(pod: &Pod, start: Timestamp, now: Timestamp) -> Option<Duration> {
    let seconds = u64::try_from(pod::spec(pod).active_deadline_seconds?).ok()?;
    let active = Duration::try_from(now.duration_since(start)).unwrap_or_default();
    Some(Duration::from_secs(seconds).saturating_sub(active))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(deadline: Option<i64>, active_seconds: i64, expected: Option<u64>) {
        let pod =
            serde_json::from_value(json!({"spec": {"activeDeadlineSeconds": deadline, "containers": []}})).unwrap();
        let start = Timestamp::from_second(1_000).unwrap();
        let now = Timestamp::from_second(1_000 + active_seconds).unwrap();
        assert_eq!(deadline_left(&pod, start, now), expected.map(Duration::from_secs), "{deadline:?} {active_seconds}");
    }

    #[test]
    fn the_deadline_counts_from_the_start_on_the_node() {
        check(None, 100, None);
        check(Some(30), 10, Some(20));
        check(Some(30), 30, Some(0));
        check(Some(30), 31, Some(0));
        // A clock that was set back.
        check(Some(30), -5, Some(30));
    }
}
