//! The streams of exec and attach, over WebSocket channels or SPDY streams.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::spdy::{self, Stream, Writer};
use super::websocket::{self, Channels, Messages, Protocol};
use super::{Answer, Refused};

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;

/// Which streams the client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Wanted {
    /// kubelet's own API says `input`, `output`, `error`; the API server's says `stdin`, `stdout`, `stderr`.
    pub fn parse(query: &[(String, String)]) -> Result<Self, Refused> {
        let flag = |names: [&str; 2]| {
            query.iter().any(|(k, v)| names.contains(&k.as_str()) && matches!(v.as_str(), "1" | "true"))
        };
        let wanted = Self {
            stdin: flag(["stdin", "input"]),
            stdout: flag(["stdout", "output"]),
            stderr: flag(["stderr", "error"]),
            tty: flag(["tty", "tty"]),
        };
        if !wanted.stdin && !wanted.stdout && !wanted.stderr {
            return Err(Refused::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(wanted)
    }

    /// The SPDY streams that a client opens for this: one each, the error stream, and one for sizes of a terminal.
    fn streams(self) -> usize {
        1 + usize::from(self.stdin)
            + usize::from(self.stdout)
            + usize::from(self.stderr && !self.tty)
            + usize::from(self.tty)
    }
}

/// What a client may say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Data(u8, Bytes),
    /// A channel's end.
    Closed(u8),
    /// The connection's end.
    Gone,
}

/// An upgrade that was answered and not yet made.
pub(super) enum Pending {
    WebSocket(OnUpgrade, Protocol, Wanted),
    Spdy(OnUpgrade, Wanted),
}

/// The best protocol that client and server share.
pub(super) fn negotiate(request: &mut Request<Incoming>, wanted: Wanted) -> Result<(Answer, Pending), Refused> {
    if websocket::is_upgrade(request.headers()) {
        let (answer, upgrade, protocol) = websocket::negotiate(request)?;
        return Ok((answer, Pending::WebSocket(upgrade, protocol, wanted)));
    }
    if !is_spdy(request.headers()) {
        return Err(Refused::bad_request("unable to upgrade: the request must be upgraded to WebSocket or SPDY/3.1"));
    }
    const V4: &str = "v4.channel.k8s.io";
    let offers = request.headers().get_all("x-stream-protocol-version");
    if !offers.iter().any(|offer| offer.as_bytes() == V4.as_bytes()) {
        return Err(Refused(
            StatusCode::FORBIDDEN,
            format!("unable to upgrade: unable to negotiate protocol: server supports [{V4}]"),
        ));
    }
    let upgrade = hyper::upgrade::on(request);
    Ok((spdy_answer(V4), Pending::Spdy(upgrade, wanted)))
}

pub(super) fn is_spdy(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"spdy/3.1"))
}

/// 101, with the protocol of the streams.
pub(super) fn spdy_answer(protocol: &'static str) -> Answer {
    let mut answer = Response::new(http_body_util::Empty::new().boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert("x-stream-protocol-version", HeaderValue::from_static(protocol));
    answer
}

/// upstream's limit for the client to open its streams.
const STREAMS_WITHIN: Duration = Duration::from_secs(30);

impl Pending {
    /// `None` when the client left before the streams were there.
    pub async fn connect(self) -> Option<(Sender, Reader)> {
        match self {
            Self::WebSocket(upgrade, protocol, wanted) => {
                let (channels, messages) = websocket::split(websocket::socket(upgrade.await.ok()?).await, protocol);
                let mut sender = Sender::Channels(channels);
                // An empty message on the first output tells the client that the session is there, as upstream does.
                let first = if wanted.stdout { STDOUT } else { STDERR };
                if wanted.stdout || (wanted.stderr && !wanted.tty) {
                    sender.send(first, Bytes::new()).await.then_some(())?;
                }
                Some((sender, Reader::Messages(messages)))
            }
            Self::Spdy(upgrade, wanted) => {
                let upgraded = upgrade.await.ok()?;
                let (accept, accepted) = mpsc::channel(8);
                tokio::spawn(async move {
                    if let Err(error) = spdy::run(TokioIo::new(upgraded), accept).await {
                        tracing::debug!(%error, "SPDY session");
                    }
                });
                tokio::time::timeout(STREAMS_WITHIN, streams(accepted, wanted)).await.ok()?
            }
        }
    }
}

/// Collects the client's streams and begins to read those it writes.
pub(super) async fn streams(mut accepted: mpsc::Receiver<Stream>, wanted: Wanted) -> Option<(Sender, Reader)> {
    let (inputs, reader) = mpsc::channel(16);
    let (mut stdout, mut stderr, mut error) = (None, None, None);
    for _ in 0..wanted.streams() {
        let stream = accepted.recv().await?;
        match stream.headers.get("streamtype").map(String::as_str) {
            Some("stdin") => drop(tokio::spawn(pump(STDIN, stream, inputs.clone()))),
            Some("resize") => drop(tokio::spawn(pump(RESIZE, stream, inputs.clone()))),
            Some("stdout") => stdout = Some(stream.writer()),
            Some("stderr") => stderr = Some(stream.writer()),
            Some("error") => error = Some(stream.writer()),
            _ => {}
        }
    }
    tokio::spawn(async move {
        // The session ends the channel of streams with the connection.
        while accepted.recv().await.is_some() {}
        let _ = inputs.send(Input::Gone).await;
    });
    Some((Sender::Streams { stdout, stderr, error: error? }, Reader::Streams(reader)))
}

async fn pump(channel: u8, mut stream: Stream, inputs: mpsc::Sender<Input>) {
    while let Some(data) = stream.read().await {
        if inputs.send(Input::Data(channel, data)).await.is_err() {
            return;
        }
    }
    let _ = inputs.send(Input::Closed(channel)).await;
}

pub(super) enum Reader {
    Messages(Messages),
    Streams(mpsc::Receiver<Input>),
}

impl Reader {
    pub async fn next(&mut self) -> Input {
        match self {
            Self::Messages(messages) => messages.next().await,
            Self::Streams(inputs) => inputs.recv().await.unwrap_or(Input::Gone),
        }
    }
}

pub(super) enum Sender {
    Channels(Channels),
    Streams { stdout: Option<Writer>, stderr: Option<Writer>, error: Writer },
}

impl Sender {
    /// False when the client is gone.
    pub async fn send(&mut self, channel: u8, data: Bytes) -> bool {
        match self {
            Self::Channels(channels) => channels.send(channel, &data).await.is_ok(),
            Self::Streams { stdout, stderr, error } => match channel {
                STDOUT => write(stdout.as_ref(), data).await,
                STDERR => write(stderr.as_ref(), data).await,
                _ => error.write(data).await,
            },
        }
    }

    /// The last word: a Status, then the end.
    pub async fn finish(self, status: &serde_json::Value) {
        match self {
            Self::Channels(channels) => channels.finish(status).await,
            Self::Streams { stdout, stderr, error } => {
                // An empty error stream is success to v4 clients, too; the Status says it in words.
                error.write(status.to_string().into()).await;
                for writer in [Some(error), stdout, stderr].into_iter().flatten() {
                    writer.finish().await;
                }
                // The client closes the connection when it has read all.
            }
        }
    }
}

async fn write(writer: Option<&Writer>, data: Bytes) -> bool {
    match writer {
        Some(writer) => writer.write(data).await,
        None => true,
    }
}

/// A `{"Width": …, "Height": …}` of the resize channel.
pub(super) fn terminal_size(bytes: &[u8]) -> Option<(u16, u16)> {
    // Sizes that came close together lie in one piece: the last counts.
    let sizes = serde_json::Deserializer::from_slice(bytes).into_iter::<serde_json::Value>();
    let size = sizes.filter_map(Result::ok).last()?;
    let number = |upper: &str, lower: &str| {
        size.get(upper).or_else(|| size.get(lower))?.as_u64().and_then(|n| u16::try_from(n).ok())
    };
    Some((number("Width", "width")?, number("Height", "height")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_either_case() {
        assert_eq!(terminal_size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(terminal_size(b"{\"width\":80,\"height\":24}\n{\"width\":81,\"height\":25}\n"), Some((81, 25)));
        assert_eq!(terminal_size(b"80x24"), None);
        assert_eq!(terminal_size(br#"{"Width":80000,"Height":24}"#), None);
    }

    #[test]
    fn something_must_be_asked_for() {
        let query = |text: &str| form_urlencoded::parse(text.as_bytes()).into_owned().collect::<Vec<_>>();
        assert!(Wanted::parse(&query("tty=true")).is_err());
        let wanted = Wanted::parse(&query("input=1&output=true&tty=true")).unwrap();
        assert_eq!(wanted, Wanted { stdin: true, stdout: true, stderr: false, tty: true });
        assert_eq!(wanted.streams(), 4);
    }
}
