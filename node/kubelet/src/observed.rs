//! What the runtime says about one pod: upstream's `kubecontainer.PodStatus`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use xebec_cri::{Result, v1};
use xebec_types::time::Timestamp;

use crate::runtime::{Runtime, key};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Newest first; of one name, too.
    pub containers: Vec<Instance>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: i64,
    pub ips: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

/// One container that the runtime knows, dead or alive.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    pub restart_count: u32,
    pub state: State,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub image: String,
    pub image_id: String,
    pub reason: String,
    pub message: String,
    pub hash: String,
    pub log_path: PathBuf,
    /// Of the pod, for when its object is gone.
    pub grace_seconds: u64,
    pub(crate) termination: Termination,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Termination {
    path: String,
    from_logs: bool,
}

impl Observed {
    pub fn newest(&self, name: &str) -> Option<&Instance> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The instance before the newest.
    pub fn previous(&self, name: &str) -> Option<&Instance> {
        self.containers.iter().filter(|c| c.name == name).nth(1)
    }

    pub fn running(&self) -> impl Iterator<Item = &Instance> {
        self.containers.iter().filter(|c| c.state == State::Running)
    }

    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|s| s.ready)
    }

    pub fn ips(&self) -> &[IpAddr] {
        self.sandboxes.iter().find(|s| !s.ips.is_empty()).map(|s| s.ips.as_slice()).unwrap_or_default()
    }
}

/// Asks the runtime about one pod.
pub async fn observe(runtime: &dyn Runtime, uid: &str) -> Result<Observed> {
    let (sandboxes, containers) =
        tokio::try_join!(runtime.list_pod_sandbox(Some(uid)), runtime.list_containers(Some(uid)))?;
    let mut observed = Observed::default();
    for item in sandboxes {
        match runtime.pod_sandbox_status(&item.id).await {
            Ok(status) => observed.sandboxes.push(sandbox(&status)),
            // Removed between the two calls.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    for item in containers {
        match runtime.container_status(&item.id).await {
            Ok(status) => observed.containers.push(instance(status, item.pod_sandbox_id)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    observed.sandboxes.sort_by_key(|s| std::cmp::Reverse(s.created_at));
    observed.containers.sort_by_key(|c| std::cmp::Reverse(c.created_at));
    Ok(observed)
}

fn sandbox(status: &v1::PodSandboxStatus) -> Sandbox {
    let network = status.network.clone().unwrap_or_default();
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
    Sandbox {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map(|m| m.attempt).unwrap_or_default(),
        ready: status.state == v1::PodSandboxState::SandboxReady as i32,
        created_at: status.created_at,
        ips: all.filter_map(|ip| ip.parse().ok()).collect(),
    }
}

fn instance(status: v1::ContainerStatus, sandbox_id: String) -> Instance {
    let state = match v1::ContainerState::try_from(status.state) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => State::Running,
        Ok(v1::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    };
    let annotation = |name: &str| status.annotations.get(name).cloned().unwrap_or_default();
    let path = annotation(key::TERMINATION_MESSAGE_PATH);
    let host_path = status.mounts.iter().find(|m| m.container_path == path).map(|m| m.host_path.clone());
    let termination = Termination {
        path: host_path.unwrap_or_default(),
        from_logs: annotation(key::TERMINATION_MESSAGE_POLICY) == "FallbackToLogsOnError",
    };
    let mut instance = Instance {
        name: label(&status.labels, key::CONTAINER_NAME),
        restart_count: annotation(key::RESTART_COUNT).parse().unwrap_or_default(),
        hash: annotation(key::CONTAINER_HASH),
        grace_seconds: annotation(key::GRACE_PERIOD).parse().unwrap_or(30),
        sandbox_id,
        state,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        image: status.image.map(|i| i.image).unwrap_or_default(),
        image_id: status.image_ref,
        id: status.id,
        reason: status.reason,
        message: status.message,
        log_path: status.log_path.into(),
        termination,
    };
    if state == State::Exited {
        let own = instance.termination.read(&instance);
        if !own.is_empty() {
            instance.message = own;
        }
    }
    instance
}

fn label(labels: &HashMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

/// Upstream's limits for a termination message, from the file and from the end of the log.
const MESSAGE_BYTES_MAX: usize = 4096;
const MESSAGE_LOG_BYTES_MAX: usize = 2048;
const MESSAGE_LOG_LINES_MAX: usize = 80;

impl Termination {
    fn read(&self, of: &Instance) -> String {
        let text = std::fs::read(&self.path).map(|bytes| tail(&bytes, MESSAGE_BYTES_MAX)).unwrap_or_default();
        if text.is_empty() && self.from_logs && of.exit_code != 0 {
            return log_tail(&of.log_path);
        }
        text
    }
}

fn tail(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(max)..]).into_owned()
}

fn log_tail(path: &Path) -> String {
    let log = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let last = lines[lines.len().saturating_sub(MESSAGE_LOG_LINES_MAX)..].join("\n");
    tail(last.as_bytes(), MESSAGE_LOG_BYTES_MAX)
}

/// CRI's nanoseconds; zero is "never".
pub fn timestamp(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then(|| Timestamp::from_nanosecond(nanos.into()).ok()).flatten()
}

#[cfg(test)]
impl Instance {
    pub fn sample(name: &str, state: State) -> Self {
        Self {
            id: format!("{name}-id"),
            name: name.to_owned(),
            sandbox_id: "s0".to_owned(),
            restart_count: 0,
            state,
            created_at: 1,
            started_at: 1_000_000_000,
            finished_at: 2_000_000_000,
            exit_code: 0,
            image: "image".to_owned(),
            image_id: "sha256:1".to_owned(),
            reason: String::new(),
            message: String::new(),
            hash: String::new(),
            log_path: PathBuf::new(),
            grace_seconds: 30,
            termination: Termination::default(),
        }
    }
}
