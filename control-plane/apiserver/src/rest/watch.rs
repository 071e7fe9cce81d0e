//! WATCH: a stream of events from the cache, each encoded once for all watchers.

mod frame;

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http::Response;
use rand::Rng;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use xebec_machinery::Status;
use xebec_store::Revision;
use xebec_store::cache::{Kind, Snapshot, Start, Watcher};

use super::{Answer, Call, encode, list};
use crate::app::store_error;
use crate::body::{Body, BoxError};
use crate::options::ListOptions;
use frame::Framer;

/// Upstream sends a bookmark about once a minute; more often keeps clients' restarts cheaper.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(30);
/// A watch announces where it got to shortly before its time is over.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// Initial events are sent in chunks of about this size.
const CHUNK_BYTES: usize = 64 << 10;

pub async fn watch(call: &Call) -> Answer {
    let options = ListOptions::parse(&call.query, true)?;
    let filter = filter(call, &options)?;
    let namespace = Some(call.namespace()).filter(|n| !n.is_empty());
    let wanted = options.resource_version.filter(|v| v.0 != 0);
    let framer = Framer::new(call);
    // What the client has to be told before anything happens.
    let (start, initial) = match (options.send_initial_events, wanted) {
        (Some(true), _) | (None, None) => (Start::Snapshot, true),
        (Some(false), None) => (Start::Snapshot, false),
        (_, Some(revision)) => (Start::After(revision), false),
    };
    let caught_up = match (start, options.resource_version) {
        (Start::After(_), _) => Ok(()),
        (Start::Snapshot, None) => call.app.cache.barrier().await.map(|_| ()),
        (Start::Snapshot, Some(revision)) => call.app.cache.wait_for(revision).await,
    };
    let watched = caught_up.and_then(|()| call.app.cache.watch(&call.resource.storage, namespace, filter, start));
    let body = match watched {
        Ok(mut watcher) => {
            let snapshot = watcher.take_snapshot().filter(|_| initial);
            let ends = Instant::now() + timeout(call, &options);
            let bookmarks = options.allow_watch_bookmarks;
            let announce = options.send_initial_events == Some(true) && bookmarks;
            let stop = Box::pin(call.resource.stop(&call.app.stop).clone().cancelled_owned());
            let progress = watcher.progress();
            Body::stream(Events {
                watcher,
                framer: framer.clone(),
                initial: snapshot.map(|snapshot| Initial { snapshot, next: 0 }),
                announce,
                bookmarks,
                ends,
                alarm: Box::pin(tokio::time::sleep_until(ends.min(Instant::now() + BOOKMARK_INTERVAL))),
                bookmarked: progress,
                finished: false,
                stop,
            })
        }
        // Upstream's cacher reports this inside the stream too.
        Err(error) => Body::stream(futures::stream::iter([Ok(framer.error(&store_error(error)))])),
    };
    let mut response = Response::new(body);
    encode::standard_headers(response.headers_mut(), framer.media_type());
    Ok(response)
}

fn filter(call: &Call, options: &ListOptions) -> Result<xebec_store::cache::Filter, Status> {
    let filter = list::filter(&call.resource, &options.labels, &options.fields)?;
    // `GET …/pods/p?watch=true` and the deprecated /watch/ paths name the object in the path.
    Ok(if call.name().is_empty() { filter } else { filter.with_name(call.name()) })
}

fn timeout(call: &Call, options: &ListOptions) -> Duration {
    options.timeout.unwrap_or_else(|| call.app.config.min_request_timeout.mul_f64(rand::rng().random_range(1.0..2.0)))
}

struct Initial {
    snapshot: Snapshot,
    next: usize,
}

struct Events {
    watcher: Watcher,
    framer: Framer,
    initial: Option<Initial>,
    /// Whether a bookmark ends the initial events.
    announce: bool,
    bookmarks: bool,
    ends: Instant,
    /// Rings at the next bookmark, or when the watch ends. Kept from event to event, as `stop` is: to register with the timer
    /// and the token takes locks that all watchers share.
    alarm: Pin<Box<Sleep>>,
    /// What the last bookmark said.
    bookmarked: Revision,
    finished: bool,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Stream for Events {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx).map(|bytes| bytes.map(Ok))
    }
}

impl Events {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.finished {
            return Poll::Ready(None);
        }
        if let Some(bytes) = self.initial_events() {
            return Poll::Ready(Some(bytes));
        }
        loop {
            if self.stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            match self.watcher.poll_next(cx) {
                Poll::Ready(Ok(event)) => return Poll::Ready(Some(self.batch(event))),
                Poll::Ready(Err(error)) => {
                    self.finished = true;
                    return Poll::Ready(Some(self.framer.error(&gone(&error))));
                }
                Poll::Pending => {}
            }
            ready!(self.alarm.as_mut().poll(cx));
            if Instant::now() >= self.ends {
                return Poll::Ready(None);
            }
            let last = self.ends - LAST_BOOKMARK;
            self.alarm.as_mut().reset(match Instant::now() {
                now if now < last => (now + BOOKMARK_INTERVAL).min(last),
                _ => self.ends,
            });
            let progress = self.watcher.progress();
            if self.bookmarks && progress > self.bookmarked {
                self.bookmarked = progress;
                return Poll::Ready(Some(self.framer.bookmark(progress, false)));
            }
        }
    }

    /// Some of the present objects as ADDED events, the closing bookmark at last.
    fn initial_events(&mut self) -> Option<Bytes> {
        let initial = self.initial.as_mut()?;
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES {
            let Some(object) = initial.snapshot.objects.get(initial.next) else {
                let revision = initial.snapshot.revision;
                self.initial = None;
                if self.announce {
                    self.bookmarked = revision;
                    chunk.extend_from_slice(&self.framer.bookmark(revision, true));
                }
                break;
            };
            initial.next += 1;
            chunk.extend_from_slice(&self.framer.object(Kind::Added, object));
        }
        (!chunk.is_empty()).then(|| chunk.into())
    }

    /// The event and those that already wait behind it.
    fn batch(&mut self, event: std::sync::Arc<xebec_store::cache::Event>) -> Bytes {
        let first = self.framer.event(&event);
        let mut chunk: Option<Vec<u8>> = None;
        while chunk.as_ref().map_or(first.len(), Vec::len) < CHUNK_BYTES {
            // An error shows again at the next read.
            let Ok(Some(event)) = self.watcher.try_next() else { break };
            chunk.get_or_insert_with(|| first.to_vec()).extend_from_slice(&self.framer.event(&event));
        }
        chunk.map_or(first, Bytes::from)
    }
}

/// The watcher was too slow or the cache lost its place: the client must list again.
fn gone(error: &xebec_store::Error) -> Status {
    match error {
        xebec_store::Error::WatchClosed { reason } => Status::expired(format!("watch closed: {reason}")),
        error => Status::internal(error),
    }
}
