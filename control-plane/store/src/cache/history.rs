use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Event;
use crate::Revision;

/// How much of the past a resource keeps for watches that start at an older revision.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub events: usize,
    pub bytes: usize,
    pub age: Duration,
    /// How many undelivered events close a watcher.
    pub backlog: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 10_000, bytes: 16 << 20, age: Duration::from_secs(300), backlog: 10_000 }
    }
}

/// The newest events of one resource, oldest first. Contains every event after `floor`.
pub struct History {
    events: VecDeque<(Instant, Arc<Event>)>,
    bytes: usize,
    floor: Revision,
}

impl History {
    pub fn new(floor: Revision) -> Self {
        Self { events: VecDeque::new(), bytes: 0, floor }
    }

    pub fn floor(&self) -> Revision {
        self.floor
    }

    pub fn push(&mut self, event: Arc<Event>, now: Instant, limits: &Limits) {
        self.bytes += size(&event);
        self.events.push_back((now, event));
        self.trim(now, limits);
    }

    /// Drops what exceeds the limits.
    pub fn trim(&mut self, now: Instant, limits: &Limits) {
        while let Some((at, event)) = self.events.front() {
            let old = now.duration_since(*at) > limits.age;
            if !old && self.events.len() <= limits.events && self.bytes <= limits.bytes {
                break;
            }
            self.bytes -= size(event);
            self.floor = event.revision();
            self.events.pop_front();
        }
    }

    /// Events after `revision`, oldest first; `None` if some of them have been dropped.
    pub fn after(&self, revision: Revision) -> Option<impl DoubleEndedIterator<Item = &Arc<Event>>> {
        if revision < self.floor {
            return None;
        }
        let start = self.events.partition_point(|(_, event)| event.revision() <= revision);
        Some(self.events.range(start..).map(|(_, event)| event))
    }
}

/// What an event keeps in memory once its object has been replaced.
fn size(event: &Event) -> usize {
    size_of::<Event>() + event.object.size()
}
