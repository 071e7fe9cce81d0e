//! `kubectl exec`: a process in a running container, its streams over WebSocket channels.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use xebec_cri::exec::{Control, ExecOptions, Process};

use super::session::{self, Input, RESIZE, Reader, STDERR, STDIN, STDOUT, Sender, Wanted};
use super::{Answer, Refused, find, running};
use crate::kubelet::Kubelet;

pub(super) async fn serve(
    kubelet: &Arc<Kubelet>,
    mut request: Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &[(String, String)],
) -> Result<Answer, Refused> {
    let wanted = Wanted::parse(query)?;
    let options = options(query, wanted)?;
    let (_, observed) = find(kubelet, namespace, pod).await?;
    let id = running(&observed, namespace, pod, container)?.id.clone();
    let (answer, pending) = session::negotiate(&mut request, wanted)?;
    let kubelet = Arc::clone(kubelet);
    tokio::spawn(async move {
        let Some((mut sender, reader)) = pending.connect().await else { return };
        let status = match kubelet.runtime.exec(&id, &options).await {
            Ok(process) => session(process, &mut sender, reader, options.tty).await,
            Err(error) => failure(&format!("error executing command in container: {}", error.message())),
        };
        sender.finish(&status).await;
    });
    Ok(answer)
}

fn options(query: &[(String, String)], wanted: Wanted) -> Result<ExecOptions, Refused> {
    let command: Vec<String> =
        query.iter().filter(|(key, _)| key == "command").map(|(_, value)| value.clone()).collect();
    if command.is_empty() {
        return Err(Refused(StatusCode::BAD_REQUEST, "you must specify a command".to_owned()));
    }
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    Ok(ExecOptions { command, tty, stdin, stdout, stderr })
}

/// Copies until the process ends; the answer is the Status of the error channel.
async fn session(mut process: Process, sender: &mut Sender, reader: Reader, tty: bool) -> serde_json::Value {
    let control = process.control();
    let (output, mut outputs) = mpsc::channel::<(u8, Vec<u8>)>(16);
    for (channel, pipe) in [(STDOUT, process.stdout.take()), (STDERR, process.stderr.take())] {
        if let Some(pipe) = pipe {
            tokio::spawn(copy_output(channel, pipe, output.clone()));
        }
    }
    drop(output);
    let input = tokio::spawn(copy_input(reader, process.stdin.take(), control.clone(), tty));
    let mut connected = true;
    while let Some((channel, data)) = outputs.recv().await {
        // A client that left does not stop a process that writes.
        connected = connected && sender.send(channel, data.into()).await;
    }
    let status = match process.wait().await {
        Ok(0) => serde_json::json!({"metadata": {}, "status": "Success"}),
        Ok(code) => exit(code),
        Err(error) => failure(&error.message()),
    };
    input.abort();
    status
}

async fn copy_output(channel: u8, mut pipe: pipe::Receiver, output: mpsc::Sender<(u8, Vec<u8>)>) {
    let mut buffer = vec![0; 32 << 10];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) if output.send((channel, buffer[..read].to_vec())).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

/// SIGHUP: what a shell on a terminal gets when its window closes.
const SIGHUP: u32 = 1;

async fn copy_input(mut reader: Reader, mut stdin: Option<pipe::Sender>, control: Control, tty: bool) {
    loop {
        match reader.next().await {
            Input::Data(STDIN, data) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    stdin = None;
                }
            }
            Input::Data(RESIZE, data) => {
                if let Some((width, height)) = session::terminal_size(&data)
                    && let Err(error) = control.resize(width, height).await
                {
                    tracing::debug!(error = error.message(), "resize");
                }
            }
            Input::Closed(STDIN) => close(&mut stdin, &control).await,
            Input::Gone => {
                close(&mut stdin, &control).await;
                if tty {
                    let _ = control.kill(SIGHUP).await;
                }
                return;
            }
            Input::Data(..) | Input::Closed(_) => {}
        }
    }
}

async fn close(stdin: &mut Option<pipe::Sender>, control: &Control) {
    if stdin.take().is_none() {
        return;
    }
    // The process may have ended in between.
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(5), control.close_stdin()).await {
        tracing::debug!(error = error.message(), "close stdin");
    }
}

/// The Status from which kubectl takes its own exit code.
fn exit(code: i32) -> serde_json::Value {
    serde_json::json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

pub(super) fn failure(message: &str) -> serde_json::Value {
    serde_json::json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}
