//! The status of a pod as the API shows it: upstream's `generateAPIPodStatus`, a pure function.

mod condition;
mod container;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use xebec_types::core::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use xebec_types::time::{self, Timestamp};

use crate::config::Withdrawal;
use crate::ended::Ended;
use crate::observed::Observed;
use crate::pod::{self, RestartPolicy};
use crate::qos;
use crate::worker::Resize;

/// Why a container is not running although it should be: `ErrImagePull`, `CrashLoopBackOff`, ….
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// What a status is made from.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub pod: &'a Pod,
    pub observed: &'a Observed,
    /// By container name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Containers whose readiness probe passes, or that have none and run.
    pub ready: &'a BTreeSet<String>,
    /// Containers that passed their startup probe, or have none and run.
    pub started: &'a BTreeSet<String>,
    /// Every container has ended for good: the pod was deleted, or is done.
    pub terminal: bool,
    /// Where a change of resources is.
    pub resize: &'a Resize,
    /// Of a pod that is being deleted.
    pub withdrawal: Option<&'a Withdrawal>,
    /// Why the node ended the pod as a whole.
    pub ended: Option<&'a Ended>,
    /// Of its sandbox; the primary family's first, as with the node's.
    pub pod_ips: &'a [IpAddr],
    pub node_ips: &'a [IpAddr],
    pub start_time: Timestamp,
    pub now: Timestamp,
}

pub fn generate(inputs: &Inputs<'_>) -> PodStatus {
    let pod = inputs.pod;
    let init = pod::init_containers(pod).iter().map(|c| container::status(inputs, c, true)).collect::<Vec<_>>();
    let has_init = !init.is_empty();
    let main = pod::containers(pod).iter().map(|c| container::status(inputs, c, has_init)).collect::<Vec<_>>();
    let init = initial_reasons(inputs, init);
    let phase = if inputs.ended.is_some() { "Failed" } else { phase(inputs, &init, &main) };
    let ips = pod_ips(inputs);
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        reason: inputs.ended.map(|ended| ended.reason.to_owned()),
        message: inputs.ended.map(|ended| ended.message.clone()),
        host_ip: inputs.node_ips.first().map(ToString::to_string),
        host_ips: Some(inputs.node_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().map(ToString::to_string),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        qos_class: Some(qos::class(pod).name().to_owned()),
        start_time: Some(time::time(inputs.start_time)),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    };
    status.conditions = Some(condition::conditions(inputs, phase, &init, &main));
    status.init_container_statuses = has_init.then_some(init);
    status.container_statuses = Some(main);
    let ephemeral: Vec<_> = pod::ephemeral_containers(pod).map(|c| container::ephemeral(inputs, &c)).collect();
    status.ephemeral_container_statuses = (!ephemeral.is_empty()).then_some(ephemeral);
    status
}

/// An init container that waits its turn is `PodInitializing`, as the pod's own containers are.
fn initial_reasons(inputs: &Inputs<'_>, mut init: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    for status in &mut init {
        let done = status.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|t| t.exit_code == 0);
        let sidecar = pod::find_container(inputs.pod, &status.name).is_some_and(pod::is_sidecar);
        if !sidecar {
            // Readiness of an init container is its success.
            status.ready = done;
        }
    }
    init
}

fn pod_ips<'a>(inputs: &Inputs<'a>) -> &'a [IpAddr] {
    match pod::host_network(inputs.pod) {
        true if inputs.observed.sandboxes.is_empty() => &[],
        true => inputs.node_ips,
        false => inputs.pod_ips,
    }
}

#[derive(Default)]
struct Counts {
    waiting: usize,
    running: usize,
    stopped: usize,
    succeeded: usize,
    unknown: usize,
}

/// upstream's `getPhase`.
fn phase(inputs: &Inputs<'_>, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
    let policy = pod::restart_policy(inputs.pod);
    let (mut pending_init, mut failed_init) = (0, 0);
    for status in init {
        let sidecar = pod::find_container(inputs.pod, &status.name).is_some_and(pod::is_sidecar);
        let state = status.state.clone().unwrap_or_default();
        if sidecar {
            pending_init += usize::from(status.started != Some(true) && state.terminated.is_none());
            continue;
        }
        let last = status.last_state.as_ref().and_then(|s| s.terminated.clone());
        match (state.running, state.terminated, last) {
            (Some(_), _, _) => pending_init += 1,
            (_, Some(terminated), _) => failed_init += usize::from(terminated.exit_code != 0),
            (_, _, Some(last)) if last.exit_code != 0 => failed_init += 1,
            _ => pending_init += 1,
        }
    }
    let counts = count(main);
    let all_stopped = counts.running == 0 && counts.stopped > 0 && counts.unknown == 0;
    let outcome = if counts.stopped == counts.succeeded { "Succeeded" } else { "Failed" };
    if failed_init > 0 && policy == RestartPolicy::Never {
        return "Failed";
    }
    if inputs.terminal {
        return if counts.running == 0 && counts.waiting == 0 { outcome } else { "Failed" };
    }
    if pending_init > 0 && counts.running == 0 && counts.stopped == 0 || failed_init > 0 || counts.waiting > 0 {
        return "Pending";
    }
    if counts.running > 0 && counts.unknown == 0 {
        return "Running";
    }
    if all_stopped {
        return match policy {
            RestartPolicy::Always => "Running",
            _ if counts.stopped == counts.succeeded => "Succeeded",
            RestartPolicy::Never => "Failed",
            RestartPolicy::OnFailure => "Running",
        };
    }
    "Pending"
}

fn count(statuses: &[ContainerStatus]) -> Counts {
    let mut counts = Counts::default();
    for status in statuses {
        let state = status.state.clone().unwrap_or_default();
        let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        match (state.running, state.terminated, last) {
            (Some(_), _, _) => counts.running += 1,
            (_, Some(terminated), _) => {
                counts.stopped += 1;
                counts.succeeded += usize::from(terminated.exit_code == 0);
            }
            // In back-off: it has stopped before.
            (_, _, Some(_)) => counts.stopped += 1,
            _ if state.waiting.is_some() => counts.waiting += 1,
            _ => counts.unknown += 1,
        }
    }
    counts
}

#[cfg(test)]
mod tests;
