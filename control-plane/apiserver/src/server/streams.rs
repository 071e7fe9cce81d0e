//! The streams of an HTTP/2 connection run in its task.
//!
//! An event wakes every watcher. With a task for each stream the connection would be woken after each of them, and write one
//! frame at a time; here all that are ready run, then the connection, then what it wrote is sent at once.

use std::mem::take;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt;
use futures::future::{BoxFuture, poll_fn};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use super::outbox::Outbox;
use crate::body::BoxError;

type Stream = BoxFuture<'static, ()>;

/// Gets the streams that a connection opens.
#[derive(Clone, Default)]
pub struct Opened(Arc<Mutex<Vec<Stream>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Opened {
    fn execute(&self, stream: F) {
        // One that panics is reset, and the others go on, as with a task for each.
        self.0.lock().push(AssertUnwindSafe(stream).catch_unwind().map(drop).boxed());
    }
}

/// What drives a connection that writes to an [`Outbox`].
pub struct Turns<S> {
    opened: Opened,
    streams: FuturesUnordered<Stream>,
    woken: Arc<Woken>,
    outbox: Outbox<S>,
}

impl<S: AsyncWrite + Unpin> Turns<S> {
    pub fn new(opened: Opened, outbox: Outbox<S>) -> Self {
        Self { opened, streams: FuturesUnordered::new(), woken: Arc::default(), outbox }
    }

    /// Ends when the connection does, or with the error that sending met. May be dropped and called again.
    pub async fn drive<C>(&mut self, mut connection: Pin<&mut C>) -> Result<(), BoxError>
    where
        C: Future<Output = Result<(), BoxError>>,
    {
        poll_fn(|cx| self.turn(connection.as_mut(), cx)).await
    }

    fn turn<C>(&mut self, mut connection: Pin<&mut C>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>
    where
        C: Future<Output = Result<(), BoxError>>,
    {
        loop {
            self.run(cx);
            if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
                // Why it ends is told as far as the client takes it.
                let _ = self.outbox.poll_send(cx);
                return Poll::Ready(outcome);
            }
            let opened = take(&mut *self.opened.0.lock());
            if opened.is_empty() {
                break;
            }
            self.streams.extend(opened);
        }
        match self.outbox.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            _ => Poll::Pending,
        }
    }

    /// Polls the streams that were woken. Their budget is not the connection's (tokio's cooperative scheduling), or it could
    /// not send what they gave it; what they give is bounded by flow control.
    fn run(&mut self, cx: &mut Context<'_>) {
        self.woken.task.register(cx.waker());
        let waker = Waker::from(self.woken.clone());
        let woken = poll_fn(|_| {
            // The set stops behind two streams that wake themselves, which h2 makes of each that sends: there are more.
            for _ in 0..=self.streams.len() {
                self.woken.again.store(false, Ordering::Relaxed);
                while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(&mut Context::from_waker(&waker)) {}
                if !self.woken.again.load(Ordering::Relaxed) {
                    break;
                }
            }
            Poll::<()>::Pending
        });
        let _ = pin!(tokio::task::unconstrained(woken)).poll(cx);
    }
}

/// Wakes the connection's task for its streams.
#[derive(Default)]
struct Woken {
    task: AtomicWaker,
    again: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.again.store(true, Ordering::Relaxed);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::AsyncWriteExt;
    use tokio::sync::{mpsc, watch};

    use super::*;

    /// Keeps how long each write was.
    #[derive(Clone, Default)]
    struct Sent(Arc<Mutex<Vec<usize>>>);

    impl AsyncWrite for Sent {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.lock().push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_event_for_all_streams_is_one_write_and_one_that_panics_takes_no_other_along() {
        const STREAMS: usize = 100;
        let (sent, opened) = (Sent::default(), Opened::default());
        let outbox = Outbox::new(sent.clone(), true);
        let (events, watched) = watch::channel(0);
        let (frames, mut written) = mpsc::unbounded_channel();
        for stream in 0..STREAMS {
            let (mut watched, frames) = (watched.clone(), frames.clone());
            opened.execute(async move {
                while watched.changed().await.is_ok() {
                    assert_ne!(stream, 7, "this one has a fault");
                    frames.send([0; 10]).unwrap();
                }
            });
        }
        let mut writer = outbox.clone();
        let connection = async move {
            for event in 0..2 {
                // Streams of this turn run in the next.
                tokio::task::yield_now().await;
                events.send_replace(event);
                for _ in 1..STREAMS {
                    writer.write_all(&written.recv().await.unwrap()).await?;
                    writer.flush().await?;
                }
            }
            Ok(())
        };
        Turns::new(opened, outbox).drive(pin!(connection)).await.unwrap();
        assert_eq!(*sent.0.lock(), [(STREAMS - 1) * 10; 2]);
    }
}
