//! CRI's runtime service.

use std::collections::HashMap;
use std::time::Duration;

use tonic::transport::Channel;

use crate::exec::AttachOptions;
use crate::v1::runtime_service_client::RuntimeServiceClient;
use crate::{Error, Result, v1};

/// CRI's runtime service, typed: one method per call, errors that name the object.
#[derive(Clone, Debug)]
pub struct RuntimeClient(RuntimeServiceClient<Channel>);

impl RuntimeClient {
    pub fn new(channel: Channel) -> Self {
        Self(RuntimeServiceClient::new(channel).max_decoding_message_size(16 << 20))
    }

    fn client(&self) -> RuntimeServiceClient<Channel> {
        self.0.clone()
    }

    pub async fn version(&self) -> Result<v1::VersionResponse> {
        let request = v1::VersionRequest { version: "v1".to_owned() };
        Ok(self.client().version(request).await.map_err(Error::rpc("runtime version", ""))?.into_inner())
    }

    /// The runtime's conditions (`RuntimeReady`, `NetworkReady`).
    pub async fn status(&self) -> Result<v1::RuntimeStatus> {
        let response = self
            .client()
            .status(v1::StatusRequest { verbose: false })
            .await
            .map_err(Error::rpc("runtime status", ""))?;
        Ok(response.into_inner().status.unwrap_or_default())
    }

    pub async fn run_pod_sandbox(&self, config: v1::PodSandboxConfig) -> Result<String> {
        let object = config.metadata.as_ref().map(|m| format!("{}/{}", m.namespace, m.name)).unwrap_or_default();
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        let response = self.client().run_pod_sandbox(request).await.map_err(Error::rpc("run pod sandbox", object))?;
        Ok(response.into_inner().pod_sandbox_id)
    }

    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.client().stop_pod_sandbox(request).await.map_err(Error::rpc("stop pod sandbox", id))?;
        Ok(())
    }

    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.client().remove_pod_sandbox(request).await.map_err(Error::rpc("remove pod sandbox", id))?;
        Ok(())
    }

    /// With `verbose`, `info["info"]` is containerd's JSON: the OCI spec with the path of the network namespace.
    pub async fn pod_sandbox_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<(v1::PodSandboxStatus, HashMap<String, String>)> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose };
        let response =
            self.client().pod_sandbox_status(request).await.map_err(Error::rpc("pod sandbox status", id))?.into_inner();
        Ok((response.status.unwrap_or_default(), response.info))
    }

    pub async fn list_pod_sandbox(&self, labels: HashMap<String, String>) -> Result<Vec<v1::PodSandbox>> {
        let filter = v1::PodSandboxFilter { label_selector: labels, ..Default::default() };
        let request = v1::ListPodSandboxRequest { filter: Some(filter) };
        Ok(self
            .client()
            .list_pod_sandbox(request)
            .await
            .map_err(Error::rpc("list pod sandboxes", ""))?
            .into_inner()
            .items)
    }

    pub async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String> {
        let object = config.metadata.as_ref().map(|m| m.name.clone()).unwrap_or_default();
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let response = self.client().create_container(request).await.map_err(Error::rpc("create container", object))?;
        Ok(response.into_inner().container_id)
    }

    pub async fn start_container(&self, id: &str) -> Result<()> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        self.client().start_container(request).await.map_err(Error::rpc("start container", id))?;
        Ok(())
    }

    /// Changes what a running container may use; zeroes leave a value as it is.
    pub async fn update_container_resources(&self, id: &str, resources: v1::LinuxContainerResources) -> Result<()> {
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            ..Default::default()
        };
        self.client().update_container_resources(request).await.map_err(Error::rpc("resize container", id))?;
        Ok(())
    }

    /// SIGTERM (or the image's STOPSIGNAL), then SIGKILL after `grace`.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let request = v1::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace.as_secs().try_into().unwrap_or(i64::MAX),
        };
        self.client().stop_container(request).await.map_err(Error::rpc("stop container", id))?;
        Ok(())
    }

    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        self.client().remove_container(request).await.map_err(Error::rpc("remove container", id))?;
        Ok(())
    }

    pub async fn list_containers(&self, labels: HashMap<String, String>) -> Result<Vec<v1::Container>> {
        let filter = v1::ContainerFilter { label_selector: labels, ..Default::default() };
        let request = v1::ListContainersRequest { filter: Some(filter) };
        Ok(self
            .client()
            .list_containers(request)
            .await
            .map_err(Error::rpc("list containers", ""))?
            .into_inner()
            .containers)
    }

    pub async fn container_status(&self, id: &str) -> Result<v1::ContainerStatus> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let response = self.client().container_status(request).await.map_err(Error::rpc("container status", id))?;
        Ok(response.into_inner().status.unwrap_or_default())
    }

    pub async fn container_stats(&self) -> Result<Vec<v1::ContainerStats>> {
        let request = v1::ListContainerStatsRequest { filter: None };
        Ok(self
            .client()
            .list_container_stats(request)
            .await
            .map_err(Error::rpc("container stats", ""))?
            .into_inner()
            .stats)
    }

    /// Runs `command` to its end; the runtime kills it after `timeout` (zero: never) and then answers `DeadlineExceeded`.
    pub async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<v1::ExecSyncResponse> {
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let request = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command,
            timeout: seconds.try_into().unwrap_or(i64::MAX),
        };
        Ok(self.client().exec_sync(request).await.map_err(Error::rpc("exec in container", id))?.into_inner())
    }

    /// The URL of containerd's own streaming server (`v4.channel.k8s.io`) for the container's main process.
    pub async fn attach_url(&self, id: &str, options: &AttachOptions) -> Result<String> {
        let AttachOptions { stdin, tty } = *options;
        let request = v1::AttachRequest { container_id: id.to_owned(), stdin, tty, stdout: true, stderr: !tty };
        Ok(self.client().attach(request).await.map_err(Error::rpc("attach to container", id))?.into_inner().url)
    }

    pub async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
        self.client().reopen_container_log(request).await.map_err(Error::rpc("reopen container log", id))?;
        Ok(())
    }
}
