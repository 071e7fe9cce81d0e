//! What one turn of an HTTP/2 connection writes goes out together.
//!
//! h2 flushes behind every frame of data beyond 256 bytes, so that an event would be a TLS record and a segment of its own for each
//! watcher: 780 for 1,000 watchers over eight connections. Here a flush only notes what to send, and whoever drives the
//! connection sends it when nothing more is ready.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TLS record's worth (RFC 8446 section 5.1). There is a buffer only while something waits in it.
const BYTES: usize = 16 << 10;

/// A stream whose writes wait until there are [`BYTES`] of them, or until they are sent. All handles belong to one task.
pub struct Outbox<S>(Arc<Mutex<Waiting<S>>>);

struct Waiting<S> {
    stream: S,
    gathers: bool,
    bytes: Vec<u8>,
    sent: usize,
}

impl<S> Clone for Outbox<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: AsyncWrite + Unpin> Outbox<S> {
    /// `gathers`: whether somebody sends what was written; otherwise every write and every flush is the stream's.
    pub fn new(stream: S, gathers: bool) -> Self {
        Self(Arc::new(Mutex::new(Waiting { stream, gathers, bytes: Vec::new(), sent: 0 })))
    }

    /// Sends what was written.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().flush(cx)
    }
}

impl<S: AsyncWrite + Unpin> Waiting<S> {
    fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.bytes.len() + length > BYTES {
            ready!(self.send(cx))?;
        }
        if length > BYTES || !self.gathers {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        slices.iter().for_each(|slice| self.bytes.extend_from_slice(slice));
        Poll::Ready(Ok(length))
    }

    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        (self.bytes, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Outbox<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Outbox<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.0.lock();
        if waiting.gathers { Poll::Ready(Ok(())) } else { waiting.flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.0.lock();
        ready!(waiting.send(cx))?;
        Pin::new(&mut waiting.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_goes_out_when_it_is_sent_or_fills_a_record() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let outbox = Outbox::new(near, true);
        let mut writer = outbox.clone();
        let mut seen = vec![0; 1 << 20];
        let mut arrived = async |expected: usize| {
            let arrived = futures::poll!(std::pin::pin!(far.read(&mut seen)));
            let bytes = match arrived {
                Poll::Ready(bytes) => bytes.unwrap(),
                Poll::Pending => 0,
            };
            assert_eq!(bytes, expected);
        };
        writer.write_all(&[1; 400]).await.unwrap();
        writer.flush().await.unwrap();
        writer.write_all(&[2; 500]).await.unwrap();
        arrived(0).await;
        poll_fn(|cx| outbox.poll_send(cx)).await.unwrap();
        arrived(900).await;
        // A record is full: what waited goes first, and what is larger than one is not copied.
        writer.write_all(&[3; BYTES]).await.unwrap();
        arrived(0).await;
        writer.write_all(&[4]).await.unwrap();
        arrived(BYTES).await;
        writer.write_all(&[5; BYTES + 1]).await.unwrap();
        arrived(BYTES + 2).await;
        writer.write_all(&[6]).await.unwrap();
        writer.shutdown().await.unwrap();
        arrived(1).await;
    }

    #[tokio::test]
    async fn without_a_sender_nothing_waits() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut writer = Outbox::new(near, false);
        writer.write_all(b"now").await.unwrap();
        let mut seen = [0; 3];
        far.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"now");
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_the_writer_up() {
        let (near, mut far) = tokio::io::duplex(16);
        let outbox = Outbox::new(near, true);
        let mut writer = outbox.clone();
        writer.write_all(&[1; BYTES]).await.unwrap();
        let written = tokio::spawn(async move { writer.write_all(&[2; 1]).await });
        let mut seen = vec![0; BYTES];
        tokio::task::yield_now().await;
        assert!(!written.is_finished());
        far.read_exact(&mut seen).await.unwrap();
        written.await.unwrap().unwrap();
        poll_fn(|cx| outbox.poll_send(cx)).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), 2);
    }
}
