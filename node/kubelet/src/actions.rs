//! What a pod needs next: upstream's `computePodActions`, a pure function of the spec and what runs.

use std::collections::{BTreeMap, BTreeSet};

use xebec_types::core::{Container, Pod};

use crate::observed::{Instance, Observed, State};
use crate::pod::{self, RestartPolicy};

/// Verdicts of probes by container name; a name that is absent has no verdict yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdicts {
    /// Containers whose liveness or startup probe failed, with the word for the message.
    pub failed: BTreeMap<String, &'static str>,
    /// Containers that have passed their startup probe or have none.
    pub started: BTreeSet<String>,
    /// Containers that must restart to get the resources that were granted to them.
    pub resized: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    pub message: String,
    pub because: Because,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// A probe said so: its own grace period may apply.
    Probe(&'static str),
    Changed,
    Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Nothing is left to run: stop what is there, for good.
    pub kill_pod: bool,
    /// Make a sandbox with this attempt, after stopping what the old one has.
    pub create_sandbox: Option<u32>,
    /// Names, in the order of the spec.
    pub start_init: Vec<String>,
    pub start: Vec<String>,
    /// Ephemeral containers, which start once and never again.
    pub start_ephemeral: Vec<String>,
    pub kill: Vec<Kill>,
}

pub fn compute(pod: &Pod, observed: &Observed, verdicts: &Verdicts) -> Actions {
    if let Some(attempt) = needs_sandbox(pod, observed) {
        return with_new_sandbox(pod, observed, attempt);
    }
    let mut actions = Actions { start_ephemeral: ephemeral(pod, observed), ..Actions::default() };
    let init_done = initialise(pod, observed, verdicts, &mut actions);
    if !init_done {
        if actions.kill_pod {
            actions.kill = kill_all(observed, "Need to kill Pod");
            actions.start_ephemeral.clear();
        }
        return actions;
    }
    let mut keep = 0;
    for container in pod::containers(pod) {
        let newest = observed.newest(&container.name);
        match newest.filter(|c| c.state == State::Running) {
            None if should_restart(pod, newest) => {
                // A container that was created and never started, or is lost, makes way first.
                if let Some(unknown) = newest.filter(|c| c.state == State::Unknown) {
                    actions.kill.push(kill(
                        unknown,
                        "Container is in unknown state, try killing it before restart".into(),
                        Because::Other,
                    ));
                }
                actions.start.push(container.name.clone());
            }
            None => {}
            Some(running) => match stale(pod, container, running, verdicts) {
                None => keep += 1,
                Some((kill, restart)) => {
                    actions.kill.push(kill);
                    if restart {
                        actions.start.push(container.name.clone());
                    }
                }
            },
        }
    }
    if keep == 0 && actions.start.is_empty() {
        actions.kill_pod = true;
        actions.kill = kill_all(observed, "Need to kill Pod");
        actions.start_init.clear();
        actions.start_ephemeral.clear();
    }
    actions
}

/// Whoever debugs a pod need not wait for its init containers.
fn ephemeral(pod: &Pod, observed: &Observed) -> Vec<String> {
    let names = pod::spec(pod).ephemeral_containers.iter().flatten().map(|c| &c.name);
    names.filter(|name| observed.newest(name).is_none()).cloned().collect()
}

fn needs_sandbox(pod: &Pod, observed: &Observed) -> Option<u32> {
    let newest = match observed.sandboxes.first() {
        None => return Some(0),
        Some(newest) => newest,
    };
    let lost = !newest.ready || (!pod::host_network(pod) && newest.ips.is_empty());
    let twins = observed.sandboxes.iter().filter(|s| s.ready).count() > 1;
    (lost || twins).then_some(newest.attempt + 1)
}

fn with_new_sandbox(pod: &Pod, observed: &Observed, attempt: u32) -> Actions {
    let policy = pod::restart_policy(pod);
    let ran = attempt > 0 && !observed.containers.is_empty();
    let all_done = ran && pod::containers(pod).iter().all(|c| !restartable(policy, observed.newest(&c.name)));
    if all_done || (ran && policy == RestartPolicy::Never) {
        return Actions { kill_pod: true, kill: kill_all(observed, "Need to kill Pod"), ..Actions::default() };
    }
    let mut actions = Actions {
        create_sandbox: Some(attempt),
        kill: kill_all(observed, "Pod sandbox changed, it will be killed and re-created."),
        ..Actions::default()
    };
    match pod::init_containers(pod).first() {
        Some(first) => actions.start_init.push(first.name.clone()),
        None => {
            let again = |c: &&Container| {
                restartable(policy, observed.newest(&c.name))
                    || observed.newest(&c.name).is_none_or(|i| i.state != State::Exited)
            };
            actions.start = pod::containers(pod).iter().filter(again).map(|c| c.name.clone()).collect();
        }
    }
    actions
}

/// A container that exited starts again under this policy.
fn restartable(policy: RestartPolicy, newest: Option<&Instance>) -> bool {
    let Some(exited) = newest.filter(|c| c.state == State::Exited) else { return true };
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exited.exit_code != 0,
        RestartPolicy::Never => false,
    }
}

fn should_restart(pod: &Pod, newest: Option<&Instance>) -> bool {
    match newest.map(|c| c.state) {
        Some(State::Running) => false,
        _ => restartable(pod::restart_policy(pod), newest),
    }
}

fn kill(instance: &Instance, message: String, because: Because) -> Kill {
    Kill { id: instance.id.clone(), name: instance.name.clone(), message, because }
}

fn kill_all(observed: &Observed, message: &str) -> Vec<Kill> {
    observed.running().map(|c| kill(c, message.to_owned(), Because::Other)).collect()
}

/// Why a running container must go, and whether it comes back.
fn stale(pod: &Pod, container: &Container, running: &Instance, verdicts: &Verdicts) -> Option<(Kill, bool)> {
    let name = &container.name;
    if !running.hash.is_empty() && running.hash != pod::container_hash(container) {
        let message = format!("Container {name} definition changed, will be restarted");
        return Some((kill(running, message, Because::Changed), true));
    }
    if verdicts.resized.contains(name) {
        let message = format!("Container {name} resize requires restart");
        return Some((kill(running, message, Because::Changed), true));
    }
    let probe = verdicts.failed.get(name)?;
    let restart = pod::is_sidecar(container) || pod::restart_policy(pod) != RestartPolicy::Never;
    let message = format!("Container {name} failed {probe} probe{}", if restart { ", will be restarted" } else { "" });
    Some((kill(running, message, Because::Probe(probe)), restart))
}

/// Moves the init containers on; true once the pod's own containers may run.
fn initialise(pod: &Pod, observed: &Observed, verdicts: &Verdicts, actions: &mut Actions) -> bool {
    let init = pod::init_containers(pod);
    // After a restart of the kubelet or a clean-up old init containers may be gone: a container that exists proves they all ran.
    let past =
        pod::containers(pod).iter().any(|c| observed.newest(&c.name).is_some_and(|i| in_current_sandbox(observed, i)));
    for container in init {
        let newest = observed.newest(&container.name).filter(|i| in_current_sandbox(observed, i));
        if pod::is_sidecar(container) {
            let up = sidecar(pod, container, newest, verdicts, actions);
            if !up && !past {
                return false;
            }
            continue;
        }
        if past {
            continue;
        }
        match newest.map(|i| (i.state, i.exit_code)) {
            Some((State::Exited, 0)) => {}
            Some((State::Running, _)) => return false,
            Some((State::Exited, _)) if pod::restart_policy(pod) == RestartPolicy::Never => {
                actions.kill_pod = true;
                return false;
            }
            _ => {
                actions.start_init.push(container.name.clone());
                return false;
            }
        }
    }
    true
}

fn in_current_sandbox(observed: &Observed, instance: &Instance) -> bool {
    observed.sandboxes.first().is_some_and(|s| s.id == instance.sandbox_id)
}

/// Whether the sidecar is up, so that the next init container may start.
fn sidecar(
    pod: &Pod,
    container: &Container,
    newest: Option<&Instance>,
    verdicts: &Verdicts,
    actions: &mut Actions,
) -> bool {
    match newest.filter(|i| i.state == State::Running) {
        None => {
            actions.start_init.push(container.name.clone());
            false
        }
        Some(running) => match stale(pod, container, running, verdicts) {
            Some((kill, _)) => {
                actions.kill.push(kill);
                actions.start_init.push(container.name.clone());
                false
            }
            None => verdicts.started.contains(&container.name),
        },
    }
}

#[cfg(test)]
mod tests;
