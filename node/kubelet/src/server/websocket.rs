//! WebSockets that carry channels: `v5.channel.k8s.io` and its ancestors.
//!
//! The first byte of each binary message is a channel: 0 stdin, 1 stdout, 2 stderr, 3 error (a Status), 4 resize. In v5, 255 closes the channel
//! named by the next byte: stdin can end while output goes on.

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::session::{ERROR, Input};
use super::{Answer, Refused};

const CLOSE: u8 = 255;

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    V5,
    V4,
    /// Channels without a Status: errors are text.
    V1,
}

/// Best first.
const PROTOCOLS: [(&str, Protocol); 3] =
    [("v5.channel.k8s.io", Protocol::V5), ("v4.channel.k8s.io", Protocol::V4), ("channel.k8s.io", Protocol::V1)];

pub(super) fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    offered(headers).any(|offer| offer == protocol)
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim)
}

pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers a WebSocket handshake: the answer to send, and the connection once it is sent.
pub(super) fn accept(
    request: &mut Request<Incoming>,
    protocol: Option<&'static str>,
) -> Result<(Answer, OnUpgrade), Refused> {
    let key = request
        .headers()
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or_else(|| Refused::bad_request("Sec-WebSocket-Key is missing"))?;
    let key =
        HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|e| Refused::bad_request(e.to_string()))?;
    let mut answer = Response::new(http_body_util::Empty::new().boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok((answer, hyper::upgrade::on(request)))
}

pub(super) async fn socket(upgraded: Upgraded) -> Socket {
    over(TokioIo::new(upgraded)).await
}

/// The server's side of a WebSocket whose handshake is done.
pub(super) async fn over<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default().max_message_size(Some(32 << 20)).max_frame_size(Some(32 << 20));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

/// The channels of one exec or attach session.
pub(super) fn negotiate(request: &mut Request<Incoming>) -> Result<(Answer, OnUpgrade, Protocol), Refused> {
    let none = offered(request.headers()).next().is_none();
    let known = PROTOCOLS.iter().find(|(name, _)| offers(request.headers(), name));
    let (name, protocol) = match known {
        Some((name, protocol)) => (Some(*name), *protocol),
        None if none => (None, Protocol::V1),
        None => {
            return Err(Refused::bad_request(
                "none of the offered WebSocket subprotocols is known: use v5.channel.k8s.io",
            ));
        }
    };
    let (answer, upgrade) = accept(request, name)?;
    Ok((answer, upgrade, protocol))
}

pub(super) struct Messages<S = TokioIo<Upgraded>> {
    stream: SplitStream<WebSocketStream<S>>,
}

pub(super) struct Channels<S = TokioIo<Upgraded>> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    protocol: Protocol,
}

pub(super) fn split<S>(socket: WebSocketStream<S>, protocol: Protocol) -> (Channels<S>, Messages<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = socket.split();
    (Channels { sink, protocol }, Messages { stream })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Messages<S> {
    pub async fn next(&mut self) -> Input {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Binary(bytes))) => match parse(&bytes) {
                    Some(input) => return input,
                    None => continue,
                },
                Some(Ok(Message::Text(text))) => match parse(&Bytes::from(text)) {
                    Some(input) => return input,
                    None => continue,
                },
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Input::Gone,
                Some(Ok(_)) => {}
            }
        }
    }
}

fn parse(bytes: &Bytes) -> Option<Input> {
    match (bytes.first()?, bytes.get(1)) {
        (&CLOSE, Some(channel)) => Some(Input::Closed(*channel)),
        (&channel, _) => Some(Input::Data(channel, bytes.slice(1..))),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channels<S> {
    pub async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), Error> {
        let mut message = Vec::with_capacity(data.len() + 1);
        message.push(channel);
        message.extend_from_slice(data);
        self.sink.send(Message::Binary(message.into())).await
    }

    /// The last word: a Status (v4 and later) or its message, then the end.
    pub async fn finish(mut self, status: &serde_json::Value) {
        let text = match self.protocol {
            Protocol::V1 if status["status"] == "Success" => String::new(),
            Protocol::V1 => status["message"].as_str().unwrap_or_default().to_owned(),
            _ => status.to_string(),
        };
        if !text.is_empty() && self.send(ERROR, text.as_bytes()).await.is_err() {
            return;
        }
        // The peer may be gone: the session is over either way.
        let _ = self.sink.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await;
        let _ = self.sink.close().await;
    }
}

#[cfg(test)]
mod tests;
