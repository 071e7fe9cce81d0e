//! Watches: from memory while they keep up, from the log's files when they start in the past.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::{sync::watch, task::spawn_blocking};

use super::{
    Shared,
    record::{self, BATCH_HEADER, Header},
};
use crate::{Change, Error, Event, EventStream, Result, Revision};

struct Follower {
    shared: Arc<Shared>,
    prefix: Arc<str>,
    /// Everything up to this revision has been delivered.
    after: Revision,
    committed: watch::Receiver<Revision>,
}

pub fn follow(shared: Arc<Shared>, prefix: &str, after: Revision) -> EventStream {
    let committed = shared.revision.subscribe();
    let follower = Follower { shared, prefix: prefix.into(), after, committed };
    stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(Some(events)) => Some((Ok(events), Some(follower))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Follower {
    /// `None` when the store has been closed.
    async fn next(&mut self) -> Result<Option<Vec<Event>>> {
        loop {
            self.committed.borrow_and_update();
            let recent = self.shared.ring.lock().after(self.after, &self.prefix);
            let (events, reached) = match recent {
                Some(recent) => recent,
                None => self.read().await?,
            };
            let progressed = reached > self.after;
            self.after = self.after.max(reached);
            if !events.is_empty() {
                return Ok(Some(events));
            }
            if self.shared.closing.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if !progressed && self.committed.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn read(&self) -> Result<(Vec<Event>, Revision)> {
        let (shared, prefix, after) = (self.shared.clone(), self.prefix.clone(), self.after);
        spawn_blocking(move || shared.read_segment(after, &prefix)).await.map_err(|_| Error::Closed)?
    }
}

impl Shared {
    /// Events after `after` of the segment that holds the first of them, and the revision that they reach.
    fn read_segment(&self, after: Revision, prefix: &str) -> Result<(Vec<Event>, Revision)> {
        let (file, compacted) = {
            let index = self.index.read();
            let files = self.files.read();
            let segment = files.segments.iter().rev().find(|segment| segment.first.0 <= after.0 + 1);
            (segment.map(|segment| segment.file.clone()), index.compacted)
        };
        let Some(file) = file.filter(|_| after >= compacted) else {
            return Err(Error::Compacted { requested: after, compacted });
        };
        let bytes = file.read(0, file.length() as usize)?;
        let (mut events, mut reached, mut at) = (Vec::new(), after, 0);
        while let Some(header) = Header::parse(bytes.get(at..).unwrap_or_default()) {
            let payload = bytes.slice(at + BATCH_HEADER..(at + BATCH_HEADER + header.length).min(bytes.len()));
            at += BATCH_HEADER + header.length;
            for record in record::records(&payload).filter(|record| record.revision > after) {
                reached = record.revision;
                events.extend(event(record, prefix));
            }
        }
        Ok((events, reached))
    }
}

fn event(record: record::Record, prefix: &str) -> Option<Event> {
    let key = std::str::from_utf8(&record.key).ok().filter(|key| key.starts_with(prefix))?;
    let change = match record.value {
        // A copy: the slice would keep the whole segment in memory.
        Some(value) => Change::Put { value: Bytes::copy_from_slice(&value), create_revision: record.create },
        None => Change::Delete,
    };
    Some(Event { key: key.into(), revision: record.revision, change })
}
