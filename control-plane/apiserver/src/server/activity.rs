//! What a connection is doing: one that does nothing for long, and one whose answers are not read, end.
//!
//! Time limits on the transport do not see these: a client may answer every ping and yet never let a byte of its answer
//! through, or never ask for anything.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::body::{Body, BoxError};
use crate::config::Limits;
use crate::pipeline::LongRunning;

pub struct Activity {
    limits: Limits,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    last: u64,
    /// Requests, with the time by which their answers must have been read if they are to be.
    running: BTreeMap<u64, Option<Instant>>,
    idle_since: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overdue {
    Idle,
    Unread,
}

impl Activity {
    pub fn new(limits: Limits) -> Self {
        let state = State { last: 0, running: BTreeMap::new(), idle_since: Instant::now() };
        Self { limits, state: Mutex::new(state), changed: Notify::new() }
    }

    /// A request has come.
    pub fn begin(self: &Arc<Self>) -> Running {
        let mut state = self.state.lock();
        state.last += 1;
        let number = state.last;
        state.running.insert(number, None);
        drop(state);
        self.changed.notify_one();
        Running { activity: self.clone(), number }
    }

    /// Returns when something took too long.
    pub async fn overdue(&self) -> Overdue {
        loop {
            let next = self.next();
            let Some((at, what)) = next else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(at) => {
                    // What was waited for may have happened at the last moment.
                    if self.next() == next {
                        return what;
                    }
                }
                () = self.changed.notified() => {}
            }
        }
    }

    /// For comparisons: whether a request is being served, and when the last one ended.
    pub fn rank(&self) -> (bool, Instant) {
        let state = self.state.lock();
        (!state.running.is_empty(), state.idle_since)
    }

    fn next(&self) -> Option<(Instant, Overdue)> {
        let state = self.state.lock();
        if state.running.is_empty() {
            return Some((state.idle_since + self.limits.idle, Overdue::Idle));
        }
        state.running.values().flatten().min().map(|at| (*at, Overdue::Unread))
    }
}

/// A request that is being served, until its answer is written or given up.
pub struct Running {
    activity: Arc<Activity>,
    number: u64,
}

impl Running {
    /// The answer, which must be read in time unless it is one that goes on.
    pub fn answered(self, response: Response<Body>) -> Response<Answer> {
        if response.extensions().get::<LongRunning>().is_none() {
            let at = Instant::now() + self.activity.limits.answer;
            self.activity.state.lock().running.insert(self.number, Some(at));
            self.activity.changed.notify_one();
        }
        response.map(|body| Answer { body, _running: self })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.activity.state.lock();
        state.running.remove(&self.number);
        state.idle_since = Instant::now();
        drop(state);
        self.activity.changed.notify_one();
    }
}

/// The body of an answer.
pub struct Answer {
    body: Body,
    _running: Running,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What ends the connection if nothing happens, in how many seconds.
    #[track_caller]
    fn check(activity: &Activity, expected: Option<(u64, Overdue)>) {
        let next = activity.next().map(|(at, what)| ((at - Instant::now()).as_secs() + 1, what));
        assert_eq!(next, expected);
    }

    #[test]
    fn a_connection_without_requests_is_idle_and_answers_are_to_be_read() {
        let activity = Arc::new(Activity::new(Limits { idle: 90 * SECOND, answer: 60 * SECOND, ..Limits::default() }));
        check(&activity, Some((90, Overdue::Idle)));
        let running = activity.begin();
        check(&activity, None);
        let mut watch = Response::new(Body::empty());
        watch.extensions_mut().insert(LongRunning);
        let watch = activity.begin().answered(watch);
        check(&activity, None);
        let list = running.answered(Response::new(Body::empty()));
        check(&activity, Some((60, Overdue::Unread)));
        drop(list);
        check(&activity, None);
        drop(watch);
        check(&activity, Some((90, Overdue::Idle)));
    }

    #[tokio::test]
    async fn what_is_overdue_is_told() {
        let activity = Activity::new(Limits { idle: Duration::ZERO, ..Limits::default() });
        assert_eq!(activity.overdue().await, Overdue::Idle);
    }
}
