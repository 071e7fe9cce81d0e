//! Starting one container: back-off, image, configuration, create, start, postStart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use xebec_cri::v1;
use xebec_types::core::{Container, Pod};
use xebec_types::time;

use super::Worker;
use super::sync::Retry;
use crate::container::{self, Inputs};
use crate::observed::{Observed, State, timestamp};
use crate::status::Waiting;
use crate::{env, lifecycle, pod, sandbox};

/// When a container that could not be configured or pulled is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// postStart has no limit upstream; something must end a hook that hangs.
const POST_START_MAX: Duration = Duration::from_secs(3600);

impl Worker {
    fn wait(&mut self, name: &str, reason: &str, message: &str, after: Duration) -> Retry {
        self.waiting.insert(name.to_owned(), Waiting { reason: reason.to_owned(), message: message.to_owned() });
        Retry(after)
    }

    pub(super) async fn start_container(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        name: &str,
    ) -> Result<(), Retry> {
        let Some(container) = pod::any_container(pod, name) else { return Ok(()) };
        let Some(sandbox) = observed.ready_sandbox().map(|s| s.id.clone()) else { return Err(Retry(Duration::ZERO)) };
        self.back_off(pod, observed, &container)?;
        let image = match self.kubelet.images.ensure(pod, &container).await {
            Ok(image) => image,
            Err(waiting) => {
                self.kubelet.recorder.container_warning(pod, name, "Failed", &format!("Error: {}", waiting.reason));
                let after = if waiting.reason == "ErrImagePull" { Duration::from_secs(2) } else { RETRY };
                return Err(self.wait(name, &waiting.reason, &waiting.message, after));
            }
        };
        let restart_count = restart_count(pod, observed, name);
        let config = match self.configure(pod, &container, observed, restart_count, &image).await {
            Ok(config) => config,
            Err(message) => {
                self.kubelet.recorder.container_warning(pod, name, "Failed", &format!("Error: {message}"));
                return Err(self.wait(name, "CreateContainerConfigError", &message, RETRY));
            }
        };
        let sandbox_config = sandbox::config(pod, observed.sandboxes[0].attempt, &self.kubelet.config);
        let id = self.create(pod, observed, name, &sandbox, config, sandbox_config).await?;
        if let Err(error) = self.kubelet.runtime.start_container(&id).await {
            let message = error.message();
            self.kubelet.recorder.container_warning(pod, name, "Failed", &format!("Error: {message}"));
            return Err(self.wait(name, "RunContainerError", &message, Duration::from_secs(1)));
        }
        self.waiting.remove(name);
        self.resize.actual.insert(id.clone(), container.resources.clone().unwrap_or_default());
        self.kubelet.recorder.container_normal(pod, name, "Started", "Container started");
        self.prune(observed, name).await;
        self.post_start(pod, &container, &id, observed).await
    }

    async fn create(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        name: &str,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, Retry> {
        // One that was created and never started holds the name of the next.
        if let Some(stale) = observed.newest(name).filter(|i| matches!(i.state, State::Created | State::Unknown)) {
            let _ = self.kubelet.runtime.remove_container(&stale.id).await;
        }
        match self.kubelet.runtime.create_container(sandbox, config, sandbox_config).await {
            Ok(id) => {
                self.kubelet.recorder.container_normal(pod, name, "Created", "Container created");
                Ok(id)
            }
            Err(error) => {
                let message = error.message();
                self.kubelet.recorder.container_warning(pod, name, "Failed", &format!("Error: {message}"));
                Err(self.wait(name, "CreateContainerError", &message, RETRY))
            }
        }
    }

    /// A container that ended lately waits: 10 s, doubled up to 300 s.
    fn back_off(&mut self, pod: &Pod, observed: &Observed, container: &Container) -> Result<(), Retry> {
        let name = &container.name;
        let exited = observed.newest(name).filter(|i| i.state == State::Exited);
        let Some(finished) = exited.and_then(|i| timestamp(i.finished_at)) else { return Ok(()) };
        let key = format!("{name}_{}", pod::container_hash(container));
        let now = time::now();
        let Some(left) = self.backoff.left(&key, finished, now) else {
            self.backoff.next(&key, finished, now);
            return Ok(());
        };
        let of = &self.reference;
        let place = format!("{}_{}({})", of.name, of.namespace, of.uid);
        let event = format!("Back-off restarting failed container {name} in pod {place}");
        self.kubelet.recorder.container_warning(pod, name, "BackOff", &event);
        let delay = self.backoff.delay(&key).as_secs();
        let delay = if delay < 60 { format!("{delay}s") } else { format!("{}m{}s", delay / 60, delay % 60) };
        let message = format!("back-off {delay} restarting failed container={name} pod={place}");
        Err(self.wait(name, "CrashLoopBackOff", &message, left))
    }

    async fn configure(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        observed: &Observed,
        restart_count: u32,
        image: &v1::Image,
    ) -> Result<v1::ContainerConfig, String> {
        let kubelet = &self.kubelet;
        let facts = self.facts(observed);
        let hosts =
            sandbox::hosts_file(pod, &kubelet.config.primary_first(observed.ips()), &kubelet.config.cluster_domain);
        let path = kubelet.config.pod_dir(&self.reference.uid).join("etc-hosts");
        // Containers share the file: it is written in place, and only when it differs.
        if std::fs::read_to_string(&path).ok().as_deref() != Some(hosts.as_str()) {
            std::fs::write(&path, hosts).map_err(|error| format!("write {}: {error}", path.display()))?;
        }
        let env = env::variables(pod, container, &facts, &*kubelet.objects).await.map_err(|error| error.to_string())?;
        let none = std::collections::HashMap::new();
        let target_id = match pod::target_container(pod, &container.name) {
            Some(target) => Some(running_id(observed, target)?),
            None => None,
        };
        let inputs = Inputs {
            pod,
            container,
            restart_count,
            env,
            volumes: self.volumes.as_ref().unwrap_or(&none),
            image,
            memory_capacity: kubelet.machine.memory_bytes(&kubelet.config),
            target_id,
        };
        container::config(&inputs, &kubelet.config).map_err(|error| error.to_string())
    }

    /// Of each container's dead instances only the newest stays, for its logs.
    async fn prune(&self, observed: &Observed, name: &str) {
        let dead = observed.containers.iter().filter(|i| i.name == name && i.state == State::Exited).skip(1);
        for instance in dead {
            if let Err(error) = self.kubelet.runtime.remove_container(&instance.id).await {
                tracing::debug!(container = instance.id, error = error.message(), "remove dead container");
            }
            let _ = std::fs::remove_file(&instance.log_path);
        }
    }

    async fn post_start(
        &mut self,
        pod: &Arc<Pod>,
        container: &Container,
        id: &str,
        observed: &Observed,
    ) -> Result<(), Retry> {
        let Some(handler) = lifecycle::post_start(container) else { return Ok(()) };
        let ip = observed.ips().first().map_or_else(|| self.kubelet.config.node_ip().to_string(), ToString::to_string);
        let target = lifecycle::target(pod, container, id, ip);
        let started = Instant::now();
        match lifecycle::run(&*self.kubelet.runtime, handler, &target, POST_START_MAX).await {
            Ok(()) => {
                tracing::debug!(pod = %self.reference, container = container.name, took = ?started.elapsed(), "postStart");
                Ok(())
            }
            Err(why) => {
                let message = format!("PostStartHook failed: {why}");
                self.kubelet.recorder.container_warning(pod, &container.name, "FailedPostStartHook", &message);
                let grace = Duration::from_secs(u64::try_from(pod::grace_period(pod)).unwrap_or(0).max(1));
                self.kill_container(pod, id, &container.name, "FailedPostStartHook", grace).await;
                Err(self.wait(&container.name, "PostStartHookError", &message, Duration::from_secs(1)))
            }
        }
    }
}

fn running_id(observed: &Observed, name: &str) -> Result<String, String> {
    let running = observed.newest(name).filter(|i| i.state == State::Running);
    running.map(|i| i.id.clone()).ok_or_else(|| format!("unable to find target container {name}: it does not run"))
}

/// One more than the newest instance had; a pod whose containers are gone goes on from its status.
fn restart_count(pod: &Pod, observed: &Observed, name: &str) -> u32 {
    if let Some(newest) = observed.newest(name) {
        let started = !matches!(newest.state, State::Created);
        return newest.restart_count + u32::from(started);
    }
    let status = pod.status.as_ref();
    let known =
        status.into_iter().flat_map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten());
    let before =
        known.filter(|s| s.name == name && s.container_id.is_some()).find_map(|s| u32::try_from(s.restart_count).ok());
    before.map_or(0, |count| count + 1)
}
