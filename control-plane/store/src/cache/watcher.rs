use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Event, Filter, Snapshot, resource::Resource};
use crate::{Error, Result, Revision};

/// The events of one watch, in order.
pub struct Watcher {
    pub(super) filter: Filter,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) snapshot: Option<Snapshot>,
    /// Events up to this revision are part of where the watch started.
    pub(super) after: Revision,
    pub(super) applied: watch::Receiver<Revision>,
    pub(super) resource: Weak<Resource>,
}

impl Watcher {
    /// The state that the events continue, if the watch was started with `Start::Snapshot`; once.
    pub fn take_snapshot(&mut self) -> Option<Snapshot> {
        self.snapshot.take()
    }

    /// The next event. Fails with [`Error::WatchClosed`] when the watcher was too slow; the client must list again.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Arc<Event>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`], for who polls. One task at a time is woken: the last that polled.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Event>>> {
        match self.take(Some(cx.waker())) {
            Ok(Some(event)) => Poll::Ready(Ok(event)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>> {
        self.take(None)
    }

    /// The next event; `waiting` is woken when there is one, if there is none now.
    fn take(&mut self, waiting: Option<&Waker>) -> Result<Option<Arc<Event>>> {
        loop {
            let event = {
                let mut queue = self.mailbox.queue.lock();
                if let Some(reason) = queue.closed {
                    return Err(Error::WatchClosed { reason });
                }
                let event = queue.events.pop_front();
                if event.is_none()
                    && let Some(waker) = waiting
                    && !queue.waiting.as_ref().is_some_and(|known| known.will_wake(waker))
                {
                    queue.waiting = Some(waker.clone());
                }
                event
            };
            let Some(event) = event else { return Ok(None) };
            if event.revision() <= self.after {
                continue;
            }
            self.after = event.revision();
            if let Some(event) = event.seen_through(&self.filter) {
                return Ok(Some(event));
            }
        }
    }

    /// The revision up to which this watcher has been given every event: what a bookmark may say.
    pub fn progress(&self) -> Revision {
        // Read before the queue: whatever is applied has been queued before.
        let applied = *self.applied.borrow();
        if self.mailbox.queue.lock().events.is_empty() { applied.max(self.after) } else { self.after }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(resource) = self.resource.upgrade() {
            resource.forget(&self.mailbox);
        }
    }
}

/// Undelivered events of a watcher.
pub struct Mailbox {
    pub topic: Topic,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Arc<Event>>,
    closed: Option<&'static str>,
    /// Who is woken by what comes next.
    waiting: Option<Waker>,
}

impl Mailbox {
    pub fn new(topic: Topic) -> Self {
        Self { topic, queue: Mutex::default() }
    }

    pub fn push(&self, event: &Arc<Event>, backlog: usize) {
        let mut queue = self.queue.lock();
        if queue.closed.is_some() {
            return;
        }
        if queue.events.len() >= backlog {
            queue.events = VecDeque::new();
            queue.closed = Some("the watcher is too slow");
        } else {
            queue.events.push_back(event.clone());
        }
        let waiting = queue.waiting.take();
        // Not under the lock, which the woken take first of all.
        drop(queue);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    pub fn close(&self, reason: &'static str) {
        let mut queue = self.queue.lock();
        queue.events = VecDeque::new();
        queue.closed = Some(reason);
        let waiting = queue.waiting.take();
        // Not under the lock, which the woken take first of all.
        drop(queue);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

/// The narrowest set of objects that a watcher certainly does not look beyond.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    All,
    Namespace(Arc<str>),
    Key(Arc<str>),
    Field(Arc<str>, Arc<str>),
}

impl Topic {
    pub fn new(resource: &str, namespace: Option<&str>, filter: &Filter) -> Self {
        match (filter.name(), filter.field(), namespace) {
            (Some(name), _, Some(_)) => Self::Key(super::key(resource, namespace, name).into()),
            (_, Some((field, value)), _) => Self::Field(field.clone(), value.clone()),
            (_, None, Some(namespace)) => Self::Namespace(namespace.into()),
            (_, None, None) => Self::All,
        }
    }
}

/// The watchers of one resource by topic: an event reaches those it may concern and costs nothing for others.
#[derive(Default)]
pub struct Watchers {
    all: Vec<Arc<Mailbox>>,
    namespaces: ByName,
    keys: ByName,
    fields: HashMap<Arc<str>, ByName>,
}

type ByName = HashMap<Arc<str>, Vec<Arc<Mailbox>>>;

impl Watchers {
    pub fn add(&mut self, mailbox: Arc<Mailbox>) {
        match mailbox.topic.clone() {
            Topic::All => self.all.push(mailbox),
            Topic::Namespace(namespace) => self.namespaces.entry(namespace).or_default().push(mailbox),
            Topic::Key(key) => self.keys.entry(key).or_default().push(mailbox),
            Topic::Field(field, value) => {
                self.fields.entry(field).or_default().entry(value).or_default().push(mailbox);
            }
        }
    }

    pub fn remove(&mut self, mailbox: &Arc<Mailbox>) {
        match &mailbox.topic {
            Topic::All => drop_from(&mut self.all, mailbox),
            Topic::Namespace(namespace) => drop_from_map(&mut self.namespaces, namespace, mailbox),
            Topic::Key(key) => drop_from_map(&mut self.keys, key, mailbox),
            Topic::Field(field, value) => {
                if let Some(values) = self.fields.get_mut(field) {
                    drop_from_map(values, value, mailbox);
                    if values.is_empty() {
                        self.fields.remove(field);
                    }
                }
            }
        }
    }

    pub fn dispatch(&self, event: &Arc<Event>, backlog: usize) {
        let object = &event.object;
        let send = |mailboxes: Option<&Vec<Arc<Mailbox>>>| {
            for mailbox in mailboxes.into_iter().flatten() {
                mailbox.push(event, backlog);
            }
        };
        send(Some(&self.all));
        if !self.namespaces.is_empty() {
            send(self.namespaces.get(object.namespace()));
        }
        if !self.keys.is_empty() {
            send(self.keys.get(object.key()));
        }
        for (field, values) in &self.fields {
            let after = object.field(field);
            let before = event.prev.as_ref().and_then(|prev| prev.field(field));
            send(after.and_then(|value| values.get(value)));
            if before != after {
                send(before.and_then(|value| values.get(value)));
            }
        }
    }

    pub fn close(&mut self, reason: &'static str) {
        let Self { all, namespaces, keys, fields } = std::mem::take(self);
        let named = namespaces
            .into_values()
            .chain(keys.into_values())
            .chain(fields.into_values().flat_map(HashMap::into_values));
        for mailbox in all.into_iter().chain(named.flatten()) {
            mailbox.close(reason);
        }
    }
}

fn drop_from(mailboxes: &mut Vec<Arc<Mailbox>>, mailbox: &Arc<Mailbox>) {
    if let Some(at) = mailboxes.iter().position(|other| Arc::ptr_eq(other, mailbox)) {
        mailboxes.swap_remove(at);
    }
}

fn drop_from_map(map: &mut ByName, key: &Arc<str>, mailbox: &Arc<Mailbox>) {
    if let Some(mailboxes) = map.get_mut(key) {
        drop_from(mailboxes, mailbox);
        if mailboxes.is_empty() {
            map.remove(key);
        }
    }
}
