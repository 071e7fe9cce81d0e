//! When a pod has to leave its node.

use std::time::Duration;
use xebec_types::core::{Pod, Taint, Toleration};
use xebec_types::time::{self, Timestamp};
use xebec_types::{node, pod, taint};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Eviction {
    None,
    In(Duration),
    Now,
}

/// `taints` are the NoExecute taints of the pod's node. A toleration's seconds count from when its
/// taint was added.
#[must_use]
pub fn step(pod: &Pod, taints: &[Taint], now: Timestamp) -> Eviction {
    if taints.is_empty() || pod::is_terminating(pod) || pod::is_terminal(pod) {
        return Eviction::None;
    }
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
    let mut soonest: Option<Timestamp> = None;
    for taint in taints {
        let matching: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        if matching.is_empty() {
            return Eviction::Now;
        }
        if let Some(seconds) = matching.iter().filter_map(|t| t.toleration_seconds).min() {
            let added = taint.time_added.as_ref().map_or(now, |t| t.0);
            let wait = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            let due = time::after(added, wait);
            soonest = Some(soonest.map_or(due, |s| s.min(due)));
        }
    }
    match soonest.map(|due| time::until(due, now)) {
        None => Eviction::None,
        Some(Duration::ZERO) => Eviction::Now,
        Some(wait) => Eviction::In(wait),
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let value = taint.value.as_deref().unwrap_or_default();
    node::tolerates(toleration, &taint.key, value, taint::NO_EXECUTE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_types::core::PodSpec;

    #[track_caller]
    fn check(tolerations: &[(&str, &str, Option<i64>)], now: i64, expected: Eviction) {
        let toleration = |(key, operator, seconds): &(&str, &str, Option<i64>)| Toleration {
            key: Some((*key).into()),
            operator: Some((*operator).into()),
            toleration_seconds: *seconds,
            ..Toleration::default()
        };
        let tolerations: Vec<_> = tolerations.iter().map(toleration).collect();
        let spec = PodSpec { tolerations: Some(tolerations.clone()), ..PodSpec::default() };
        let pod = Pod { spec: Some(spec), ..Pod::default() };
        let taint = Taint {
            key: taint::UNREACHABLE.into(),
            effect: taint::NO_EXECUTE.into(),
            time_added: Some(time::time(Timestamp::UNIX_EPOCH)),
            value: None,
        };
        let now = Timestamp::from_second(now).expect("in range");
        assert_eq!(step(&pod, &[taint], now), expected, "{tolerations:?}");
    }

    #[test]
    fn a_pod_leaves_when_its_toleration_ends() {
        let key = taint::UNREACHABLE;
        check(&[], 0, Eviction::Now);
        check(&[(key, "Exists", None)], 9999, Eviction::None);
        check(&[("", "Exists", None)], 9999, Eviction::None);
        check(&[(key, "Exists", Some(300))], 100, Eviction::In(Duration::from_secs(200)));
        check(&[(key, "Exists", Some(300))], 300, Eviction::Now);
        check(&[(key, "Equal", Some(60)), (key, "Exists", Some(300))], 60, Eviction::Now);
        check(&[("other", "Exists", None)], 0, Eviction::Now);
    }
}
