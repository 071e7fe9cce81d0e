//! The one thread that writes: it commits all writes that arrived during the previous sync with the next one.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    file::{AppendError, Location, LogFile, Segment, segment_path, sync_dir},
    index::Version,
    record::Batch,
    sys,
};
use crate::{Change, Entry, Error, Event, Expect, Op, Outcome, Result, Revision, Txn};

pub struct Request {
    pub txn: Txn,
    pub reply: oneshot::Sender<Result<Outcome>>,
}

/// A batch takes no more requests beyond this.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_REQUESTS: usize = 4_096;

pub fn run(shared: &Shared, mut requests: mpsc::UnboundedReceiver<Request>) {
    if let Err(error) = sys::run_promptly() {
        tracing::debug!(%error, "store writes with normal priority");
    }
    let mut batch = Batch::new();
    let mut failed = false;
    while let Some(first) = requests.blocking_recv() {
        let more = std::iter::from_fn(|| requests.try_recv().ok());
        let mut commit = Commit::new(shared, &mut batch);
        for request in std::iter::once(first).chain(more) {
            if failed {
                let _gone = request.reply.send(Err(Error::Closed));
                continue;
            }
            commit.decide(request);
            if commit.is_full() {
                break;
            }
        }
        match commit.finish() {
            Ok(()) => {}
            Err(AppendError::Undone(error)) => tracing::error!(error = crate::chain(&error), "store cannot write"),
            Err(AppendError::Unknown(error)) => {
                tracing::error!(error = crate::chain(&error), "store cannot write; it refuses writes from here on");
                failed = true;
            }
        }
        batch.clear();
    }
}

/// Writes that become durable together.
struct Commit<'a> {
    shared: &'a Shared,
    batch: &'a mut Batch,
    revision: Revision,
    replies: Vec<(oneshot::Sender<Result<Outcome>>, Result<Outcome>)>,
    writes: Vec<Write>,
    /// The last write of this commit to each key.
    newest: HashMap<Arc<str>, usize>,
}

struct Write {
    key: Arc<str>,
    revision: Revision,
    create: Revision,
    /// The value and where in the batch it is.
    put: Option<(Bytes, usize)>,
}

impl<'a> Commit<'a> {
    fn new(shared: &'a Shared, batch: &'a mut Batch) -> Self {
        let revision = shared.index.read().revision;
        Self { shared, batch, revision, replies: Vec::new(), writes: Vec::new(), newest: HashMap::new() }
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES || self.replies.len() >= BATCH_REQUESTS
    }

    /// Decides a request against the state that the writes before it lead to.
    fn decide(&mut self, Request { txn, reply }: Request) {
        let outcome = self.apply(txn);
        self.replies.push((reply, outcome));
    }

    fn apply(&mut self, Txn { key, expect, op }: Txn) -> Result<Outcome> {
        let index = self.shared.index.read();
        let pending = self.newest.get(key.as_str()).map(|&at| &self.writes[at]);
        let current = match pending {
            Some(write) => write.put.is_some().then_some((write.revision, write.create)),
            None => index.get(&key).map(|(_, version)| (version.revision, version.create)),
        };
        let as_expected = match (expect, current) {
            (Expect::Absent, None) => true,
            (Expect::Revision(expected), Some((revision, _))) => revision == expected,
            _ => false,
        };
        if !as_expected {
            if let Some(write) = pending {
                return Ok(Outcome::Conflict(write.entry()));
            }
            let found = index.get(&key).map(|(key, version)| (key.clone(), version));
            drop(index);
            return Ok(Outcome::Conflict(found.map(|(key, version)| self.shared.entry(key, version)).transpose()?));
        }
        let key = match pending {
            Some(write) => write.key.clone(),
            None => index.interned(&key).cloned().unwrap_or_else(|| key.into()),
        };
        drop(index);
        self.revision.0 += 1;
        let revision = self.revision;
        let create = current.map_or(revision, |(_, create)| create);
        let put = match op {
            Op::Put(value) => {
                let at = self.batch.push(&key, Some(&value), revision, create);
                Some((value, at))
            }
            Op::Delete => {
                self.batch.push(&key, None, revision, create);
                None
            }
        };
        self.newest.insert(key.clone(), self.writes.len());
        self.writes.push(Write { key, revision, create, put });
        Ok(Outcome::Committed(revision))
    }

    /// Makes the writes durable, then visible, then known to who asked.
    fn finish(self) -> Result<(), AppendError> {
        let Self { shared, batch, revision, replies, writes, .. } = self;
        if !batch.is_empty() {
            if let Err(error) = write(shared, batch, &writes) {
                for (reply, _) in replies {
                    let _gone = reply.send(Err(refusal(&error)));
                }
                return Err(error);
            }
            shared.ring.lock().push(writes.into_iter().map(Write::into_event).collect());
            shared.revision.send_replace(revision);
        }
        for (reply, outcome) in replies {
            let _gone = reply.send(outcome);
        }
        Ok(())
    }
}

/// What each writer of a failed commit is told.
fn refusal((AppendError::Undone(error) | AppendError::Unknown(error)): &AppendError) -> Error {
    let cause = std::io::Error::other(crate::chain(error));
    Error::Unavailable { operation: "write", source: cause.into() }
}

fn write(shared: &Shared, batch: &mut Batch, writes: &[Write]) -> Result<(), AppendError> {
    let Some(first) = writes.first() else { return Ok(()) };
    let file = active(shared, first.revision).map_err(AppendError::Undone)?;
    let start = file.length();
    file.append(batch.seal(), shared.options.sync)?;
    let mut index = shared.index.write();
    for write in writes {
        index.insert(write.key.clone(), write.version(start, &file));
    }
    Ok(())
}

/// The segment to write to; a fresh one if the last is full.
fn active(shared: &Shared, first: Revision) -> Result<Arc<LogFile>> {
    if let Some(segment) = shared.files.read().active()
        && segment.file.length() < shared.options.segment_bytes
    {
        return Ok(segment.file.clone());
    }
    let id = shared.files.write().next_id();
    let file = Arc::new(LogFile::open(id, segment_path(&shared.dir, first), true)?);
    if shared.options.sync
        && let Err(error) = sys::allocate(&file.file, shared.options.segment_bytes)
    {
        tracing::debug!(%error, "store cannot reserve space");
    }
    sync_dir(&shared.dir)?;
    let mut files = shared.files.write();
    files.add(file.clone());
    files.segments.push(Segment { first, file: file.clone() });
    Ok(file)
}

impl Write {
    fn version(&self, start: u64, file: &LogFile) -> Version {
        let location = self.put.as_ref().map(|(value, at)| Location {
            offset: start + *at as u64,
            file: file.id,
            length: value.len() as u32,
        });
        Version { revision: self.revision, create: self.create, location }
    }

    fn entry(&self) -> Option<Entry> {
        let (value, _) = self.put.as_ref()?;
        Some(Entry {
            key: self.key.clone(),
            value: value.clone(),
            create_revision: self.create,
            mod_revision: self.revision,
        })
    }

    fn into_event(self) -> Event {
        let change = match self.put {
            Some((value, _)) => Change::Put { value, create_revision: self.create },
            None => Change::Delete,
        };
        Event { key: self.key, revision: self.revision, change }
    }
}
