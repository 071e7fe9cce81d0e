use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use parking_lot::RwLock;
use tokio::{sync::watch, time::Instant};

use super::{
    Event, Filter, Kind, Limits, Object, Query, Snapshot, Start, Watcher,
    history::History,
    key,
    watcher::{Mailbox, Topic, Watchers},
};
use crate::{Error, Result, Revision};

/// The objects of one resource, their recent history and who watches them.
pub struct Resource {
    name: Arc<str>,
    limits: Limits,
    state: RwLock<State>,
}

struct State {
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    /// Of the newest event.
    revision: Revision,
    history: History,
    watchers: Watchers,
}

impl Resource {
    /// Without objects at `revision`.
    pub fn new(name: Arc<str>, revision: Revision, limits: Limits) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            revision,
            history: History::new(revision),
            watchers: Watchers::default(),
        };
        Self { name, limits, state: RwLock::new(state) }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.state.read().objects.get(key).cloned()
    }

    /// These objects, at `revision`, instead of all before; closes the watchers, which did not hear what happened between.
    pub fn replace(&self, objects: Vec<Arc<Object>>, revision: Revision) {
        let mut state = self.state.write();
        state.objects = objects.into_iter().map(|object| (object.key().clone(), object)).collect();
        state.revision = revision;
        state.history = History::new(revision);
        state.watchers.close("the cache was loaded again");
    }

    /// The object has this content from its revision on.
    pub fn put(&self, object: Arc<Object>, now: Instant) {
        let mut state = self.state.write();
        if object.revision() <= state.revision {
            return;
        }
        let prev = state.objects.insert(object.key().clone(), object.clone());
        let kind = if prev.is_some() { Kind::Modified } else { Kind::Added };
        state.record(Event::new(kind, object, prev), now, &self.limits);
    }

    /// The object is gone from `revision` on.
    pub fn remove(&self, key: &str, revision: Revision, now: Instant) {
        let mut state = self.state.write();
        if revision <= state.revision {
            return;
        }
        if let Some(prev) = state.objects.remove(key) {
            let last = Arc::new(prev.removed(revision));
            state.record(Event::new(Kind::Deleted, last, Some(prev)), now, &self.limits);
        }
    }

    /// Drops history that has become too old.
    pub fn trim(&self, now: Instant) {
        self.state.write().history.trim(now, &self.limits);
    }

    /// The present state.
    pub fn list(&self, query: &Query<'_>, applied: &watch::Sender<Revision>) -> Snapshot {
        let state = self.state.read();
        // Events of this resource up to `applied` are in `state`, and newer ones cannot be applied while it is locked.
        let revision = state.revision.max(*applied.borrow());
        if let (Some(name), Some(namespace)) = (query.filter.name(), query.namespace) {
            let object = state.objects.get(key(query.resource, Some(namespace), name).as_str());
            let objects = object.filter(|object| query.filter.matches(object)).cloned().into_iter().collect();
            return Snapshot { revision, objects, next: None, remaining: None };
        }
        page(query, revision, self.range(&state, query).map(|(_, object)| object))
    }

    /// The state at `revision`, which must have been applied; `None` if the history does not reach back to it.
    pub fn list_at(&self, query: &Query<'_>, revision: Revision) -> Option<Snapshot> {
        let state = self.state.read();
        if state.revision <= revision {
            return Some(page(query, revision, self.range(&state, query).map(|(_, object)| object)));
        }
        // What each object was before the first event that is too new.
        let mut before: BTreeMap<&Arc<str>, Option<&Arc<Object>>> = BTreeMap::new();
        for event in state.history.after(revision)?.rev() {
            before.insert(event.object.key(), event.prev.as_ref());
        }
        let (start, end) = bounds(query);
        let inside = |key: &str| after(&start, key) && key < end.as_str();
        let mut objects: BTreeMap<&Arc<str>, &Arc<Object>> = self.range(&state, query).collect();
        for (key, prev) in before {
            match prev {
                Some(prev) if inside(key) => objects.insert(key, prev),
                _ => objects.remove(key),
            };
        }
        Some(page(query, revision, objects.into_values()))
    }

    pub fn watch(
        self: &Arc<Self>,
        namespace: Option<&str>,
        filter: Filter,
        start: Start,
        applied: watch::Receiver<Revision>,
    ) -> Result<Watcher> {
        let mailbox = Arc::new(Mailbox::new(Topic::new(&self.name, namespace, &filter)));
        let mut state = self.state.write();
        let (snapshot, from) = match start {
            Start::After(from) => {
                let compacted = state.history.floor();
                let missed = state.history.after(from).ok_or(Error::Compacted { requested: from, compacted })?;
                missed.for_each(|event| mailbox.push(event, usize::MAX));
                (None, from)
            }
            Start::Snapshot => {
                let query = Query { resource: &self.name, namespace, filter: filter.clone(), ..Query::default() };
                let revision = state.revision.max(*applied.borrow());
                let snapshot = page(&query, revision, self.range(&state, &query).map(|(_, object)| object));
                (Some(snapshot), revision)
            }
        };
        state.watchers.add(mailbox.clone());
        let filter = filter.within(namespace);
        Ok(Watcher { filter, mailbox, snapshot, after: from, applied, resource: Arc::downgrade(self) })
    }

    pub fn forget(&self, mailbox: &Arc<Mailbox>) {
        self.state.write().watchers.remove(mailbox);
    }

    fn range<'a>(
        &self,
        state: &'a State,
        query: &Query<'_>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Object>)> + use<'a> {
        let (start, end) = bounds(query);
        let start = match &start {
            Bound::Included(key) => Bound::Included(key.as_str()),
            Bound::Excluded(key) => Bound::Excluded(key.as_str()),
            Bound::Unbounded => Bound::Unbounded,
        };
        state.objects.range::<str, _>((start, Bound::Excluded(end.as_str())))
    }
}

impl State {
    fn record(&mut self, event: Event, now: Instant, limits: &Limits) {
        let event = Arc::new(event);
        self.revision = event.revision();
        self.watchers.dispatch(&event, limits.backlog);
        self.history.push(event, now, limits);
    }
}

/// The keys that a query ranges over: start, and excluded end.
fn bounds(query: &Query<'_>) -> (Bound<String>, String) {
    let mut prefix = format!("{}{}/", crate::PREFIX, query.resource);
    if let Some(namespace) = query.namespace {
        prefix.push_str(namespace);
        prefix.push('/');
    }
    // `0` follows `/`.
    let end = format!("{}0", &prefix[..prefix.len() - 1]);
    match query.start_after {
        Some(key) if key >= end.as_str() => (Bound::Excluded(end.clone()), end),
        Some(key) if key >= prefix.as_str() => (Bound::Excluded(key.to_owned()), end),
        _ => (Bound::Included(prefix), end),
    }
}

fn after(start: &Bound<String>, key: &str) -> bool {
    match start {
        Bound::Included(start) => key >= start.as_str(),
        Bound::Excluded(start) => key > start.as_str(),
        Bound::Unbounded => true,
    }
}

fn page<'a>(query: &Query<'_>, revision: Revision, mut objects: impl Iterator<Item = &'a Arc<Object>>) -> Snapshot {
    let unfiltered = query.filter.is_all();
    let mut matching = objects.by_ref().filter(|object| unfiltered || query.filter.matches(object));
    if query.limit == 0 {
        let objects = matching.cloned().collect();
        return Snapshot { revision, objects, next: None, remaining: unfiltered.then_some(0) };
    }
    let objects: Vec<_> = matching.by_ref().take(query.limit).cloned().collect();
    let more = matching.next().is_some();
    let next = objects.last().filter(|_| more).map(|object| object.key().to_string());
    let remaining = unfiltered.then(|| if more { 1 + matching.count() as u64 } else { 0 });
    Snapshot { revision, objects, next, remaining }
}
