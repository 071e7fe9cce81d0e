//! SPDY/3.1 as Kubernetes clients still speak it: streams over one connection, from the side that accepts them. [`client`] is the other side.
//!
//! Clients (client-go's spdystream) neither send nor heed WINDOW_UPDATE: flow control is the connection's own.

pub(super) mod client;
mod frame;
mod header;

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use frame::{Frame, Outgoing};
use header::{Compressor, Decompressor};

pub(super) type Headers = HashMap<String, String>;

/// A stream that the client opened.
#[derive(Debug)]
pub(super) struct Stream {
    id: u32,
    pub headers: Headers,
    incoming: mpsc::Receiver<Bytes>,
    outgoing: mpsc::Sender<Outgoing>,
}

impl Stream {
    /// The next bytes; `None` once the client has ended its side.
    pub async fn read(&mut self) -> Option<Bytes> {
        self.incoming.recv().await
    }

    pub fn writer(&self) -> Writer {
        Writer { id: self.id, outgoing: self.outgoing.clone() }
    }
}

/// The sending side of a stream.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    id: u32,
    outgoing: mpsc::Sender<Outgoing>,
}

impl Writer {
    /// False when the connection is gone.
    pub async fn write(&self, data: Bytes) -> bool {
        self.outgoing.send(Outgoing::Data { id: self.id, data, last: false }).await.is_ok()
    }

    /// Ends this side.
    pub async fn finish(&self) {
        let last = Outgoing::Data { id: self.id, data: Bytes::new(), last: true };
        // Nobody to tell when the connection is gone.
        let _ = self.outgoing.send(last).await;
    }
}

/// Frames in flight in either direction before the sender waits.
const QUEUE: usize = 64;
/// Streams that are open at once: far more than clients have; what a peer may make us hold.
const STREAMS_MAX: usize = 4096;

/// Runs a session until the connection ends; streams arrive at `accepted`.
pub(super) async fn run<S>(connection: S, accepted: mpsc::Sender<Stream>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = tokio::io::split(connection);
    let (outgoing, queue) = mpsc::channel(QUEUE);
    let writing = tokio::spawn(write(writer, queue));
    let read = read(BufReader::new(reader), &outgoing, accepted).await;
    drop(outgoing);
    writing.abort();
    read
}

async fn read<R: AsyncRead + Unpin>(
    mut reader: R,
    outgoing: &mpsc::Sender<Outgoing>,
    accepted: mpsc::Sender<Stream>,
) -> io::Result<()> {
    let mut headers = Decompressor::new();
    let mut streams: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    while let Some(frame) = frame::read(&mut reader).await? {
        match frame {
            Frame::SynStream { id, last, block } => {
                let fields = headers.decode(&block)?;
                let (sender, incoming) = mpsc::channel(QUEUE);
                if !last {
                    streams.insert(id, sender);
                }
                if streams.len() > STREAMS_MAX {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "SPDY: too many streams are open"));
                }
                let stream = Stream { id, headers: fields, incoming, outgoing: outgoing.clone() };
                if outgoing.send(Outgoing::Reply { id }).await.is_err() || accepted.send(stream).await.is_err() {
                    return Ok(());
                }
            }
            Frame::Headers { block } => drop(headers.decode(&block)?),
            Frame::Data { id, last, data } => {
                // A stream whose reader is gone swallows what still comes.
                if let Some(stream) = streams.get(&id)
                    && !data.is_empty()
                {
                    let _ = stream.send(data).await;
                }
                if last {
                    streams.remove(&id);
                }
            }
            Frame::Reset { id } => drop(streams.remove(&id)),
            Frame::Ping { id } => {
                if outgoing.send(Outgoing::Ping { id }).await.is_err() {
                    return Ok(());
                }
            }
            Frame::GoAway => return Ok(()),
            Frame::Other => {}
        }
    }
    Ok(())
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut queue: mpsc::Receiver<Outgoing>) -> io::Result<()> {
    let mut headers = Compressor::new()?;
    while let Some(frame) = queue.recv().await {
        let bytes = frame.encode(&mut headers)?;
        writer.write_all(&bytes).await?;
        if queue.is_empty() {
            writer.flush().await?;
        }
    }
    Ok(())
}

/// The fields of a header block that was inflated.
pub(super) fn parse_headers(plain: &[u8]) -> io::Result<Headers> {
    header::parse(plain)
}

/// What a client sends that opens streams of these types, under the ids 1, 3, …, says something on some of them, and ends each.
pub(super) fn session(types: &[&str], said: &[(u32, &[u8])]) -> Vec<u8> {
    let Ok(mut headers) = Compressor::new() else { return Vec::new() };
    let ids = || (1..).step_by(2).zip(types);
    let opened = ids()
        .flat_map(|(id, kind)| frame::syn_stream(id, &headers.encode(&[("streamType", kind)]).unwrap_or_default()));
    let opened: Vec<u8> = opened.collect();
    let said = said.iter().flat_map(|(id, data)| frame::frame(*id, 0, data));
    opened.into_iter().chain(said).chain(ids().flat_map(|(id, _)| frame::frame(id, 1, b""))).collect()
}

/// What a client sends to forward one connection: its two streams, and a question.
#[cfg(test)]
pub(super) fn port_forward_request(port: u16, question: &[u8]) -> Vec<u8> {
    let (mut headers, port) = (Compressor::new().unwrap(), port.to_string());
    let mut open = |id: u32, kind: &str| {
        let fields = [("streamType", kind), ("port", &port), ("requestID", "0")];
        frame::syn_stream(id, &headers.encode(&fields).unwrap())
    };
    [open(1, "error"), frame::frame(1, 1, b""), open(3, "data"), frame::frame(3, 0, question)].concat()
}

#[cfg(test)]
mod tests;
