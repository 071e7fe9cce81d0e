//! The queue between change notifications and a reconciler, as client-go's `workqueue`: a key waits
//! at most once, is never worked on twice at the same time, and backs off by itself when it fails.

use crate::informer::lock;
use crate::retry::exponential;
use futures::stream::{FuturesUnordered, StreamExt};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// First and longest wait after a failure: client-go's `DefaultControllerRateLimiter`.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1000);

/// What a reconciler wants done with its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing until something changes.
    Done,
    /// Once more after a wait (something is due then).
    After(Duration),
    /// It failed: again after this key's back-off.
    Retry,
}

/// Cheap to clone; all clones are one queue.
pub struct Workqueue<T>(Arc<Shared<T>>);

impl<T> Clone for Workqueue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    wake: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    /// What waits in `ready`, or became dirty while in work.
    dirty: HashSet<T>,
    working: HashSet<T>,
    failures: HashMap<T, u32>,
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    due: HashMap<u64, T>,
    /// The earliest pending wake-up of a key: later ones for it are dropped, as client-go does.
    earliest: HashMap<T, (Instant, u64)>,
    serial: u64,
}

impl<T: Clone + Eq + Hash> Default for Workqueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash> Workqueue<T> {
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            failures: HashMap::new(),
            delayed: BinaryHeap::new(),
            due: HashMap::new(),
            earliest: HashMap::new(),
            serial: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), wake: Notify::new() }))
    }

    pub fn add(&self, item: T) {
        if lock(&self.0.state).add(item) {
            self.0.wake.notify_one();
        }
    }

    pub fn add_after(&self, item: T, wait: Duration) {
        if wait.is_zero() {
            return self.add(item);
        }
        lock(&self.0.state).add_at(item, Instant::now() + wait);
        self.0.wake.notify_one();
    }

    /// Adds after this item's back-off: 5 ms, doubled by every failure, at most 1000 s.
    pub fn add_rate_limited(&self, item: T) {
        let failures = {
            let mut state = lock(&self.0.state);
            let failures = state.failures.entry(item.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        self.add_after(item, exponential(FIRST_BACKOFF, LONGEST_BACKOFF, failures));
    }

    /// Clears the item's failures.
    pub fn forget(&self, item: &T) {
        lock(&self.0.state).failures.remove(item);
    }

    #[must_use]
    pub fn failures(&self, item: &T) -> u32 {
        lock(&self.0.state).failures.get(item).copied().unwrap_or_default()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.0.state).ready.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for an item. Whoever gets one must call [`done`](Self::done) with it.
    pub async fn get(&self) -> T {
        loop {
            let wake = self.0.wake.notified();
            let next_due = {
                let mut state = lock(&self.0.state);
                state.release_due(Instant::now());
                if let Some(item) = state.take() {
                    if !state.ready.is_empty() {
                        self.0.wake.notify_one(); // Another getter may be asleep.
                    }
                    return item;
                }
                state.delayed.peek().map(|Reverse((at, _))| *at)
            };
            match next_due {
                Some(at) => {
                    tokio::select! { () = wake => {} () = tokio::time::sleep_until(at) => {} }
                }
                None => wake.await,
            }
        }
    }

    pub fn done(&self, item: &T) {
        if lock(&self.0.state).done(item) {
            self.0.wake.notify_one();
        }
    }

    /// Works on up to `workers` items at a time until `stop`, on the calling task.
    pub async fn run<F>(&self, workers: usize, stop: &CancellationToken, mut reconcile: impl FnMut(T) -> F)
    where
        F: Future<Output = Outcome>,
    {
        let mut working = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some((item, outcome)) = working.next() => self.settle(&item, outcome),
                item = self.get(), if working.len() < workers => {
                    let work = reconcile(item.clone());
                    working.push(async move { (item, work.await) });
                }
            }
        }
    }

    fn settle(&self, item: &T, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.forget(item),
            Outcome::After(wait) => {
                self.forget(item);
                self.add_after(item.clone(), wait);
            }
            Outcome::Retry => self.add_rate_limited(item.clone()),
        }
        self.done(item);
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    fn add(&mut self, item: T) -> bool {
        if !self.dirty.insert(item.clone()) || self.working.contains(&item) {
            return false;
        }
        self.ready.push_back(item);
        true
    }

    fn add_at(&mut self, item: T, at: Instant) {
        if let Some((known, serial)) = self.earliest.get(&item) {
            if *known <= at {
                return;
            }
            self.due.remove(serial);
        }
        self.serial += 1;
        self.delayed.push(Reverse((at, self.serial)));
        self.earliest.insert(item.clone(), (at, self.serial));
        self.due.insert(self.serial, item);
    }

    fn release_due(&mut self, now: Instant) {
        while let Some(Reverse((at, serial))) = self.delayed.peek().copied() {
            if at > now {
                return;
            }
            self.delayed.pop();
            if let Some(item) = self.due.remove(&serial) {
                self.earliest.remove(&item);
                self.add(item);
            }
        }
    }

    fn take(&mut self) -> Option<T> {
        let item = self.ready.pop_front()?;
        self.dirty.remove(&item);
        self.working.insert(item.clone());
        Some(item)
    }

    fn done(&mut self, item: &T) -> bool {
        self.working.remove(item);
        if self.dirty.contains(item) {
            self.ready.push_back(item.clone());
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests;
