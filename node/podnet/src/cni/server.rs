//! The agent's side of the plugin.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::args::PodArgs;
use super::protocol::{Answer, Command, Failure, MESSAGE_BYTES_MAX, Request, code};
use super::result;
use crate::{Error, PodNetwork, PodRequest, Result};

/// A plugin writes its request at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// `None` on a node that leaves its cluster.
    network: Option<Arc<PodNetwork>>,
}

impl Server {
    /// Listens at `path`, for root only; the socket of an earlier run is replaced.
    pub fn bind(path: &Path, network: Arc<PodNetwork>) -> Result<Self> {
        Self::listen(path, Some(network))
    }

    /// As [`Server::bind`], for a node that leaves its cluster: without an answer to DEL the runtime removes no sandbox.
    /// The devices are [`crate::Node::remove`]'s; new pods are refused.
    pub fn bind_leaving(path: &Path) -> Result<Self> {
        Self::listen(path, None)
    }

    fn listen(path: &Path, network: Option<Arc<PodNetwork>>) -> Result<Self> {
        let failed = |operation| move |source| Error::File { operation, path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed("create the folder of"))?;
        }
        // Bound beside and renamed over, so that a plugin finds the old socket or the new one.
        let beside = path.with_extension("tmp");
        let _ = fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside).map_err(failed("listen at"))?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).map_err(failed("set the mode of"))?;
        fs::rename(&beside, path).map_err(failed("rename to"))?;
        Ok(Self { listener, path: path.to_owned(), network })
    }

    /// Serves until `stop`; requests that have begun are finished.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let mut requests = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let network = self.network.clone();
                        requests.spawn(async move {
                            if let Err(error) = serve(stream, network.as_deref()).await {
                                tracing::warn!(%error, "CNI plugin went away");
                            }
                        });
                    }
                    Err(source) => {
                        // Out of file descriptors: wait for requests to end rather than spin.
                        tracing::warn!(error = %source, path = %self.path.display(), "accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = requests.join_next(), if !requests.is_empty() => {}
            }
        }
        while requests.join_next().await.is_some() {}
        Ok(())
    }
}

async fn serve(mut stream: UnixStream, network: Option<&PodNetwork>) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut limited = (&mut stream).take(MESSAGE_BYTES_MAX);
    tokio::time::timeout(REQUEST_TIMEOUT, limited.read_to_end(&mut bytes)).await??;
    let answer = match serde_json::from_slice::<Request>(&bytes) {
        Ok(request) => answer(network, &request).await,
        Err(error) => Answer::Error(Failure::new(code::DECODING_FAILURE, "decode the plugin's request", error)),
    };
    stream.write_all(&serde_json::to_vec(&answer)?).await?;
    stream.shutdown().await
}

async fn answer(network: Option<&PodNetwork>, request: &Request) -> Answer {
    let started = Instant::now();
    match execute(network, request).await {
        Ok(value) => {
            tracing::debug!(command = ?request.command, container = request.container,
                micros = started.elapsed().as_micros() as u64, "CNI request");
            Answer::Result(value)
        }
        Err(error) => {
            let details = crate::error::chain(&error);
            tracing::warn!(command = ?request.command, container = request.container, error = details, "CNI request");
            let code = match error {
                Error::Exhausted { .. } => code::TRY_AGAIN_LATER,
                _ => code::FAILED,
            };
            Answer::Error(Failure::new(code, details, ""))
        }
    }
}

async fn execute(network: Option<&PodNetwork>, request: &Request) -> Result<Value> {
    let Some(network) = network else {
        return match request.command {
            Command::Del | Command::Gc => Ok(Value::Null),
            Command::Add | Command::Check | Command::Status => Err(Error::Leaving),
        };
    };
    match request.command {
        Command::Add => {
            let PodArgs { namespace, name, uid } = PodArgs::parse(&request.args);
            let attachment = network
                .add(&PodRequest {
                    container: request.container.clone(),
                    ifname: request.ifname.clone(),
                    netns: request.netns.clone(),
                    namespace,
                    name,
                    uid,
                })
                .await?;
            Ok(result::attached(&request.config.version, &request.netns, &request.ifname, &attachment))
        }
        Command::Del => network.del(&request.container, &request.ifname).await.map(|()| Value::Null),
        Command::Check => network.check(&request.container, &request.ifname).await.map(|()| Value::Null),
        Command::Status => Ok(Value::Null),
        Command::Gc => {
            let valid = request.config.valid_attachments.iter().flatten();
            let live = valid.map(|attachment| attachment.container.clone()).collect();
            network.collect_garbage(&live, Instant::now()).await.map(|_| Value::Null)
        }
    }
}
