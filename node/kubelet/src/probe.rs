//! Probes: one task for each probe of each running container; results are read by the pod's worker.

mod action;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use xebec_types::core::{Container, Pod, Probe};

use crate::actions::Verdicts;
use crate::observed::{Observed, State};
use crate::pod::{self, PodRef, ProbeKind};
use crate::recorder::Recorder;
use crate::runtime::Runtime;

pub(crate) use action::{Outcome, Target, http_get, run as run_action};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Success,
    Failure,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Id {
    uid: String,
    container: String,
    kind: ProbeKind,
}

struct Worker {
    container_id: String,
    verdict: Option<Verdict>,
    task: AbortHandle,
}

/// Wakes a pod's worker by UID.
pub type Wake = Arc<dyn Fn(&str) + Send + Sync>;

/// upstream's probe manager with its result caches.
pub struct Probes {
    runtime: Arc<dyn Runtime>,
    recorder: Recorder,
    wake: Wake,
    workers: Mutex<HashMap<Id, Worker>>,
}

impl Probes {
    pub fn new(runtime: Arc<dyn Runtime>, recorder: Recorder, wake: Wake) -> Arc<Self> {
        Arc::new(Self { runtime, recorder, wake, workers: Mutex::default() })
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Id, Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts what should be probed and stops what should not. Of a pod that terminates only readiness is probed.
    pub fn sync(self: &Arc<Self>, pod: &Arc<Pod>, observed: &Observed, terminating: bool) {
        let reference = PodRef::of(pod);
        let mut wanted = HashMap::new();
        for container in pod::all_containers(pod) {
            let Some(running) = observed.newest(&container.name).filter(|i| i.state == State::Running) else {
                continue;
            };
            for kind in ProbeKind::ALL {
                if kind.of(container).is_some() && (!terminating || kind == ProbeKind::Readiness) {
                    let id = Id { uid: reference.uid.clone(), container: container.name.clone(), kind };
                    wanted.insert(id, (container.clone(), running.id.clone(), running.started_at));
                }
            }
        }
        let mut workers = self.locked();
        workers.retain(|id, worker| {
            let keep = id.uid != reference.uid
                || wanted.get(id).is_some_and(|(_, container_id, _)| *container_id == worker.container_id);
            if !keep {
                worker.task.abort();
            }
            keep
        });
        for (id, (container, container_id, started_at)) in wanted {
            if workers.contains_key(&id) {
                continue;
            }
            let target = Target {
                pod: Arc::clone(pod),
                container: Arc::new(container),
                container_id: container_id.clone(),
                ip: self.address(pod, observed),
            };
            let verdict = before(pod, &id, &container_id);
            let task = tokio::spawn(Arc::clone(self).probe(id.clone(), target, started_at)).abort_handle();
            workers.insert(id, Worker { container_id, verdict, task });
        }
    }

    fn address(&self, pod: &Pod, observed: &Observed) -> String {
        let node = pod.status.as_ref().and_then(|s| s.host_ip.clone());
        let own = observed.ips().first().map(ToString::to_string);
        if pod::host_network(pod) { node.unwrap_or_else(|| "127.0.0.1".to_owned()) } else { own.unwrap_or_default() }
    }

    /// Ends every probe of a pod.
    pub fn remove(&self, uid: &str) {
        self.locked().retain(|id, worker| {
            if id.uid == uid {
                worker.task.abort();
            }
            id.uid != uid
        });
    }

    /// What probes say about the running containers of a pod.
    pub fn verdicts(&self, pod: &Pod, observed: &Observed) -> (Verdicts, std::collections::BTreeSet<String>) {
        let uid = PodRef::of(pod).uid;
        let workers = self.locked();
        let mut verdicts = Verdicts::default();
        let mut ready = std::collections::BTreeSet::new();
        for container in pod::all_containers(pod) {
            let Some(running) = observed.newest(&container.name).filter(|i| i.state == State::Running) else {
                continue;
            };
            let verdict = |kind: ProbeKind| {
                let id = Id { uid: uid.clone(), container: container.name.clone(), kind };
                workers.get(&id).filter(|w| w.container_id == running.id).and_then(|w| w.verdict)
            };
            let started = container.startup_probe.is_none() || verdict(ProbeKind::Startup) == Some(Verdict::Success);
            if started {
                verdicts.started.insert(container.name.clone());
                if container.readiness_probe.is_none() || verdict(ProbeKind::Readiness) == Some(Verdict::Success) {
                    ready.insert(container.name.clone());
                }
            }
            if verdict(ProbeKind::Startup) == Some(Verdict::Failure) {
                verdicts.failed.insert(container.name.clone(), "startup");
            } else if verdict(ProbeKind::Liveness) == Some(Verdict::Failure) {
                verdicts.failed.insert(container.name.clone(), "liveness");
            }
        }
        (verdicts, ready)
    }

    fn is_started(&self, id: &Id, container: &Container) -> bool {
        let startup = Id { kind: ProbeKind::Startup, ..id.clone() };
        container.startup_probe.is_none()
            || self.locked().get(&startup).and_then(|w| w.verdict) == Some(Verdict::Success)
    }

    fn set(&self, id: &Id, verdict: Verdict) {
        if let Some(worker) = self.locked().get_mut(id) {
            if worker.verdict == Some(verdict) {
                return;
            }
            worker.verdict = Some(verdict);
        }
        (self.wake)(&id.uid);
    }

    async fn probe(self: Arc<Self>, id: Id, target: Target, started_at: i64) {
        let container = Arc::clone(&target.container);
        let Some(probe) = id.kind.of(&container) else { return };
        if id.kind == ProbeKind::Startup && self.is_started(&id, &container) {
            return;
        }
        let timing = Timing::of(probe);
        let since_start =
            crate::observed::timestamp(started_at).map(|at| xebec_types::time::since(at, xebec_types::time::now()));
        tokio::time::sleep(timing.initial_delay.saturating_sub(since_start.unwrap_or_default())).await;
        let mut ticker = tokio::time::interval(timing.period);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut successes, mut failures) = (0, 0);
        loop {
            ticker.tick().await;
            // Readiness and liveness wait for the startup probe; the startup probe ends with its first success.
            while id.kind != ProbeKind::Startup && !self.is_started(&id, &container) {
                tokio::time::sleep(Duration::from_millis(100).min(timing.period)).await;
            }
            match action::run(&*self.runtime, probe, &target, timing.timeout).await {
                Outcome::Success => {
                    (successes, failures) = (successes + 1, 0);
                    if successes >= timing.success_threshold {
                        self.set(&id, Verdict::Success);
                        if id.kind == ProbeKind::Startup {
                            return;
                        }
                    }
                }
                Outcome::Failure(why) => {
                    (successes, failures) = (0, failures + 1);
                    let message = format!("{} probe failed: {why}", id.kind.title());
                    self.recorder.container_warning(&target.pod, &id.container, "Unhealthy", &message);
                    if failures >= timing.failure_threshold {
                        self.set(&id, Verdict::Failure);
                        // The container is killed for this: its next instance gets a probe of its own.
                        if id.kind != ProbeKind::Readiness {
                            return;
                        }
                    }
                }
                Outcome::Unknown(why) => {
                    let message = format!("{} probe errored and resulted in unknown state: {why}", id.kind.title());
                    self.recorder.container_warning(&target.pod, &id.container, "ProbeWarning", &message);
                }
            }
        }
    }
}

/// What a former kubelet found of a container that runs on: that stands until this one's probe says otherwise, or every
/// restart of a kubelet would take its pods out of their Services until they were probed
/// (upstream: KEP-4781, ChangeContainerStatusOnKubeletRestart).
fn before(pod: &Pod, id: &Id, container_id: &str) -> Option<Verdict> {
    let known = pod::status_of(pod, container_id)?;
    let is_success = match id.kind {
        ProbeKind::Startup => known.started == Some(true),
        ProbeKind::Readiness => known.ready,
        ProbeKind::Liveness => false,
    };
    is_success.then_some(Verdict::Success)
}

/// A probe's numbers with upstream's defaults.
struct Timing {
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    success_threshold: i32,
    failure_threshold: i32,
}

impl Timing {
    fn of(probe: &Probe) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
        };
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds.filter(|p| *p > 0), 10),
            timeout: seconds(probe.timeout_seconds.filter(|t| *t > 0), 1),
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observed::Instance;
    use crate::runtime::Fake;

    #[tokio::test]
    async fn what_a_former_kubelet_found_stands_until_a_probe_says_otherwise() {
        let probes = |events: &Recorder| {
            let runtime = Fake::new([10, 0, 0, 1].into()) as Arc<dyn Runtime>;
            Probes::new(runtime, events.clone(), Arc::new(|_: &str| {}))
        };
        let events = Recorder::Kept(Arc::default());
        let answers = || json!({"exec": {"command": ["true"]}});
        let pod = |container_id: &str, ready: bool, readiness: serde_json::Value| -> Arc<Pod> {
            let containers = json!([{"name": "c", "startupProbe": answers(), "readinessProbe": readiness}]);
            let status = json!([{"name": "c", "containerID": container_id, "ready": ready, "started": true,
                "image": "", "imageID": "", "restartCount": 0}]);
            let object = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
                "spec": {"containers": containers}, "status": {"containerStatuses": status}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let instance = Instance { id: "i1".into(), ..Instance::sample("c", State::Running) };
        let observed = Observed { containers: vec![instance], ..Observed::default() };
        // Nothing awaits in here, so no probe has run yet.
        for (container_id, was_ready, started, ready) in [
            ("containerd://i1", true, true, true),
            ("containerd://i1", false, true, false),
            // Another instance: this one was never probed.
            ("containerd://i0", true, false, false),
        ] {
            let (probes, pod) = (probes(&events), pod(container_id, was_ready, answers()));
            probes.sync(&pod, &observed, false);
            let (verdicts, now_ready) = probes.verdicts(&pod, &observed);
            let got = (verdicts.started.contains("c"), now_ready.contains("c"));
            assert_eq!(got, (started, ready), "{container_id} was ready: {was_ready}");
        }
        // Nobody listens there: refused at once.
        let fails = json!({"tcpSocket": {"host": "127.0.0.1", "port": 1}, "failureThreshold": 1});
        let (probes, pod) = (probes(&events), pod("containerd://i1", true, fails));
        probes.sync(&pod, &observed, false);
        for _ in 0..1000 {
            if probes.verdicts(&pod, &observed).1.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("a probe that fails takes readiness away");
    }
}
