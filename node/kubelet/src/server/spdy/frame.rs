//! Frames on the wire (SPDY/3.1, section 2.2): a control bit, a type, flags and a 24-bit length.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::header::Compressor;

const CONTROL: u32 = 0x8000_0000;
const VERSION: u32 = 3;
const FIN: u8 = 1;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// More than clients send; what a peer may make us hold.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What a peer may send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        id: u32,
        last: bool,
        block: Bytes,
    },
    Headers {
        block: Bytes,
    },
    Data {
        id: u32,
        last: bool,
        data: Bytes,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// SETTINGS, WINDOW_UPDATE and whatever else may be ignored.
    Other,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("SPDY: {what}"))
}

/// The next frame; `None` at the end of the connection.
pub(super) async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<Frame>> {
    let first = match reader.read_u32().await {
        Ok(first) => first,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let second = reader.read_u32().await?;
    let [flags, length @ ..] = second.to_be_bytes();
    let length = usize::try_from(u32::from_be_bytes([0, length[0], length[1], length[2]])).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(invalid("a frame is too large"));
    }
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await?;
    let payload = Bytes::from(payload);
    let last = flags & FIN != 0;
    if first & CONTROL == 0 {
        return Ok(Some(Frame::Data { id: first, last, data: payload }));
    }
    if (first >> 16) & 0x7fff != VERSION {
        return Err(invalid("a control frame of another version"));
    }
    control((first & 0xffff) as u16, last, &payload).map(Some)
}

fn control(kind: u16, last: bool, payload: &Bytes) -> io::Result<Frame> {
    let word = |at: usize| -> io::Result<u32> {
        let bytes = payload.get(at..at + 4).ok_or_else(|| invalid("a control frame is too short"))?;
        Ok(u32::from_be_bytes(bytes.try_into().unwrap_or_default()) & !CONTROL)
    };
    let after = |at: usize| {
        if payload.len() < at { Err(invalid("a control frame is too short")) } else { Ok(payload.slice(at..)) }
    };
    Ok(match kind {
        SYN_STREAM => Frame::SynStream { id: word(0)?, last, block: after(10)? },
        HEADERS => Frame::Headers { block: after(4)? },
        RST_STREAM => Frame::Reset { id: word(0)? },
        PING => Frame::Ping { id: word(0)? },
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    })
}

/// What we send.
#[derive(Debug)]
pub(super) enum Outgoing {
    Reply { id: u32 },
    Data { id: u32, data: Bytes, last: bool },
    Ping { id: u32 },
}

impl Outgoing {
    pub fn encode(&self, headers: &mut Compressor) -> io::Result<Vec<u8>> {
        Ok(match self {
            Self::Reply { id } => {
                let block = headers.encode(&[])?;
                let mut payload = id.to_be_bytes().to_vec();
                payload.extend(block);
                frame(CONTROL | VERSION << 16 | u32::from(SYN_REPLY), 0, &payload)
            }
            Self::Data { id, data, last } => frame(*id, if *last { FIN } else { 0 }, data),
            Self::Ping { id } => frame(CONTROL | VERSION << 16 | u32::from(PING), 0, &id.to_be_bytes()),
        })
    }
}

pub(super) fn frame(first: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    bytes.extend(first.to_be_bytes());
    bytes.extend([flags, length[1], length[2], length[3]]);
    bytes.extend_from_slice(payload);
    bytes
}

pub(super) fn syn_stream(id: u32, block: &[u8]) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend([0; 6]);
    payload.extend_from_slice(block);
    frame(CONTROL | VERSION << 16 | u32::from(SYN_STREAM), 0, &payload)
}
