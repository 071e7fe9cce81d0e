//! exec through containerd's Tasks API: what CRI's streaming server of 1.6 lacks (stdin half-close) needs only FIFOs and `CloseIO`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, ExecProcessRequest, GetContainerRequest, KillRequest, ResizePtyRequest,
    StartRequest, WaitRequest,
};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tokio::net::unix::pipe;
use tonic::transport::Channel;

use crate::{Error, Result, request};

/// The type URL containerd registers for an OCI process.
const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Which streams of a container's main process are wanted beside its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    pub stdin: bool,
    pub tty: bool,
}

/// What to run and which of its streams the caller wants.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    pub command: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A started process. Its streams are taken by the caller; `wait` ends it.
#[derive(Debug)]
pub struct Process {
    control: Control,
    pub stdin: Option<pipe::Sender>,
    pub stdout: Option<pipe::Receiver>,
    pub stderr: Option<pipe::Receiver>,
    _fifos: Fifos,
}

/// The calls that may run while the streams are being copied.
#[derive(Clone, Debug)]
pub struct Control {
    tasks: TasksClient<Channel>,
    container_id: String,
    exec_id: String,
}

/// The FIFOs' directory, removed with the process.
#[derive(Debug)]
struct Fifos(PathBuf);

impl Drop for Fifos {
    fn drop(&mut self) {
        // Nothing to tell and nobody to tell it to: the directory lies in the kubelet's own root.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Fifos {
    fn create(dir: &Path, exec_id: &str) -> Result<Self> {
        let path = dir.join(exec_id);
        std::fs::create_dir_all(&path).map_err(Error::io("create directory", &path))?;
        Ok(Self(path))
    }

    fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| Error::io("create FIFO", &path)(errno.into()))?;
        Ok(path)
    }
}

fn text(path: Option<&PathBuf>) -> String {
    path.map(|p| p.display().to_string()).unwrap_or_default()
}

/// Starts `options.command` in a running container; `fifo_dir` is a directory of the caller's that containerd can reach.
pub async fn exec(channel: Channel, container_id: &str, options: &ExecOptions, fifo_dir: &Path) -> Result<Process> {
    let spec = process_spec(channel.clone(), container_id, options).await?;
    let exec_id = format!("xebec-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let fifos = Fifos::create(fifo_dir, &exec_id)?;
    // A terminal has one output stream.
    let stdin = options.stdin.then(|| fifos.make("stdin")).transpose()?;
    let stdout = options.stdout.then(|| fifos.make("stdout")).transpose()?;
    let stderr = (options.stderr && !options.tty).then(|| fifos.make("stderr")).transpose()?;
    // Receivers are opened before the shim is, so that its writers never wait, and read only after Start, when the shim holds the
    // other end: a FIFO without a writer reads as ended.
    let open = |path: &Option<PathBuf>| {
        path.as_ref().map(|p| pipe::OpenOptions::new().open_receiver(p).map_err(Error::io("open FIFO", p))).transpose()
    };
    let (receive_out, receive_err) = (open(&stdout)?, open(&stderr)?);
    let send_in = stdin
        .as_ref()
        .map(|p| pipe::OpenOptions::new().read_write(true).open_sender(p).map_err(Error::io("open FIFO", p)))
        .transpose()?;
    let mut tasks = TasksClient::new(channel);
    let exec = ExecProcessRequest {
        container_id: container_id.to_owned(),
        exec_id: exec_id.clone(),
        stdin: text(stdin.as_ref()),
        stdout: text(stdout.as_ref()),
        stderr: text(stderr.as_ref()),
        terminal: options.tty,
        spec: Some(prost_types::Any { type_url: PROCESS_TYPE.to_owned(), value: spec.to_string().into_bytes() }),
    };
    tasks.exec(request(exec, None)).await.map_err(Error::rpc("exec in container", container_id))?;
    let control = Control { tasks, container_id: container_id.to_owned(), exec_id };
    if let Err(error) = control.start().await {
        control.delete().await;
        return Err(error);
    }
    Ok(Process { control, stdin: send_in, stdout: receive_out, stderr: receive_err, _fifos: fifos })
}

/// The container's own process with another command, as containerd's CRI plugin derives it.
async fn process_spec(channel: Channel, container_id: &str, options: &ExecOptions) -> Result<Value> {
    let get = GetContainerRequest { id: container_id.to_owned() };
    let container = ContainersClient::new(channel)
        .get(request(get, None))
        .await
        .map_err(Error::rpc("get container", container_id))?;
    let any = container.into_inner().container.and_then(|c| c.spec).unwrap_or_default();
    let mut spec: Value = serde_json::from_slice(&any.value)
        .map_err(|source| Error::Json { what: format!("spec of {container_id}"), source })?;
    let mut process = spec["process"].take();
    process["args"] = options.command.clone().into();
    process["terminal"] = options.tty.into();
    if options.tty
        && let Some(env) = process["env"].as_array_mut()
    {
        env.push("TERM=xterm".into());
    }
    Ok(process)
}

impl Control {
    async fn start(&self) -> Result<()> {
        let start = StartRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone() };
        self.tasks
            .clone()
            .start(request(start, None))
            .await
            .map_err(Error::rpc("start process in", &self.container_id))?;
        Ok(())
    }

    /// Stdin has ended: the shim drops its own writer, and the process reads to the end once ours is dropped too.
    pub async fn close_stdin(&self) -> Result<()> {
        let close =
            CloseIoRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone(), stdin: true };
        self.tasks.clone().close_io(request(close, None)).await.map_err(Error::rpc("close stdin of", &self.exec_id))?;
        Ok(())
    }

    pub async fn resize(&self, width: u16, height: u16) -> Result<()> {
        let (container_id, exec_id) = (self.container_id.clone(), self.exec_id.clone());
        let resize = ResizePtyRequest { container_id, exec_id, width: width.into(), height: height.into() };
        self.tasks
            .clone()
            .resize_pty(request(resize, None))
            .await
            .map_err(Error::rpc("resize terminal of", &self.exec_id))?;
        Ok(())
    }

    pub async fn kill(&self, signal: u32) -> Result<()> {
        let kill =
            KillRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone(), signal, all: false };
        self.tasks.clone().kill(request(kill, None)).await.map_err(Error::rpc("kill", &self.exec_id))?;
        Ok(())
    }

    async fn delete(&self) {
        let delete = DeleteProcessRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone() };
        if let Err(status) = self.tasks.clone().delete_process(request(delete, None)).await {
            tracing::debug!(exec = self.exec_id, error = status.message(), "delete process");
        }
    }

    /// The exit code. A containerd that dies meanwhile is asked again: the shim and the process live on.
    pub async fn wait(&self) -> Result<i32> {
        let mut attempts = 0;
        loop {
            let wait = WaitRequest { container_id: self.container_id.clone(), exec_id: self.exec_id.clone() };
            match self.tasks.clone().wait(request(wait, None)).await {
                Ok(response) => {
                    self.delete().await;
                    return Ok(response.into_inner().exit_status.try_into().unwrap_or(255));
                }
                Err(status)
                    if attempts < 20
                        && matches!(
                            status.code(),
                            tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled
                        ) =>
                {
                    attempts += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
                }
                Err(status) => return Err(Error::rpc("wait for process", &self.exec_id)(status)),
            }
        }
    }
}

impl Process {
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits for the exit code and forgets the process.
    pub async fn wait(&self) -> Result<i32> {
        self.control.wait().await
    }
}
