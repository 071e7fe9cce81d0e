//! `kubectl port-forward`: SPDY streams, tunnelled in a WebSocket or on the connection itself, to ports inside the pod's network namespace.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

use super::session;
use super::spdy::{self, Stream};
use super::websocket::{self, Socket};
use super::{Answer, Refused, find};
use crate::kubelet::Kubelet;
use crate::pod;

/// SPDY frames inside WebSocket messages.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PROTOCOL: &str = "portforward.k8s.io";
/// Connections whose second stream has not come yet.
const WAITING_MAX: usize = 1024;

pub(super) async fn serve(
    kubelet: &Arc<Kubelet>,
    mut request: Request<Incoming>,
    namespace: &str,
    name: &str,
) -> Result<Answer, Refused> {
    let (pod, observed) = find(kubelet, namespace, name).await?;
    let sandbox =
        observed.ready_sandbox().ok_or_else(|| Refused::not_found(format!("pod \"{name}\" is not running")))?;
    let netns = if pod::host_network(&pod) {
        None
    } else {
        let path = kubelet.runtime.network_namespace(&sandbox.id).await;
        path.map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.message()))?
    };
    if websocket::is_upgrade(request.headers()) {
        if !websocket::offers(request.headers(), TUNNEL) {
            return Err(Refused::bad_request(format!("the WebSocket subprotocol must be {TUNNEL}")));
        }
        let (answer, upgrade) = websocket::accept(&mut request, Some(TUNNEL))?;
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let (near, far) = tokio::io::duplex(256 << 10);
            tokio::join!(tunnel(websocket::socket(upgraded).await, near), serve_streams(far, netns));
        });
        return Ok(answer);
    }
    if !session::is_spdy(request.headers()) {
        return Err(Refused::bad_request("port-forward needs an upgrade to WebSocket or SPDY/3.1"));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        serve_streams(TokioIo::new(upgraded), netns).await;
    });
    Ok(session::spdy_answer(PROTOCOL))
}

/// Copies between the messages of a WebSocket and a stream of bytes.
async fn tunnel(socket: Socket, stream: DuplexStream) {
    let (mut sink, mut messages) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let inward = async {
        while let Some(Ok(message)) = messages.next().await {
            let data: Bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                _ => continue,
            };
            if writer.write_all(&data).await.is_err() {
                break;
            }
        }
        // The session sees the end of its connection.
        let _ = writer.shutdown().await;
    };
    let outward = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            if sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..read]))).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
    };
    tokio::join!(inward, outward);
}

async fn serve_streams<S>(connection: S, netns: Option<PathBuf>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, mut accepted) = mpsc::channel::<Stream>(16);
    let pairs = async move {
        // A connection is two streams with one request id: its error stream, then its data stream.
        let mut errors: HashMap<String, Stream> = HashMap::new();
        while let Some(stream) = accepted.recv().await {
            let id = stream.headers.get("requestid").cloned().unwrap_or_default();
            match stream.headers.get("streamtype").map(String::as_str) {
                // Half of a connection without end: no client does that.
                Some("error") if errors.len() >= WAITING_MAX => return,
                Some("error") => drop(errors.insert(id, stream)),
                Some("data") => {
                    let Some(error) = errors.remove(&id) else { continue };
                    tokio::spawn(forward(stream, error, netns.clone()));
                }
                _ => {}
            }
        }
    };
    let (ended, ()) = tokio::join!(spdy::run(connection, sender), pairs);
    if let Err(error) = ended {
        tracing::debug!(%error, "port-forward session");
    }
}

async fn forward(data: Stream, error: Stream, netns: Option<PathBuf>) {
    let port = data.headers.get("port").and_then(|port| port.parse::<u16>().ok());
    let failure = match port {
        None => Some("invalid port".to_owned()),
        Some(port) => match dial(netns, port).await {
            Ok(connection) => {
                copy(data, connection).await;
                None
            }
            Err(why) => {
                data.writer().finish().await;
                Some(format!(
                    "error forwarding port {port} to pod: failed to connect to localhost:{port} inside the pod: {why}"
                ))
            }
        },
    };
    if let Some(why) = failure {
        error.writer().write(why.into()).await;
    }
    error.writer().finish().await;
}

async fn copy(mut data: Stream, connection: TcpStream) {
    let writer = data.writer();
    let (mut from_pod, mut to_pod) = connection.into_split();
    let outward = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(read @ 1..) = from_pod.read(&mut buffer).await {
            if !writer.write(Bytes::copy_from_slice(&buffer[..read])).await {
                break;
            }
        }
        writer.finish().await;
    };
    let inward = async {
        while let Some(bytes) = data.read().await {
            if to_pod.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to_pod.shutdown().await;
    };
    tokio::join!(outward, inward);
}

/// A connection to the pod's loopback. The thread that enters the namespace dies there: no other work may ever run on it.
async fn dial(netns: Option<PathBuf>, port: u16) -> Result<TcpStream, String> {
    let Some(path) = netns else {
        return TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string());
    };
    let (sender, receiver) = oneshot::channel();
    let connect = move || -> std::io::Result<std::net::TcpStream> {
        let namespace = std::fs::File::open(path)?;
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
        let stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    let spawned = std::thread::Builder::new().name("port-forward".to_owned()).spawn(move || {
        // A client that left in between needs no answer.
        let _ = sender.send(connect());
    });
    spawned.map_err(|error| error.to_string())?;
    let stream = receiver.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    TcpStream::from_std(stream).map_err(|error| error.to_string())
}
