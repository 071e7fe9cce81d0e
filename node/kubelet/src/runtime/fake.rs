//! A runtime that only remembers: for unit tests and hollow nodes. Containers run until they are stopped, or end as a test says.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use xebec_cri::event::Event;
use xebec_cri::exec::{AttachOptions, ExecOptions, Process};
use xebec_cri::{Error, Result, v1};

use super::{Runtime, key};

#[derive(Default)]
struct Memory {
    sandboxes: BTreeMap<String, v1::PodSandboxStatus>,
    cgroup_parents: BTreeMap<String, String>,
    containers: BTreeMap<String, (String, v1::ContainerStatus)>,
    listeners: Vec<mpsc::Sender<Event>>,
}

/// Pods get addresses from `first` on.
pub struct Fake {
    memory: Mutex<Memory>,
    first: u32,
    next: AtomicU32,
}

fn now() -> i64 {
    std::time::UNIX_EPOCH.elapsed().ok().and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or_default()
}

fn unknown(what: &str, id: &str) -> Error {
    Error::Archive(format!("{what} {id}: not found"))
}

fn of_pod(labels: &HashMap<String, String>, uid: Option<&str>) -> bool {
    uid.is_none_or(|uid| labels.get(key::POD_UID).is_some_and(|known| known == uid))
}

impl Fake {
    pub fn new(first: Ipv4Addr) -> Arc<Self> {
        Arc::new(Self { memory: Mutex::default(), first: first.into(), next: AtomicU32::new(0) })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends a container as if its process had exited.
    pub fn exit(&self, id: &str, exit_code: i32) {
        let mut memory = self.memory();
        let Some((_, status)) = memory.containers.get_mut(id) else { return };
        if status.state != v1::ContainerState::ContainerRunning as i32 {
            return;
        }
        status.state = v1::ContainerState::ContainerExited.into();
        status.exit_code = exit_code;
        status.finished_at = now();
        let exit_status = u32::try_from(exit_code).unwrap_or(255);
        memory.listeners.retain(|l| !l.is_closed());
        for listener in &memory.listeners {
            // A full queue is what the slow relist is for.
            let _ = listener.try_send(Event::Exited { container_id: id.to_owned(), exit_status });
        }
    }
}

#[async_trait]
impl Runtime for Fake {
    async fn version(&self) -> Result<v1::VersionResponse> {
        let (runtime_name, runtime_version) = ("fake".to_owned(), "0.1.0".to_owned());
        Ok(v1::VersionResponse { runtime_name, runtime_version, ..v1::VersionResponse::default() })
    }
    async fn status(&self) -> Result<v1::RuntimeStatus> {
        Ok(v1::RuntimeStatus::default())
    }
    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig) -> Result<String> {
        let id = self.id("sandbox");
        let number = self.first + self.next.load(Ordering::Relaxed);
        let status = v1::PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: v1::PodSandboxState::SandboxReady.into(),
            created_at: now(),
            network: Some(v1::PodSandboxNetworkStatus { ip: Ipv4Addr::from(number).to_string(), ..Default::default() }),
            labels: config.labels,
            annotations: config.annotations,
            ..v1::PodSandboxStatus::default()
        };
        let mut memory = self.memory();
        memory.sandboxes.insert(id.clone(), status);
        memory.cgroup_parents.extend(config.linux.map(|linux| (id.clone(), linux.cgroup_parent)));
        Ok(id)
    }
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        if let Some(sandbox) = self.memory().sandboxes.get_mut(id) {
            sandbox.state = v1::PodSandboxState::SandboxNotready.into();
        }
        let of_sandbox: Vec<String> =
            self.memory().containers.iter().filter(|(_, (s, _))| s == id).map(|(id, _)| id.clone()).collect();
        of_sandbox.iter().for_each(|container| self.exit(container, 137));
        Ok(())
    }
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let mut memory = self.memory();
        memory.sandboxes.remove(id);
        memory.cgroup_parents.remove(id);
        memory.containers.retain(|_, (sandbox, _)| sandbox != id);
        Ok(())
    }
    async fn pod_sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus> {
        self.memory().sandboxes.get(id).cloned().ok_or_else(|| unknown("sandbox", id))
    }
    async fn list_pod_sandbox(&self, uid: Option<&str>) -> Result<Vec<v1::PodSandbox>> {
        let memory = self.memory();
        let list = memory.sandboxes.values().filter(|s| of_pod(&s.labels, uid)).cloned().map(|s| v1::PodSandbox {
            id: s.id,
            metadata: s.metadata,
            state: s.state,
            created_at: s.created_at,
            labels: s.labels,
            annotations: s.annotations,
            runtime_handler: String::new(),
        });
        Ok(list.collect())
    }
    async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        pod: v1::PodSandboxConfig,
    ) -> Result<String> {
        let id = self.id("container");
        let status = v1::ContainerStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: v1::ContainerState::ContainerCreated.into(),
            created_at: now(),
            image_ref: config.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
            image: config.image.map(|i| v1::ImageSpec { image: i.user_specified_image, ..Default::default() }),
            labels: config.labels,
            annotations: config.annotations,
            mounts: config.mounts,
            log_path: format!("{}/{}", pod.log_directory, config.log_path),
            ..v1::ContainerStatus::default()
        };
        self.memory().containers.insert(id.clone(), (sandbox.to_owned(), status));
        Ok(id)
    }
    async fn start_container(&self, id: &str) -> Result<()> {
        let mut memory = self.memory();
        let (_, status) = memory.containers.get_mut(id).ok_or_else(|| unknown("container", id))?;
        status.state = v1::ContainerState::ContainerRunning.into();
        status.started_at = now();
        Ok(())
    }
    async fn update_container_resources(&self, id: &str, resources: v1::LinuxContainerResources) -> Result<()> {
        let mut memory = self.memory();
        let (_, status) = memory.containers.get_mut(id).ok_or_else(|| unknown("container", id))?;
        status.resources = Some(v1::ContainerResources { linux: Some(resources), ..Default::default() });
        Ok(())
    }
    async fn stop_container(&self, id: &str, _grace: Duration) -> Result<()> {
        self.exit(id, 0);
        Ok(())
    }
    async fn remove_container(&self, id: &str) -> Result<()> {
        self.memory().containers.remove(id);
        Ok(())
    }
    async fn list_containers(&self, uid: Option<&str>) -> Result<Vec<v1::Container>> {
        let memory = self.memory();
        let list =
            memory.containers.values().filter(|(_, s)| of_pod(&s.labels, uid)).cloned().map(|(pod_sandbox_id, s)| {
                v1::Container {
                    id: s.id,
                    pod_sandbox_id,
                    metadata: s.metadata,
                    state: s.state,
                    created_at: s.created_at,
                    labels: s.labels,
                    ..v1::Container::default()
                }
            });
        Ok(list.collect())
    }
    async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus> {
        self.memory().containers.get(id).map(|(_, status)| status.clone()).ok_or_else(|| unknown("container", id))
    }
    async fn container_stats(&self) -> Result<Vec<v1::ContainerStats>> {
        Ok(Vec::new())
    }
    async fn exec_sync(&self, _id: &str, _command: Vec<String>, _timeout: Duration) -> Result<v1::ExecSyncResponse> {
        Ok(v1::ExecSyncResponse::default())
    }
    async fn exec(&self, id: &str, _options: &ExecOptions) -> Result<Process> {
        Err(unknown("process in hollow container", id))
    }
    async fn attach_url(&self, id: &str, _options: &AttachOptions) -> Result<String> {
        Err(unknown("streams of hollow container", id))
    }
    async fn cgroup_parent(&self, sandbox: &str) -> Result<Option<PathBuf>> {
        Ok(self.memory().cgroup_parents.get(sandbox).map(PathBuf::from))
    }
    async fn network_namespace(&self, _sandbox: &str) -> Result<Option<PathBuf>> {
        Ok(None)
    }
    async fn reopen_container_log(&self, _id: &str) -> Result<()> {
        Ok(())
    }
    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>> {
        Ok(Some(v1::Image { id: image.to_owned(), uid: Some(v1::Int64Value { value: 1000 }), ..v1::Image::default() }))
    }
    async fn list_images(&self) -> Result<Vec<v1::Image>> {
        Ok(Vec::new())
    }
    async fn pull_image(&self, image: &str, _: Option<v1::AuthConfig>) -> Result<String> {
        Ok(image.to_owned())
    }
    async fn remove_image(&self, _: &str) -> Result<()> {
        Ok(())
    }
    async fn image_fs_info(&self) -> Result<Vec<v1::FilesystemUsage>> {
        Ok(Vec::new())
    }
    fn events(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(256);
        self.memory().listeners.push(sender);
        receiver
    }
}
