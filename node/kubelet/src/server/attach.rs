//! `kubectl attach`: the streams of a container's main process are containerd's own, so its streaming server is asked and spliced.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use http::Request;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::session::{self, Input, Reader, Sender, Wanted};
use super::{Answer, Refused, find, running};
use crate::kubelet::Kubelet;
use crate::pod;

pub(super) async fn serve(
    kubelet: &Arc<Kubelet>,
    mut request: Request<Incoming>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &[(String, String)],
) -> Result<Answer, Refused> {
    let (pod, observed) = find(kubelet, namespace, name).await?;
    let id = running(&observed, namespace, name, container)?.id.clone();
    let wanted = Wanted::parse(query)?;
    let tty = pod::any_container(&pod, container).is_some_and(|c| c.tty == Some(true));
    let (answer, pending) = session::negotiate(&mut request, wanted)?;
    let kubelet = Arc::clone(kubelet);
    tokio::spawn(async move {
        let Some((mut sender, reader)) = pending.connect().await else { return };
        let status = match kubelet.runtime.attach_url(&id, wanted.stdin, tty).await {
            Ok(url) => match splice(&url, &mut sender, reader).await {
                Ok(()) => serde_json::json!({"metadata": {}, "status": "Success"}),
                Err(why) => super::exec::failure(&format!("error attaching to container: {why}")),
            },
            Err(error) => super::exec::failure(&error.message()),
        };
        sender.finish(&status).await;
    });
    Ok(answer)
}

async fn splice(url: &str, sender: &mut Sender, mut reader: Reader) -> Result<(), String> {
    let url = url.replacen("http://", "ws://", 1);
    let mut request = url.as_str().into_client_request().map_err(|e| e.to_string())?;
    let protocol = http::HeaderValue::from_static("v4.channel.k8s.io");
    request.headers_mut().insert(http::header::SEC_WEBSOCKET_PROTOCOL, protocol);
    let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let stream = TcpStream::connect(&authority).await.map_err(|e| e.to_string())?;
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.map_err(|e| e.to_string())?;
    let (mut sink, mut stream) = socket.split();
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    let Some((&channel, data)) = bytes.split_first() else { continue };
                    if channel == session::ERROR {
                        // containerd's own Status ends the session; ours says the same.
                        return verdict(data);
                    }
                    if !sender.send(channel, bytes.slice(1..)).await {
                        return Ok(());
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
            input = reader.next() => match input {
                Input::Data(channel, data) => {
                    let mut message = vec![channel];
                    message.extend_from_slice(&data);
                    if sink.send(Message::Binary(message.into())).await.is_err() {
                        return Ok(());
                    }
                }
                // v4 cannot say that stdin ended.
                Input::Closed(_) => {}
                Input::Gone => return Ok(()),
            },
        }
    }
}

fn verdict(status: &[u8]) -> Result<(), String> {
    let status: serde_json::Value = serde_json::from_slice(status).unwrap_or_default();
    if status["status"] == "Failure" {
        return Err(status["message"].as_str().unwrap_or("unknown error").to_owned());
    }
    Ok(())
}
