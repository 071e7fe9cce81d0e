//! The conditions of a pod that a kubelet owns.

use xebec_types::core::{ContainerStatus, Pod, PodCondition};
use xebec_types::time::{self, Timestamp};

use super::Inputs;
use crate::config::Withdrawal;
use crate::ended::Ended;
use crate::pod;
use crate::worker::Resize;

const READY_TO_START: &str = "PodReadyToStartContainers";
const INITIALIZED: &str = "Initialized";
const READY: &str = "Ready";
const CONTAINERS_READY: &str = "ContainersReady";
const SCHEDULED: &str = "PodScheduled";
const DISRUPTED: &str = "DisruptionTarget";
const RESIZE_PENDING: &str = "PodResizePending";
const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";
/// Conditions of the kubelet that are gone when nothing is left to say.
const PASSING: [&str; 2] = [RESIZE_PENDING, RESIZE_IN_PROGRESS];
/// Ours: no node sends new connections to a pod that is being deleted.
const WITHDRAWN: &str = "xebec.io/WithdrawnFromServices";

struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self { status: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Self { status: false, reason: Some(reason), message }
    }
}

/// The kubelet's own conditions, and those of others as they were.
pub(super) fn conditions(
    inputs: &Inputs<'_>,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Vec<PodCondition> {
    let containers = containers_ready(phase, init, main, inputs);
    let ready = ready(inputs.pod, &containers);
    let own = [
        (READY_TO_START, ready_to_start(inputs)),
        (INITIALIZED, initialized(inputs.pod, phase, init, main)),
        (READY, ready),
        (CONTAINERS_READY, containers),
        (SCHEDULED, Verdict::yes()),
    ];
    let disrupted = inputs.ended.filter(|ended| ended.evicted).map(|ended| (DISRUPTED, disrupted(ended)));
    let resized = resize(inputs.resize);
    let withdrawn = inputs.withdrawal.and_then(withdrawn).map(|verdict| (WITHDRAWN, verdict));
    let mut conditions: Vec<PodCondition> = own
        .into_iter()
        .chain(withdrawn)
        .chain(disrupted)
        .chain(resized)
        .map(|(kind, verdict)| condition(inputs.pod, kind, verdict, inputs.now))
        .collect();
    let foreign = known(inputs.pod)
        .filter(|c| !PASSING.contains(&c.type_.as_str()))
        .filter(|c| !conditions.iter().any(|own| own.type_ == c.type_))
        .cloned()
        .collect::<Vec<_>>();
    conditions.extend(foreign);
    conditions
}

fn known(pod: &Pod) -> impl Iterator<Item = &PodCondition> {
    pod.status.iter().flat_map(|s| s.conditions.iter().flatten())
}

fn condition(pod: &Pod, kind: &str, verdict: Verdict, now: Timestamp) -> PodCondition {
    let status = if verdict.status { "True" } else { "False" };
    let before = known(pod).find(|c| c.type_ == kind && c.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(time::time(now))),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn disrupted(ended: &Ended) -> Verdict {
    Verdict { reason: Some("TerminationByKubelet"), message: Some(ended.message.clone()), ..Verdict::yes() }
}

fn withdrawn(withdrawal: &Withdrawal) -> Option<Verdict> {
    match withdrawal {
        Withdrawal::NotServed => None,
        Withdrawal::Acknowledged => Some(Verdict { reason: Some("AllNodesAcknowledged"), ..Verdict::yes() }),
        Withdrawal::TimedOut(why) => Some(Verdict::no("NotAcknowledged", Some(why.clone()))),
    }
}

fn resize(resize: &Resize) -> impl Iterator<Item = (&'static str, Verdict)> {
    let pending = resize.pending.as_ref().map(|pending| {
        let verdict =
            Verdict { reason: Some(pending.reason), message: Some(pending.message.clone()), ..Verdict::yes() };
        (RESIZE_PENDING, verdict)
    });
    let in_progress = resize.in_progress.then(|| {
        let reason = resize.error.is_some().then_some("Error");
        (RESIZE_IN_PROGRESS, Verdict { reason, message: resize.error.clone(), ..Verdict::yes() })
    });
    pending.into_iter().chain(in_progress)
}

fn ready_to_start(inputs: &Inputs<'_>) -> Verdict {
    let networked = |s: &crate::observed::Sandbox| pod::host_network(inputs.pod) || !s.ips.is_empty();
    match inputs.observed.ready_sandbox() {
        Some(sandbox) if networked(sandbox) => Verdict::yes(),
        _ => Verdict { status: false, reason: None, message: None },
    }
}

fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn initialized(pod: &Pod, phase: &str, init: &[ContainerStatus], main: &[ContainerStatus]) -> Verdict {
    if phase == "Succeeded" {
        return Verdict { reason: Some("PodCompleted"), ..Verdict::yes() };
    }
    // A pod whose own containers have run was initialised, whatever became of its init containers.
    let ran = main.iter().any(|s| s.container_id.is_some());
    let incomplete: Vec<&str> = init
        .iter()
        .filter(|s| {
            let sidecar = pod::find_container(pod, &s.name).is_some_and(pod::is_sidecar);
            if sidecar { s.started != Some(true) } else { !s.ready }
        })
        .map(|s| s.name.as_str())
        .collect();
    if ran || incomplete.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotInitialized", Some(format!("containers with incomplete status: {}", list(&incomplete))))
}

fn containers_ready(phase: &str, init: &[ContainerStatus], main: &[ContainerStatus], inputs: &Inputs<'_>) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", None),
        "Failed" => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let sidecars = init.iter().filter(|s| pod::find_container(inputs.pod, &s.name).is_some_and(pod::is_sidecar));
    let unready: Vec<&str> = sidecars.chain(main).filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    if unready.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotReady", Some(format!("containers with unready status: {}", list(&unready))))
}

/// The pod is ready when its containers are and every readiness gate is "True".
fn ready(pod: &Pod, containers: &Verdict) -> Verdict {
    if !containers.status {
        return Verdict { status: false, reason: containers.reason, message: containers.message.clone() };
    }
    let mut unmet = Vec::new();
    for gate in pod::spec(pod).readiness_gates.iter().flatten() {
        match known(pod).find(|c| c.type_ == gate.condition_type) {
            None => unmet.push(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(c) if c.status != "True" => {
                unmet.push(format!(
                    "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                    gate.condition_type, c.status
                ));
            }
            Some(_) => {}
        }
    }
    if unmet.is_empty() { Verdict::yes() } else { Verdict::no("ReadinessGatesNotReady", Some(unmet.join(", "))) }
}
