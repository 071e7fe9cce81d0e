//! The end of a pod: withdrawn from load balancing, stopped, cleaned up, deleted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use xebec_types::core::Pod;

use super::{Desired, Worker};
use crate::config::Withdrawal;
use crate::observed::{Instance, Observed, observe};
use crate::pod::{self, PodRef};
use crate::status_manager::Written;
use crate::{cgroup, lifecycle, qos, volume};

/// upstream gives a container at least this after its preStop hook.
const GRACE_MIN: Duration = Duration::from_secs(2);

impl Worker {
    /// Returns when nothing of the pod is left, here or in the API.
    pub(super) async fn terminate(&mut self) {
        let mut failures: u32 = 0;
        loop {
            let desired = self.desired.borrow_and_update().clone();
            if self.stop(&desired).await && self.delete().await {
                break;
            }
            failures += 1;
            tokio::time::sleep(Duration::from_millis(100 << failures.min(6))).await;
        }
        self.remove_all().await;
    }

    /// Stops containers and sandboxes and gives everything back; false when it has to be tried again.
    async fn stop(&mut self, desired: &Desired) -> bool {
        let pod = &desired.pod;
        let Ok(observed) = self.observe().await else { return false };
        self.kubelet.probes.sync(pod, &observed, true);
        if self.withdrawal.is_none() {
            let withdrawal = self.withdraw(&observed).await;
            let served = withdrawal != Withdrawal::NotServed;
            self.withdrawal = Some(withdrawal);
            if served {
                self.publish(pod, &observed, false);
            }
        }
        if observed.running().next().is_some() {
            let mut changes = self.desired.clone();
            let grace = desired.grace();
            tokio::select! {
                () = self.stop_all(pod, &observed, grace) => {}
                // `kubectl delete --now` while a long grace period runs.
                _ = async { changes.wait_for(|d| d.grace() < grace).await.map(drop) } => return false,
            }
        }
        let Ok(observed) = self.observe().await else { return false };
        if observed.running().next().is_some() || !self.reclaim(pod, &observed).await {
            return false;
        }
        self.kubelet.probes.remove(&self.reference.uid);
        self.waiting.clear();
        let pod = Arc::clone(&self.desired.borrow().pod);
        self.publish(&pod, &observed, true);
        true
    }

    async fn observe(&self) -> Result<Observed, ()> {
        observe(&*self.kubelet.runtime, &self.reference.uid).await.map_err(|error| {
            tracing::warn!(pod = %self.reference, error = error.message(), "observe");
        })
    }

    /// Load balancers everywhere let go of the pod before it is told to stop.
    async fn withdraw(&self, observed: &Observed) -> Withdrawal {
        let Some(withdraw) = self.kubelet.config.withdraw.clone().filter(|_| observed.running().next().is_some())
        else {
            return Withdrawal::NotServed;
        };
        let limit = self.kubelet.config.withdraw_timeout;
        let withdrawal = withdraw.withdraw(&self.reference, limit).await;
        if let Withdrawal::TimedOut(why) = &withdrawal {
            tracing::warn!(pod = %self.reference, why, "the pod was not withdrawn in time");
        }
        withdrawal
    }

    /// Containers side by side; sidecars after them, last started first.
    pub(super) async fn stop_all(&self, pod: &Arc<Pod>, observed: &Observed, grace: Duration) {
        let deadline = Instant::now() + grace;
        let is_sidecar = |i: &&Instance| pod::find_container(pod, &i.name).is_some_and(pod::is_sidecar);
        let message = |i: &Instance| format!("Stopping container {}", i.name);
        let main = observed.running().filter(|i| !is_sidecar(i));
        join_all(main.map(|i| async move { self.kill_container(pod, &i.id, &i.name, &message(i), grace).await })).await;
        let order = |name: &str| pod::init_containers(pod).iter().position(|c| c.name == name);
        let mut sidecars: Vec<&Instance> = observed.running().filter(is_sidecar).collect();
        sidecars.sort_by_key(|i| std::cmp::Reverse(order(&i.name)));
        for sidecar in sidecars {
            let left = deadline.saturating_duration_since(Instant::now()).max(GRACE_MIN.min(grace));
            self.kill_container(pod, &sidecar.id, &sidecar.name, &message(sidecar), left).await;
        }
    }

    /// preStop, SIGTERM, and SIGKILL when the grace period is over.
    pub(super) async fn kill_container(&self, pod: &Arc<Pod>, id: &str, name: &str, message: &str, grace: Duration) {
        self.kubelet.recorder.container_normal(pod, name, "Killing", message);
        let started = Instant::now();
        if let Some(handler) = lifecycle::pre_stop(pod, name)
            && let Some(container) = pod::find_container(pod, name)
        {
            let ip = pod.status.as_ref().and_then(|s| s.pod_ip.clone()).unwrap_or_else(|| "127.0.0.1".to_owned());
            let target = lifecycle::target(pod, container, id, ip);
            if let Err(why) = lifecycle::run(&*self.kubelet.runtime, handler, &target, grace).await {
                let message = format!("PreStopHook failed: {why}");
                self.kubelet.recorder.container_warning(pod, name, "FailedPreStopHook", &message);
            }
        }
        let left = grace.saturating_sub(started.elapsed()).max(GRACE_MIN.min(grace));
        if let Err(error) = self.kubelet.runtime.stop_container(id, left).await
            && !error.is_not_found()
        {
            tracing::warn!(pod = %self.reference, container = name, error = error.message(), "stop container");
        }
    }

    /// Stops the sandboxes and gives back volumes and cgroups. What is left for a later round is false.
    pub(super) async fn reclaim(&mut self, pod: &Pod, observed: &Observed) -> bool {
        for sandbox in &observed.sandboxes {
            // Also one that is not ready: stopping it releases its network.
            if let Err(error) = self.kubelet.runtime.stop_pod_sandbox(&sandbox.id).await
                && !error.is_not_found()
            {
                let message = format!("error killing pod: {}", error.message());
                self.kubelet.recorder.pod_warning(pod, "FailedKillPod", &message);
                return false;
            }
        }
        self.volumes = None;
        self.volumes_at = None;
        remove_volumes(&self.kubelet.config.pod_dir(&self.reference.uid));
        if !self.kubelet.machine.real {
            return true;
        }
        let path = cgroup::pod_path(&self.kubelet.config.cgroup_root, qos::class(pod), &self.reference.uid);
        for pause in [0_u64, 5, 20, 50, 100] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if cgroup::remove(&path) {
                return true;
            }
        }
        // A process that the kernel has not reaped yet: the collector comes back for it.
        tracing::debug!(path, "the pod's cgroup is still busy");
        true
    }

    /// The last word to the API server: the final status, then the object goes.
    async fn delete(&self) -> bool {
        let desired = self.desired.borrow().clone();
        if desired.gone {
            return true;
        }
        self.status.flush(Duration::from_secs(5)).await;
        match self.kubelet.pod_api.delete(&self.reference).await {
            Ok(Written::Done | Written::Gone) => true,
            Err(error) => {
                tracing::warn!(pod = %self.reference, error, "delete pod");
                false
            }
        }
    }

    async fn remove_all(&mut self) {
        let reference: &PodRef = self.reference_of();
        remove_runtime_objects(&*self.kubelet.runtime, &reference.uid).await;
        remove_dirs(&self.kubelet.config, reference);
        self.kubelet.images.forget(&reference.uid);
        self.kubelet.objects.forget(&reference.uid);
    }
}

/// Removes the containers and sandboxes of a pod that is stopped.
pub(crate) async fn remove_runtime_objects(runtime: &dyn crate::runtime::Runtime, uid: &str) {
    let Ok(sandboxes) = runtime.list_pod_sandbox(Some(uid)).await else { return };
    for sandbox in sandboxes {
        // Takes the sandbox's containers with it.
        if let Err(error) = runtime.remove_pod_sandbox(&sandbox.id).await {
            tracing::warn!(sandbox = sandbox.id, error = error.message(), "remove sandbox");
        }
    }
}

/// Unmounts and removes what lies under a pod's directory but its containers' last words.
pub(crate) fn remove_volumes(pod_dir: &std::path::Path) {
    volume::unmount_below(pod_dir);
    remove(&pod_dir.join("volumes"));
}

pub(crate) fn remove_dirs(config: &crate::config::Config, pod: &PodRef) {
    let dir = config.pod_dir(&pod.uid);
    remove_volumes(&dir);
    remove(&dir);
    remove(&config.log_dir(pod));
}

pub(crate) fn remove(path: &std::path::Path) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "remove");
    }
}
