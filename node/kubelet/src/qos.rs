//! Quality of service and the cgroup numbers that follow from requests and limits.

use std::collections::BTreeMap;

use xebec_types::Quantity;
use xebec_types::core::{Container, Pod, ResourceRequirements};
use xebec_types::resource;

use crate::pod::{all_containers, containers, init_containers, is_sidecar};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

type Amounts = Option<BTreeMap<String, Quantity>>;

fn milli(amounts: &Amounts, name: &str) -> Option<i64> {
    amounts.as_ref()?.get(name).and_then(resource::milli)
}

fn bytes(amounts: &Amounts, name: &str) -> Option<i64> {
    amounts.as_ref()?.get(name).and_then(resource::value)
}

/// A container's cpu (in thousandths) and memory (in bytes); a request that is missing is its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub cpu_request: Option<i64>,
    pub cpu_limit: Option<i64>,
    pub memory_request: Option<i64>,
    pub memory_limit: Option<i64>,
}

impl Amount {
    pub fn of(container: &Container) -> Self {
        container.resources.as_ref().map(Self::of_requirements).unwrap_or_default()
    }

    pub fn of_requirements(resources: &ResourceRequirements) -> Self {
        let cpu_limit = milli(&resources.limits, "cpu");
        let memory_limit = bytes(&resources.limits, "memory");
        Self {
            cpu_request: milli(&resources.requests, "cpu").or(cpu_limit),
            cpu_limit,
            memory_request: bytes(&resources.requests, "memory").or(memory_limit),
            memory_limit,
        }
    }

    fn is_empty(&self) -> bool {
        let positive = |amount: Option<i64>| amount.unwrap_or(0) > 0;
        !(positive(self.cpu_request)
            || positive(self.cpu_limit)
            || positive(self.memory_request)
            || positive(self.memory_limit))
    }

    fn is_guaranteed(&self) -> bool {
        let equal = |request: Option<i64>, limit: Option<i64>| limit.unwrap_or(0) > 0 && request == limit;
        equal(self.cpu_request, self.cpu_limit) && equal(self.memory_request, self.memory_limit)
    }
}

/// upstream's `GetPodQOS`.
pub fn class(pod: &Pod) -> QosClass {
    let amounts: Vec<Amount> = all_containers(pod).map(Amount::of).collect();
    if amounts.iter().all(Amount::is_empty) {
        QosClass::BestEffort
    } else if amounts.iter().all(Amount::is_guaranteed) {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// What the pod as a whole may use: the sum of its containers and sidecars, or its largest init container where that is more.
/// A limit exists only if every container has one.
pub fn pod_amount(pod: &Pod) -> Amount {
    let long: Vec<Amount> =
        containers(pod).iter().chain(init_containers(pod).iter().filter(|c| is_sidecar(c))).map(Amount::of).collect();
    let init: Vec<Amount> = init_containers(pod).iter().filter(|c| !is_sidecar(c)).map(Amount::of).collect();
    let request = |of: fn(&Amount) -> Option<i64>| {
        let sum: i64 = long.iter().filter_map(of).sum();
        Some(init.iter().filter_map(of).max().unwrap_or(0).max(sum)).filter(|amount| *amount > 0)
    };
    let limit = |of: fn(&Amount) -> Option<i64>| {
        let sum: i64 = long.iter().map(of).sum::<Option<i64>>()?;
        let largest = init.iter().map(of).collect::<Option<Vec<i64>>>()?.into_iter().max().unwrap_or(0);
        Some(largest.max(sum)).filter(|amount| *amount > 0)
    };
    Amount {
        cpu_request: request(|a| a.cpu_request),
        cpu_limit: limit(|a| a.cpu_limit),
        memory_request: request(|a| a.memory_request),
        memory_limit: limit(|a| a.memory_limit),
    }
}

/// The kernel's period for CPU quotas.
pub const CPU_PERIOD_US: i64 = 100_000;

/// `cpu.shares`: 1024 for a whole CPU, at least 2 (the kernel's minimum).
pub fn cpu_shares(milli: Option<i64>) -> i64 {
    (milli.unwrap_or(0).saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// `cpu.cfs_quota_us` for one period; the kernel takes no less than 1 ms.
pub fn cpu_quota(milli: Option<i64>) -> Option<i64> {
    milli.filter(|m| *m > 0).map(|m| (m.saturating_mul(CPU_PERIOD_US) / 1000).max(1000))
}

/// Who the kernel kills first, as upstream's qos policy computes it.
pub fn oom_score_adj(class: QosClass, memory_request: Option<i64>, memory_capacity: i64) -> i64 {
    match class {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = memory_request.unwrap_or(0);
            let score = 1000 - request.saturating_mul(1000).checked_div(memory_capacity).unwrap_or(0);
            score.clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests;
