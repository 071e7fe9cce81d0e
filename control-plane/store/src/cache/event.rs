use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Filter, Object};
use crate::Revision;

/// A watch event's type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Added,
    Modified,
    Deleted,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Added => r#"{"type":"ADDED","object":"#,
            Self::Modified => r#"{"type":"MODIFIED","object":"#,
            Self::Deleted => r#"{"type":"DELETED","object":"#,
        }
    }
}

/// What happened to an object, shared by every watcher that is told.
pub struct Event {
    pub kind: Kind,
    /// The object after the change; for `Deleted` its last state with the revision of the deletion.
    pub object: Arc<Object>,
    /// The object before the change.
    pub prev: Option<Arc<Object>>,
    /// What few events are asked for.
    derived: OnceLock<Box<Derived>>,
}

#[derive(Default)]
struct Derived {
    /// Where the object does not hold it.
    json: OnceLock<Bytes>,
    /// The same change for watchers whose filter the object came to match, or ceased to.
    appeared: OnceLock<Arc<Event>>,
    vanished: OnceLock<Arc<Event>>,
}

impl Event {
    pub(super) fn new(kind: Kind, object: Arc<Object>, prev: Option<Arc<Object>>) -> Self {
        Self { kind, object, prev, derived: OnceLock::new() }
    }

    fn derived(&self) -> &Derived {
        self.derived.get_or_init(Box::default)
    }

    pub fn revision(&self) -> Revision {
        self.object.revision()
    }

    /// `{"type":…,"object":…}` and a newline. Encoded once.
    pub fn json(&self) -> Bytes {
        match self.object.frame_of(self.kind) {
            Some(frame) => frame,
            None => self.derived().json.get_or_init(|| self.object.event_json(self.kind)).clone(),
        }
    }

    /// This event as a watcher with `filter` sees it.
    pub fn seen_through(self: &Arc<Self>, filter: &Filter) -> Option<Arc<Self>> {
        if filter.is_all() {
            return Some(self.clone());
        }
        let before = self.prev.as_ref().is_some_and(|prev| filter.matches(prev));
        let after = self.kind != Kind::Deleted && filter.matches(&self.object);
        match (self.kind, before, after) {
            (_, false, false) => None,
            (Kind::Added, ..) | (Kind::Deleted, ..) | (Kind::Modified, true, true) => Some(self.clone()),
            (Kind::Modified, false, true) => Some(
                self.derived()
                    .appeared
                    .get_or_init(|| Arc::new(Self::new(Kind::Added, self.object.clone(), None)))
                    .clone(),
            ),
            (Kind::Modified, true, false) => self.prev.as_ref().map(|prev| {
                let removed = || {
                    let last = Arc::new(prev.removed(self.revision()));
                    Arc::new(Self::new(Kind::Deleted, last, Some(prev.clone())))
                };
                self.derived().vanished.get_or_init(removed).clone()
            }),
        }
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.kind.as_str(), self.object)
    }
}
