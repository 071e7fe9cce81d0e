//! One container's status.

use std::collections::BTreeMap;

use xebec_types::Quantity;
use xebec_types::core::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ResourceRequirements,
};
use xebec_types::time;

use super::Inputs;
use crate::observed::{Instance, State, timestamp};
use crate::pod;

pub(super) fn status(inputs: &Inputs<'_>, container: &Container, pod_has_init: bool) -> ContainerStatus {
    let name = &container.name;
    let newest = inputs.observed.newest(name);
    let waiting = inputs.waiting.get(name);
    let state = newest.map(|i| state(inputs, i)).unwrap_or_else(|| absent(inputs, container, pod_has_init));
    let mut status = ContainerStatus {
        name: name.clone(),
        image: newest
            .map(|i| i.image.clone())
            .filter(|image| !image.is_empty())
            .unwrap_or_else(|| pod::image(container).to_owned()),
        image_id: newest.map(|i| i.image_id.clone()).unwrap_or_default(),
        container_id: newest.map(|i| container_id(&i.id)),
        restart_count: newest.map(|i| i.restart_count.try_into().unwrap_or(i32::MAX)).unwrap_or_default(),
        last_state: inputs
            .observed
            .previous(name)
            .filter(|i| i.state == State::Exited)
            .map(terminated)
            .map(of_terminated),
        state: Some(state),
        ..ContainerStatus::default()
    };
    let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    // A container that waits to be started again shows why, and what it was as its last state.
    if let Some(waiting) = waiting.filter(|_| !running && !inputs.terminal) {
        if let Some(done) = status.state.take().and_then(|s| s.terminated) {
            status.last_state = Some(of_terminated(done));
        }
        status.state = Some(of_waiting(&waiting.reason, &waiting.message));
    }
    status.started = Some(running && inputs.started.contains(name));
    status.ready = running && inputs.started.contains(name) && inputs.ready.contains(name);
    (status.allocated_resources, status.resources) = resources(inputs, container, newest);
    status
}

/// An ephemeral container is never ready and has no probe that it could have passed.
pub(super) fn ephemeral(inputs: &Inputs<'_>, container: &Container) -> ContainerStatus {
    let status = status(inputs, container, false);
    ContainerStatus { ready: false, started: None, allocated_resources: None, resources: None, ..status }
}

/// What was granted, and what the container has: the same but for a resize that is under way.
fn resources(
    inputs: &Inputs<'_>,
    container: &Container,
    newest: Option<&Instance>,
) -> (Option<BTreeMap<String, Quantity>>, Option<ResourceRequirements>) {
    let granted = container.resources.clone().unwrap_or_default();
    let requests = granted.requests.clone().filter(|requests| !requests.is_empty());
    let has = newest.and_then(|i| inputs.resize.actual.get(&i.id)).cloned().unwrap_or(granted);
    (requests, Some(ResourceRequirements { claims: None, ..has }))
}

fn container_id(id: &str) -> String {
    format!("containerd://{id}")
}

fn of_terminated(terminated: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn of_waiting(reason: &str, message: &str) -> ContainerState {
    let message = Some(message.to_owned()).filter(|m| !m.is_empty());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    }
}

fn state(inputs: &Inputs<'_>, instance: &Instance) -> ContainerState {
    match instance.state {
        State::Running => {
            let started_at = timestamp(instance.started_at).map(time::time);
            ContainerState { running: Some(ContainerStateRunning { started_at }), ..ContainerState::default() }
        }
        State::Exited => of_terminated(terminated(instance)),
        _ if inputs.terminal => of_terminated(lost()),
        _ => of_waiting("ContainerCreating", ""),
    }
}

/// A container the runtime does not know.
fn absent(inputs: &Inputs<'_>, container: &Container, pod_has_init: bool) -> ContainerState {
    if !inputs.terminal {
        return of_waiting(if pod_has_init { "PodInitializing" } else { "ContainerCreating" }, "");
    }
    // What an earlier kubelet reported as terminated stays so: the container may have been collected.
    let known = inputs.pod.status.as_ref().and_then(|status| {
        let statuses = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        statuses.filter(|s| s.name == container.name).find_map(|s| s.state.as_ref()?.terminated.clone())
    });
    of_terminated(known.unwrap_or_else(lost))
}

fn lost() -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: 137,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        ..ContainerStateTerminated::default()
    }
}

fn terminated(instance: &Instance) -> ContainerStateTerminated {
    let reason = match (instance.reason.as_str(), instance.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    ContainerStateTerminated {
        exit_code: instance.exit_code,
        reason: Some(reason.to_owned()),
        message: Some(instance.message.clone()).filter(|m| !m.is_empty()),
        started_at: timestamp(instance.started_at).map(time::time),
        finished_at: timestamp(instance.finished_at).map(time::time),
        container_id: Some(container_id(&instance.id)),
        ..ContainerStateTerminated::default()
    }
}
