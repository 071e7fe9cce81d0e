//! What a ServiceCIDR needs next.

use super::networks;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use xebec_types::networking::ServiceCIDR;
use xebec_types::time::{self, Timestamp};
use xebec_types::{Condition, finalizer, object};

/// API servers that have not seen the deletion yet may still hand out addresses.
const DELETION_GRACE: Duration = Duration::from_secs(10);
const READY: &str = "Ready";

#[derive(PartialEq, Debug)]
pub enum Action {
    None,
    Wait(Duration),
    /// All of them.
    SetFinalizers(Vec<String>),
    SetCondition(Condition),
}

/// `addresses` are those that the API server handed out to Services.
#[must_use]
pub fn step(range: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[IpAddr], now: Timestamp) -> Action {
    let finalizers = range.metadata.finalizers.clone().unwrap_or_default();
    let is_kept = finalizers.iter().any(|f| f == finalizer::SERVICE_CIDR);
    let Some(deleted) = &range.metadata.deletion_timestamp else {
        if !is_kept {
            return Action::SetFinalizers([finalizers, vec![finalizer::SERVICE_CIDR.to_owned()]].concat());
        }
        return condition(range, "True", "", "Kubernetes Service CIDR is ready", now);
    };
    if !is_kept {
        return Action::None;
    }
    if !may_go(range, all, addresses) {
        let message =
            "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        return condition(range, "False", "Terminating", message, now);
    }
    let age = time::since(deleted.0, now);
    if age < DELETION_GRACE {
        return Action::Wait(DELETION_GRACE - age);
    }
    Action::SetFinalizers(finalizers.into_iter().filter(|f| f != finalizer::SERVICE_CIDR).collect())
}

/// Whether every address of the range is in another one too.
fn may_go(range: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[IpAddr]) -> bool {
    let name = object::name(&range.metadata);
    let others = all.iter().filter(|other| object::name(&other.metadata) != name);
    let others: Vec<IpNet> = others.flat_map(|other| networks(other)).collect();
    let is_needed = |net: &IpNet| {
        let has_parent = others.iter().any(|other| other.contains(net));
        let is_orphan = |ip: &&IpAddr| net.contains(*ip) && !others.iter().any(|other| other.contains(*ip));
        !has_parent && addresses.iter().any(|ip| is_orphan(&ip))
    };
    !networks(range).iter().any(is_needed)
}

fn condition(range: &ServiceCIDR, status: &str, reason: &str, message: &str, now: Timestamp) -> Action {
    let known = range.status.iter().flat_map(|s| s.conditions.iter().flatten()).find(|c| c.type_ == READY);
    if known.is_some_and(|c| c.status == status && c.reason == reason && c.message == message) {
        return Action::None;
    }
    Action::SetCondition(Condition {
        type_: READY.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: time::time(now),
        observed_generation: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn range(name: &str, cidrs: &[&str], meta: Value) -> Arc<ServiceCIDR> {
        let mut object = json!({"metadata": meta, "spec": {"cidrs": cidrs}});
        object["metadata"]["name"] = json!(name);
        Arc::new(serde_json::from_value(object).expect("a ServiceCIDR"))
    }

    fn kept() -> Value {
        json!({"finalizers": [finalizer::SERVICE_CIDR]})
    }

    /// Deleted 100 seconds before.
    fn deleted() -> Value {
        json!({"finalizers": ["a/b", finalizer::SERVICE_CIDR], "deletionTimestamp": "1970-01-01T00:00:00Z"})
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn a_range_is_kept_and_then_ready() {
        let fresh = range("a", &["10.0.0.0/24"], json!({}));
        assert_eq!(step(&fresh, &[], &[], at(0)), Action::SetFinalizers(vec![finalizer::SERVICE_CIDR.to_owned()]));
        let known = range("a", &["10.0.0.0/24"], kept());
        let Action::SetCondition(ready) = step(&known, &[], &[], at(7)) else { panic!("no condition") };
        assert_eq!((&*ready.type_, &*ready.status, ready.last_transition_time.0), ("Ready", "True", at(7)));
        let mut told = ServiceCIDR::clone(&known);
        told.status.get_or_insert_default().conditions = Some(vec![ready]);
        assert_eq!(step(&told, &[], &[], at(8)), Action::None);
    }

    #[track_caller]
    fn check_deletion(cidrs: &[&str], others: &[(&str, &[&str])], addresses: &[&str], expected: &str) {
        let gone = range("gone", cidrs, deleted());
        let mut all: Vec<_> = others.iter().map(|(name, cidrs)| range(name, cidrs, kept())).collect();
        all.push(Arc::clone(&gone));
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().expect("an address")).collect();
        let got = match step(&gone, &all, &addresses, at(100)) {
            Action::SetCondition(condition) => format!("{} {}", condition.status, condition.reason),
            Action::SetFinalizers(left) => format!("finalizers {}", left.join(",")),
            other => format!("{other:?}"),
        };
        assert_eq!(got, expected, "{cidrs:?} beside {others:?} with {addresses:?}");
    }

    #[test]
    fn a_range_goes_when_no_address_needs_it() {
        const GONE: &str = "finalizers a/b";
        const BLOCKED: &str = "False Terminating";
        check_deletion(&["10.0.0.0/24"], &[], &[], GONE);
        check_deletion(&["10.0.0.0/24"], &[], &["10.0.0.9"], BLOCKED);
        check_deletion(&["10.0.0.0/24"], &[], &["10.0.1.9", "fd00::9"], GONE);
        check_deletion(&["10.0.0.0/24"], &[("larger", &["10.0.0.0/16"])], &["10.0.0.9"], GONE);
        check_deletion(&["10.0.0.0/24"], &[("part", &["10.0.0.0/28"])], &["10.0.0.9"], GONE);
        check_deletion(&["10.0.0.0/24"], &[("part", &["10.0.0.0/28"])], &["10.0.0.99"], BLOCKED);
        check_deletion(&["10.0.0.0/24", "fd00::/112"], &[("larger", &["10.0.0.0/16"])], &["fd00::9"], BLOCKED);
    }

    #[test]
    fn servers_have_time_to_see_the_deletion() {
        let gone = range("gone", &["10.0.0.0/24"], deleted());
        assert_eq!(step(&gone, &[], &[], at(4)), Action::Wait(Duration::from_secs(6)));
    }
}
