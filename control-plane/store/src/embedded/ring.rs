use std::collections::VecDeque;

use crate::{Change, Event, Revision};

/// The newest events, so that a watch that keeps up never reads the disk.
pub struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    /// Contains every event after this revision.
    pub floor: Revision,
}

const BYTES: usize = 1 << 20;
/// A watch is given this many events at once.
const BATCH: usize = 1_000;

impl Ring {
    pub fn new(floor: Revision) -> Self {
        Self { events: VecDeque::new(), bytes: 0, floor }
    }

    pub fn push(&mut self, events: Vec<Event>) {
        for event in events {
            self.bytes += size(&event);
            self.events.push_back(event);
        }
        while self.bytes > BYTES {
            let Some(event) = self.events.pop_front() else { break };
            self.bytes -= size(&event);
            self.floor = event.revision;
        }
    }

    /// The next events after `revision` and the revision that they reach; `None` if some have been dropped.
    pub fn after(&self, revision: Revision, prefix: &str) -> Option<(Vec<Event>, Revision)> {
        if revision < self.floor {
            return None;
        }
        let start = self.events.partition_point(|event| event.revision <= revision);
        let batch = || self.events.range(start..).take(BATCH);
        let reached = batch().last().map_or(revision, |event| event.revision);
        Some((batch().filter(|event| event.key.starts_with(prefix)).cloned().collect(), reached))
    }
}

fn size(event: &Event) -> usize {
    let value = match &event.change {
        Change::Put { value, .. } => value.len(),
        Change::Delete => 0,
    };
    size_of::<Event>() + value
}
