//! The container runtime as the kubelet needs it: one trait, served by containerd or by a fake.

mod fake;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use xebec_cri::event::Event;
use xebec_cri::exec::{AttachOptions, ExecOptions, Process};
use xebec_cri::{Channel, ImageClient, Result, RuntimeClient, v1};

pub use fake::Fake;

use crate::oom::OomKills;

/// Exit code of a process that SIGKILL ended.
const KILLED: i32 = 128 + 9;
const OOM_KILLED: &str = "OOMKilled";

/// Label and annotation keys that upstream's kubelet puts on sandboxes and containers.
pub mod key {
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
    pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    pub const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
}

/// What a kubelet asks of a runtime. Messages are CRI's.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    async fn version(&self) -> Result<v1::VersionResponse>;
    async fn status(&self) -> Result<v1::RuntimeStatus>;
    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig) -> Result<String>;
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;
    async fn pod_sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus>;
    /// Every sandbox, or those of one pod.
    async fn list_pod_sandbox(&self, uid: Option<&str>) -> Result<Vec<v1::PodSandbox>>;
    async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        pod: v1::PodSandboxConfig,
    ) -> Result<String>;
    async fn start_container(&self, id: &str) -> Result<()>;
    async fn update_container_resources(&self, id: &str, resources: v1::LinuxContainerResources) -> Result<()>;
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    async fn remove_container(&self, id: &str) -> Result<()>;
    async fn list_containers(&self, uid: Option<&str>) -> Result<Vec<v1::Container>>;
    async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus>;
    async fn container_stats(&self) -> Result<Vec<v1::ContainerStats>>;
    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<v1::ExecSyncResponse>;
    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<Process>;
    async fn attach_url(&self, id: &str, options: &AttachOptions) -> Result<String>;
    /// The cgroup that the sandbox was made in, below every hierarchy's root, if it was told one.
    async fn cgroup_parent(&self, sandbox: &str) -> Result<Option<PathBuf>>;
    /// The path of the sandbox's network namespace.
    async fn network_namespace(&self, sandbox: &str) -> Result<Option<PathBuf>>;
    async fn reopen_container_log(&self, id: &str) -> Result<()>;
    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>>;
    async fn list_images(&self) -> Result<Vec<v1::Image>>;
    async fn pull_image(&self, image: &str, auth: Option<v1::AuthConfig>) -> Result<String>;
    async fn remove_image(&self, image: &str) -> Result<()>;
    async fn image_fs_info(&self) -> Result<Vec<v1::FilesystemUsage>>;
    /// Events for as long as the receiver lives.
    fn events(&self) -> mpsc::Receiver<Event>;
}

/// containerd.
#[derive(Debug)]
pub struct Containerd {
    channel: Channel,
    runtime: RuntimeClient,
    images: ImageClient,
    /// FIFOs of exec sessions.
    fifo_dir: PathBuf,
    oom_kills: Mutex<OomKills>,
}

impl Containerd {
    pub fn new(endpoint: PathBuf, fifo_dir: PathBuf) -> Arc<Self> {
        let channel = xebec_cri::connect(endpoint);
        Arc::new(Self {
            runtime: RuntimeClient::new(channel.clone()),
            images: ImageClient::new(channel.clone()),
            channel,
            fifo_dir,
            oom_kills: Mutex::new(OomKills::open()),
        })
    }

    /// What containerd says of a sandbox beyond CRI: its configuration and OCI spec. `null` if it says nothing.
    async fn info(&self, sandbox: &str) -> Result<serde_json::Value> {
        let (_, info) = self.runtime.pod_sandbox_status(sandbox, true).await?;
        Ok(info.get("info").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
    }
}

fn of_pod(uid: Option<&str>) -> HashMap<String, String> {
    uid.map(|uid| (key::POD_UID.to_owned(), uid.to_owned())).into_iter().collect()
}

#[async_trait]
impl Runtime for Containerd {
    async fn version(&self) -> Result<v1::VersionResponse> {
        self.runtime.version().await
    }
    async fn status(&self) -> Result<v1::RuntimeStatus> {
        self.runtime.status().await
    }
    async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig) -> Result<String> {
        self.runtime.run_pod_sandbox(config).await
    }
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.runtime.stop_pod_sandbox(id).await
    }
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.runtime.remove_pod_sandbox(id).await
    }
    async fn pod_sandbox_status(&self, id: &str) -> Result<v1::PodSandboxStatus> {
        Ok(self.runtime.pod_sandbox_status(id, false).await?.0)
    }
    async fn list_pod_sandbox(&self, uid: Option<&str>) -> Result<Vec<v1::PodSandbox>> {
        self.runtime.list_pod_sandbox(of_pod(uid)).await
    }
    async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        pod: v1::PodSandboxConfig,
    ) -> Result<String> {
        self.runtime.create_container(sandbox, config, pod).await
    }
    async fn start_container(&self, id: &str) -> Result<()> {
        self.runtime.start_container(id).await
    }
    async fn update_container_resources(&self, id: &str, resources: v1::LinuxContainerResources) -> Result<()> {
        self.runtime.update_container_resources(id, resources).await
    }
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        self.runtime.stop_container(id, grace).await
    }
    async fn remove_container(&self, id: &str) -> Result<()> {
        self.runtime.remove_container(id).await
    }
    async fn list_containers(&self, uid: Option<&str>) -> Result<Vec<v1::Container>> {
        self.runtime.list_containers(of_pod(uid)).await
    }
    async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus> {
        let mut status = self.runtime.container_status(id).await?;
        if status.exit_code == KILLED && status.reason != OOM_KILLED {
            let oom_killed = self.oom_kills.lock().unwrap_or_else(PoisonError::into_inner).killed(id);
            if oom_killed {
                status.reason = OOM_KILLED.to_owned();
            }
        }
        Ok(status)
    }
    async fn container_stats(&self) -> Result<Vec<v1::ContainerStats>> {
        self.runtime.container_stats().await
    }
    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<v1::ExecSyncResponse> {
        self.runtime.exec_sync(id, command, timeout).await
    }
    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<Process> {
        xebec_cri::exec::exec(self.channel.clone(), id, options, &self.fifo_dir).await
    }
    async fn attach_url(&self, id: &str, options: &AttachOptions) -> Result<String> {
        self.runtime.attach_url(id, options).await
    }
    async fn cgroup_parent(&self, sandbox: &str) -> Result<Option<PathBuf>> {
        let info = self.info(sandbox).await?;
        Ok(info["config"]["linux"]["cgroup_parent"].as_str().map(PathBuf::from))
    }
    async fn network_namespace(&self, sandbox: &str) -> Result<Option<PathBuf>> {
        let info = self.info(sandbox).await?;
        let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().cloned().unwrap_or_default();
        Ok(namespaces.iter().find(|n| n["type"] == "network").and_then(|n| n["path"].as_str()).map(PathBuf::from))
    }
    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        self.runtime.reopen_container_log(id).await
    }
    async fn image_status(&self, image: &str) -> Result<Option<v1::Image>> {
        self.images.status(image).await
    }
    async fn list_images(&self) -> Result<Vec<v1::Image>> {
        self.images.list().await
    }
    async fn pull_image(&self, image: &str, auth: Option<v1::AuthConfig>) -> Result<String> {
        self.images.pull(image, auth).await
    }
    async fn remove_image(&self, image: &str) -> Result<()> {
        self.images.remove(image).await
    }
    async fn image_fs_info(&self) -> Result<Vec<v1::FilesystemUsage>> {
        self.images.fs_info().await
    }
    fn events(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(256);
        tokio::spawn(xebec_cri::event::watch(self.channel.clone(), sender));
        receiver
    }
}
