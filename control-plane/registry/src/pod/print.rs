//! The row of a pod in a table: `printPod`.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::duration;
use crate::strategy::{Column, age};
use crate::value::{at, boolean, integer, is_set, items, string};

pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    Column::string("Status", "The aggregate status of the containers in this pod."),
    Column::string(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    Column::AGE,
    Column::wide("IP", "The IP address the pod has in the cluster."),
    Column::wide("Node", "The node the pod runs on, or is to run on."),
    Column::wide("Nominated Node", "The node where pods were preempted to make room for this pod."),
    Column::wide("Readiness Gates", "How many of the pod's readiness gates are true."),
];

const NONE: &str = "<none>";

pub fn row(pod: &Value, now: OffsetDateTime) -> Vec<Value> {
    let state = State::of(pod);
    let restarts = match state.restarted_at {
        Some(when) if state.restarts != 0 => format!("{} ({} ago)", state.restarts, duration::human(now - when)),
        _ => state.restarts.to_string(),
    };
    let or_none = |text: &str| json!(if text.is_empty() { NONE } else { text });
    let ip = items(pod, "status.podIPs").first().map_or("", |ip| string(ip, "ip"));
    vec![
        json!(crate::meta::name(pod)),
        json!(format!("{}/{}", state.ready, state.total)),
        json!(state.reason),
        json!(restarts),
        age(pod, now),
        or_none(ip),
        or_none(string(pod, "spec.nodeName")),
        or_none(string(pod, "status.nominatedNodeName")),
        json!(readiness_gates(pod)),
    ]
}

/// What the containers of a pod add up to.
struct State {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    restarted_at: Option<OffsetDateTime>,
}

impl State {
    fn of(pod: &Value) -> Self {
        let mut state = Self {
            reason: base_reason(pod),
            ready: 0,
            total: items(pod, "spec.containers").len(),
            restarts: 0,
            restarted_at: None,
        };
        state.total += items(pod, "spec.initContainers").iter().filter(|container| is_sidecar(container)).count();
        let (initializing, sidecars) = state.init_containers(pod);
        if !initializing || condition(pod, "Initialized") {
            (state.restarts, state.restarted_at) = sidecars;
            state.containers(pod);
        }
        if is_set(pod, "metadata.deletionTimestamp") {
            if string(pod, "status.reason") == "NodeLost" {
                state.reason = "Unknown".to_owned();
            } else if !["Succeeded", "Failed"].contains(&string(pod, "status.phase")) {
                state.reason = "Terminating".to_owned();
            }
        }
        state
    }

    /// Whether initialisation goes on (or failed), and the restarts of sidecars alone.
    fn init_containers(&mut self, pod: &Value) -> (bool, (i64, Option<OffsetDateTime>)) {
        let specs = items(pod, "spec.initContainers");
        let mut sidecars = (0, None);
        for (index, status) in items(pod, "status.initContainerStatuses").iter().enumerate() {
            let name = string(status, "name");
            let sidecar = specs.iter().any(|spec| string(spec, "name") == name && is_sidecar(spec));
            self.count_restarts(status);
            if sidecar {
                sidecars.0 += integer(status, "restartCount").unwrap_or(0);
                sidecars.1 = sidecars.1.max(last_termination(status));
            }
            let (ended, waiting) = (at(status, "state.terminated"), string(status, "state.waiting.reason"));
            if is_set(status, "state.terminated") && exit_code(ended) == 0 {
                continue;
            }
            if sidecar && boolean(status, "started") {
                self.ready += usize::from(boolean(status, "ready"));
                continue;
            }
            self.reason = if !ended.is_null() {
                format!("Init:{}", termination_reason(ended))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", specs.len())
            };
            return (true, sidecars);
        }
        (false, sidecars)
    }

    fn containers(&mut self, pod: &Value) {
        let mut running = false;
        for status in items(pod, "status.containerStatuses").iter().rev() {
            self.count_restarts(status);
            let (ended, waiting) = (at(status, "state.terminated"), string(status, "state.waiting.reason"));
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if !ended.is_null() {
                self.reason = termination_reason(ended);
            } else if boolean(status, "ready") && is_set(status, "state.running") {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if condition(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restarts += integer(status, "restartCount").unwrap_or(0);
        self.restarted_at = self.restarted_at.max(last_termination(status));
    }
}

fn base_reason(pod: &Value) -> String {
    let gated = items(pod, "status.conditions").iter().any(|condition| {
        string(condition, "type") == "PodScheduled" && string(condition, "reason") == "SchedulingGated"
    });
    match string(pod, "status.reason") {
        _ if gated => "SchedulingGated",
        "" => string(pod, "status.phase"),
        reason => reason,
    }
    .to_owned()
}

fn termination_reason(ended: &Value) -> String {
    match (string(ended, "reason"), integer(ended, "signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", exit_code(ended)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn exit_code(ended: &Value) -> i64 {
    integer(ended, "exitCode").unwrap_or(0)
}

fn last_termination(status: &Value) -> Option<OffsetDateTime> {
    duration::parse(string(status, "lastState.terminated.finishedAt"))
}

fn is_sidecar(container: &Value) -> bool {
    string(container, "restartPolicy") == "Always"
}

fn condition(pod: &Value, kind: &str) -> bool {
    items(pod, "status.conditions").iter().any(|c| string(c, "type") == kind && string(c, "status") == "True")
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, "spec.readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let met = gates.iter().filter(|gate| condition(pod, string(gate, "conditionType"))).count();
    format!("{met}/{}", gates.len())
}

#[cfg(test)]
mod tests;
