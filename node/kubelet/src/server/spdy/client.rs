//! The side that opens streams: a session with containerd's streaming server, whose WebSockets cannot say that stdin ended while output goes on.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;

use super::frame::{self, Frame, Outgoing};
use super::header::Compressor;

/// Lines of an answer's head; what a peer may make us read.
const LINES_MAX: usize = 100;

/// The streams of one process, each under the number of its channel.
pub(in crate::server) struct Session {
    reader: Mutex<BufReader<OwnedReadHalf>>,
    writer: Mutex<OwnedWriteHalf>,
    headers: Mutex<Compressor>,
    /// Channels and the ids of their streams.
    streams: Vec<(u8, u32)>,
}

impl Session {
    /// Opens a session at `url` (`http://HOST:PORT/PATH`) with these channels: number and `streamtype`.
    ///
    /// # Errors
    /// When the server cannot be reached, or does not speak SPDY.
    pub async fn open(url: &str, channels: &[(u8, &str)]) -> io::Result<Self> {
        let uri: http::Uri = url.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let (reader, mut writer) = TcpStream::connect(&authority).await?.into_split();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
        );
        writer.write_all(request.as_bytes()).await?;
        let mut reader = BufReader::new(reader);
        switched(&mut reader).await?;
        let mut headers = Compressor::new()?;
        let mut streams = Vec::new();
        for ((channel, kind), id) in channels.iter().zip((1..).step_by(2)) {
            writer.write_all(&frame::syn_stream(id, &headers.encode(&[("streamtype", kind)])?)).await?;
            streams.push((*channel, id));
        }
        Ok(Self { reader: Mutex::new(reader), writer: Mutex::new(writer), headers: Mutex::new(headers), streams })
    }

    /// The next bytes and their channel; `None` at the end of the session. Not to be cut off while more is wanted.
    pub async fn next(&self) -> io::Result<Option<(u8, Bytes)>> {
        let mut reader = self.reader.lock().await;
        while let Some(frame) = frame::read(&mut *reader).await? {
            match frame {
                Frame::Data { id, data, .. } => {
                    let channel = self.streams.iter().find(|(_, stream)| *stream == id).map(|(channel, _)| *channel);
                    if let Some(channel) = channel.filter(|_| !data.is_empty()) {
                        return Ok(Some((channel, data)));
                    }
                }
                Frame::Ping { id } => self.send(&Outgoing::Ping { id }).await?,
                Frame::GoAway => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Writes to a channel; nothing happens if the session has none of this number.
    pub async fn write(&self, channel: u8, data: Bytes) -> io::Result<()> {
        self.data(channel, data, false).await
    }

    /// Ends our side of a channel.
    pub async fn finish(&self, channel: u8) -> io::Result<()> {
        self.data(channel, Bytes::new(), true).await
    }

    async fn data(&self, channel: u8, data: Bytes, last: bool) -> io::Result<()> {
        match self.streams.iter().find(|(own, _)| *own == channel) {
            Some((_, id)) => self.send(&Outgoing::Data { id: *id, data, last }).await,
            None => Ok(()),
        }
    }

    async fn send(&self, frame: &Outgoing) -> io::Result<()> {
        let bytes = frame.encode(&mut *self.headers.lock().await)?;
        self.writer.lock().await.write_all(&bytes).await
    }
}

/// Reads the head of an answer, which must be `101 Switching Protocols`.
async fn switched(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<()> {
    let mut status = String::new();
    reader.read_line(&mut status).await?;
    for _ in 0..LINES_MAX {
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        if line.trim_end().is_empty() {
            break;
        }
    }
    match status.split(' ').nth(1) {
        Some("101") => Ok(()),
        _ => Err(io::Error::other(format!("the streaming server answers {:?}", status.trim_end()))),
    }
}
