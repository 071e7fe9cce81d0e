//! One look at a pod that should run.

use std::sync::Arc;
use std::time::Duration;

use xebec_types::core::Pod;
use xebec_types::pod as api_pod;

use super::{RESYNC, Worker};
use crate::actions::{self, Actions, Because};
use crate::ended::Ended;
use crate::observed::{Observed, observe};
use crate::pod::{self, PodRef};
use crate::qos;
use crate::{cgroup, sandbox, volume};

/// A sync that could not do all; the message was told in an event.
pub(super) struct Retry(pub Duration);

/// When a resize that was deferred is looked at again.
const PENDING: Duration = Duration::from_secs(5);

/// sethostname(2): `__NEW_UTS_LEN`.
const HOSTNAME_MAX: usize = 64;

/// Doubles from a quarter of a second to ten seconds.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(250 << failures.min(6)).min(Duration::from_secs(10))
}

impl Worker {
    /// Does what the pod needs; answers when to look again if nothing happens before.
    pub(super) async fn sync(&mut self, pod: &Arc<Pod>) -> Duration {
        let mut next = RESYNC;
        // A step may make another possible: the sandbox first, then containers.
        for _ in 0..8 {
            let observed = match observe(&*self.kubelet.runtime, &self.reference.uid).await {
                Ok(observed) => observed,
                Err(error) => {
                    tracing::warn!(pod = %self.reference, error = error.message(), "observe");
                    self.failures += 1;
                    return pause(self.failures);
                }
            };
            if self.finished || api_pod::is_terminal(pod) || self.is_ended(pod) {
                self.finish(pod, &observed).await;
                return RESYNC;
            }
            self.kubelet.probes.sync(pod, &observed, false);
            let (mut verdicts, _) = self.kubelet.probes.verdicts(pod, &observed);
            verdicts.resized = self.survey(pod, &observed);
            let actions = actions::compute(pod, &observed, &verdicts);
            self.publish(pod, &observed, false);
            if actions.kill_pod {
                self.finish(pod, &observed).await;
                return RESYNC;
            }
            if actions == Actions::default() {
                match self.resize_in_place(pod, &observed).await {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(Retry(after)) => {
                        self.publish(pod, &observed, false);
                        return after;
                    }
                }
                if self.resize.pending.is_some() {
                    // Room may come with every pod that goes.
                    next = next.min(PENDING);
                }
                return self.refresh_volumes(pod, &observed).await.unwrap_or(next);
            }
            match self.apply(pod, &observed, actions).await {
                Ok(true) => self.failures = 0,
                Ok(false) => return next,
                Err(Retry(after)) => {
                    next = next.min(after);
                    // What became of it is shown at once.
                    if let Ok(observed) = observe(&*self.kubelet.runtime, &self.reference.uid).await {
                        self.kubelet.probes.sync(pod, &observed, false);
                        self.publish(pod, &observed, false);
                    }
                    return next;
                }
            }
        }
        next.min(Duration::from_millis(100))
    }

    /// Whether the node ends the pod: it was evicted, or its deadline is over.
    fn is_ended(&mut self, pod: &Pod) -> bool {
        if self.ended().is_some() {
            return true;
        }
        if self.deadline_left(pod) != Some(Duration::ZERO) {
            return false;
        }
        let ended = Ended::deadline_exceeded();
        self.kubelet.recorder.pod_normal(pod, ended.reason, &ended.message);
        self.kubelet.end_pod(&self.reference.uid, ended);
        true
    }

    /// True when something was done and the pod should be looked at again.
    async fn apply(&mut self, pod: &Arc<Pod>, observed: &Observed, actions: Actions) -> Result<bool, Retry> {
        for kill in &actions.kill {
            let grace = self.kill_grace(pod, &kill.name, kill.because);
            self.kill_container(pod, &kill.id, &kill.name, &kill.message, grace).await;
        }
        if let Some(attempt) = actions.create_sandbox {
            self.new_sandbox(pod, observed, attempt).await?;
            return Ok(true);
        }
        self.mount_volumes(pod, observed).await?;
        let mut retry: Option<Duration> = None;
        for name in actions.start_init.iter().chain(&actions.start).chain(&actions.start_ephemeral) {
            if let Err(Retry(after)) = self.start_container(pod, observed, name).await {
                retry = Some(retry.map_or(after, |known| known.min(after)));
            }
        }
        match retry {
            Some(after) => Err(Retry(after)),
            None => Ok(true),
        }
    }

    fn kill_grace(&self, pod: &Pod, name: &str, because: Because) -> Duration {
        let probe = match because {
            Because::Probe("startup") => pod::find_container(pod, name).and_then(|c| c.startup_probe.as_ref()),
            Because::Probe(_) => pod::find_container(pod, name).and_then(|c| c.liveness_probe.as_ref()),
            _ => None,
        };
        let seconds = probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or_else(|| pod::grace_period(pod));
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
    }

    /// The directories, cgroup and volumes of the pod are made while the runtime makes the sandbox.
    async fn new_sandbox(&mut self, pod: &Arc<Pod>, observed: &Observed, attempt: u32) -> Result<(), Retry> {
        for old in observed.sandboxes.iter().filter(|s| s.ready) {
            if let Err(error) = self.kubelet.runtime.stop_pod_sandbox(&old.id).await {
                return Err(self.failed(pod, "FailedKillPod", &format!("error killing pod: {}", error.message())));
            }
        }
        if !pod::host_network(pod) {
            self.network(pod).await;
        }
        if let Some(why) = pod::unserved_claims(pod) {
            let message = format!("Failed to prepare dynamic resources: {why}");
            return Err(self.failed(pod, "FailedPrepareDynamicResources", &message));
        }
        if let Err(error) = self.prepare(pod) {
            return Err(self.failed(
                pod,
                "FailedCreatePodContainer",
                &format!("unable to prepare the pod's directories: {error}"),
            ));
        }
        let hostname = sandbox::hostname(pod, &self.kubelet.config);
        if hostname.len() > HOSTNAME_MAX {
            let message = format!(
                "Failed to create pod sandbox: failed to construct FQDN from pod hostname and cluster domain, FQDN {hostname} is too long ({HOSTNAME_MAX} characters is the max, {} characters requested)",
                hostname.len()
            );
            return Err(self.failed(pod, "FailedCreatePodSandBox", &message));
        }
        let config = sandbox::config(pod, attempt, &self.kubelet.config);
        let runtime = Arc::clone(&self.kubelet.runtime);
        // The sandbox takes longest; volumes that fail are tried again without it.
        let (ran, mounted) = tokio::join!(runtime.run_pod_sandbox(config), self.mount_volumes(pod, observed));
        if let Err(error) = ran {
            return Err(self.failed(
                pod,
                "FailedCreatePodSandBox",
                &format!("Failed to create pod sandbox: {}", error.message()),
            ));
        }
        if attempt > 0 {
            self.kubelet.recorder.pod_normal(
                pod,
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.",
            );
        }
        mounted
    }

    /// Waits for the pod network, and says so.
    async fn network(&self, pod: &Pod) {
        let mut ready = self.kubelet.config.network_ready.clone();
        if !*ready.borrow() {
            let message = "network is not ready: container runtime network not ready: NetworkReady=false";
            self.kubelet.recorder.pod_warning(pod, "NetworkNotReady", message);
        }
        // The sender lives as long as the agent: when it is gone nothing starts any more.
        if ready.wait_for(|ready| *ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn failed(&mut self, pod: &Pod, reason: &str, message: &str) -> Retry {
        self.kubelet.recorder.pod_warning(pod, reason, message);
        self.failures += 1;
        Retry(pause(self.failures))
    }

    fn prepare(&self, pod: &Pod) -> std::io::Result<()> {
        let config = &self.kubelet.config;
        std::fs::create_dir_all(config.pod_dir(&self.reference.uid))?;
        std::fs::create_dir_all(config.log_dir(&self.reference))?;
        if self.kubelet.machine.real {
            let path = cgroup::pod_path(&config.cgroup_root, qos::class(pod), &self.reference.uid);
            cgroup::set(&path, &qos::pod_amount(pod))?;
        }
        Ok(())
    }

    /// Volumes are made once before the first container and then renewed from time to time.
    async fn mount_volumes(&mut self, pod: &Arc<Pod>, observed: &Observed) -> Result<(), Retry> {
        if self.volumes.is_some() {
            return Ok(());
        }
        if !self.kubelet.machine.real {
            self.volumes = Some(volume::hollow(pod, &self.kubelet.config));
            return Ok(());
        }
        let facts = self.facts(observed);
        match volume::mount_all(pod, &self.kubelet.config, &facts, &*self.kubelet.objects).await {
            Ok(volumes) => {
                self.volumes = Some(volumes);
                self.volumes_at = Some(tokio::time::Instant::now());
                Ok(())
            }
            Err(error) => Err(self.failed(pod, "FailedMount", &error.to_string())),
        }
    }

    async fn refresh_volumes(&mut self, pod: &Arc<Pod>, observed: &Observed) -> Option<Duration> {
        let due = self.volumes_at.is_none_or(|at| at.elapsed() + Duration::from_secs(1) >= RESYNC);
        if !due || pod::spec(pod).volumes.is_none() || !self.kubelet.machine.real {
            return None;
        }
        let facts = self.facts(observed);
        self.volumes_at = Some(tokio::time::Instant::now());
        match volume::mount_all(pod, &self.kubelet.config, &facts, &*self.kubelet.objects).await {
            Ok(volumes) => self.volumes = Some(volumes),
            // What is mounted stays; the next round may succeed.
            Err(error) => self.kubelet.recorder.pod_warning(pod, "FailedMount", &error.to_string()),
        }
        None
    }

    /// Every container has ended for good: what the pod holds besides its logs is given back.
    async fn finish(&mut self, pod: &Arc<Pod>, observed: &Observed) {
        if self.finished {
            return;
        }
        // A node that is short of something cannot wait.
        let evicted = self.ended().is_some_and(|ended| ended.evicted);
        let seconds = if evicted { 0 } else { u64::try_from(pod::grace_period(pod)).unwrap_or(0) };
        self.stop_all(pod, observed, Duration::from_secs(seconds.max(1))).await;
        self.waiting.clear();
        if let Ok(observed) = observe(&*self.kubelet.runtime, &self.reference.uid).await {
            self.publish(pod, &observed, true);
            if self.reclaim(pod, &observed).await {
                self.finished = true;
            }
        }
    }

    pub(super) fn reference_of(&self) -> &PodRef {
        &self.reference
    }
}
