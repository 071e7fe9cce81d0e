//! Watches over HTTP/2 (RFC 9113) by a client that does no more than to look at each frame: what a library does for each
//! stream would be most of what is measured.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::Failure;
use crate::client::Dial;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;
const WINDOW_MAX: u32 = (1 << 31) - 1;
const WINDOW_DEFAULT: u32 = (1 << 16) - 1;
/// Types of frames (section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
/// Flags of a request without a body.
const END_STREAM_AND_HEADERS: u8 = 0x5;
/// `:status: 200` (RFC 7541, appendix A).
const OK: u8 = 0x88;

/// Watches that share a connection.
pub struct Watches {
    stream: TlsStream<TcpStream>,
    unread: BytesMut,
}

impl Watches {
    /// Opens `count` watches of `path`; returns when all are answered.
    pub async fn open(dial: &Dial, path: &str, count: usize) -> Result<Self, Failure> {
        let mut hello = PREFACE.to_vec();
        // Windows that never fill: SETTINGS_INITIAL_WINDOW_SIZE for streams, and the rest of the connection's.
        frame(&mut hello, SETTINGS, 0, 0, &[&[0, 4], &WINDOW_MAX.to_be_bytes()[..]].concat());
        frame(&mut hello, WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - WINDOW_DEFAULT).to_be_bytes());
        // RFC 7541: `:method: GET` and `:scheme: https` by index, `:path` and `:authority` as literals.
        let mut request = vec![0x82, 0x87];
        for (name, value) in [(0x04, path), (0x01, "localhost")] {
            let length = u8::try_from(value.len()).ok().filter(|length| *length < 127).ok_or("the path is too long")?;
            request.extend([name, length]);
            request.extend(value.as_bytes());
        }
        for watch in 0..count {
            frame(&mut hello, HEADERS, END_STREAM_AND_HEADERS, u32::try_from(watch)? * 2 + 1, &request);
        }
        let mut watches = Self { stream: dial.tls(b"h2").await?, unread: BytesMut::new() };
        watches.stream.write_all(&hello).await?;
        let (mut answered, mut refused) = (0, false);
        while answered < count {
            let headers = |kind, _, payload: &[u8]| {
                answered += usize::from(kind == HEADERS);
                refused |= kind == HEADERS && payload.first() != Some(&OK);
            };
            watches.read(headers).await?;
            if refused {
                return Err("the server refused a watch".into());
            }
        }
        Ok(watches)
    }

    /// Waits for bytes, and tells which watches the events in them are for.
    pub async fn events(&mut self, mut event: impl FnMut(usize)) -> Result<(), Failure> {
        self.read(|kind, watch, payload| {
            if kind == DATA {
                payload.iter().filter(|byte| **byte == b'\n').for_each(|_| event(watch));
            }
        })
        .await
    }

    async fn read(&mut self, mut seen: impl FnMut(u8, usize, &[u8])) -> Result<(), Failure> {
        if self.stream.read_buf(&mut self.unread).await? == 0 {
            return Err("the server closed a connection".into());
        }
        while let Some(head) = self.unread.first_chunk::<HEADER_BYTES>() {
            let [a, b, c, kind, _, id @ ..] = *head;
            let end = HEADER_BYTES + u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(payload) = self.unread.get(HEADER_BYTES..end) else { break };
            // Streams of a client are odd.
            seen(kind, u32::from_be_bytes(id) as usize / 2, payload);
            self.unread.advance(end);
        }
        Ok(())
    }
}

/// Appends a frame (section 4.1) of at most 64 KiB.
fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    to.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    to.extend([kind, flags]);
    to.extend(stream.to_be_bytes());
    to.extend(payload);
}
