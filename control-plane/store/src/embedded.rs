//! The store of a single server: a log of writes on disk and an index of it in memory.
//!
//! Invariants:
//! - A write is acknowledged after `fdatasync` of the batch that holds it, and visible to readers no earlier.
//! - Values live on the disk only (the page cache holds the recent ones); memory holds where they are.
//! - Segments after the base are complete: a watch may start at any revision that has not been compacted.

mod compact;
mod file;
mod follow;
mod index;
pub(crate) mod record;
mod recover;
mod restore;
mod ring;
mod sys;
mod writer;

use std::{
    fs::{File, TryLockError},
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinSet, spawn_blocking},
};

pub use file::Usage;
pub use restore::restore;

use crate::{Entry, Error, EventStream, List, ListOptions, Op, Outcome, Result, Revision, Store, Txn};
use file::{Files, io_error};
use index::{Index, Version};
use ring::Ring;
use writer::Request;

/// As etcd's default limit of a request, so that objects fit both stores.
pub const VALUE_BYTES_MAX: usize = 3 << 19;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment that has reached this size is followed by a fresh one.
    pub segment_bytes: u64,
    /// How long superseded versions stay readable; as upstream's `--etcd-compaction-interval`.
    pub history_age: Duration,
    /// How large the log may become before history younger than that is given up.
    pub history_bytes: u64,
    /// Without it an acknowledged write survives the death of the process, not that of the machine.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, history_age: Duration::from_secs(300), history_bytes: 128 << 20, sync: true }
    }
}

/// How often the files are listed again because compaction changed them meanwhile.
const LOOKS_MAX: usize = 10;

/// See the module.
pub struct Embedded {
    shared: Arc<Shared>,
    requests: Option<mpsc::UnboundedSender<Request>>,
    writer: Option<JoinHandle<()>>,
    _tasks: JoinSet<()>,
}

struct Shared {
    dir: PathBuf,
    options: Options,
    /// Locked before `files` where both are needed.
    index: RwLock<Index>,
    files: RwLock<Files>,
    ring: Mutex<Ring>,
    revision: watch::Sender<Revision>,
    closing: AtomicBool,
    /// Held while files are rewritten.
    compacting: Mutex<()>,
    lock: File,
}

/// Opens or creates the store in `dir`. Fails with [`Error::Locked`] while another process has it open.
pub async fn open(dir: impl AsRef<Path>) -> Result<Embedded> {
    open_with(dir, Options::default()).await
}

pub async fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Embedded> {
    let dir = dir.as_ref().to_owned();
    let shared = spawn_blocking(move || Shared::open(dir, options)).await.map_err(|_| Error::Closed)??;
    let shared = Arc::new(shared);
    let (requests, queue) = mpsc::unbounded_channel();
    let on_thread = shared.clone();
    let writer = std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || writer::run(&on_thread, queue))
        .map_err(io_error("start the writer of", &shared.dir))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(compact::run(shared.clone()));
    Ok(Embedded { shared, requests: Some(requests), writer: Some(writer), _tasks: tasks })
}

/// The store in `dir` as it is at this moment, for reading; a server may have it open. Writes fail.
pub async fn look(dir: impl AsRef<Path>) -> Result<Embedded> {
    let dir = dir.as_ref().to_owned();
    let shared = spawn_blocking(move || Shared::look(dir)).await.map_err(|_| Error::Closed)??;
    Ok(Embedded { shared: Arc::new(shared), requests: None, writer: None, _tasks: JoinSet::new() })
}

impl Embedded {
    pub fn usage(&self) -> Usage {
        let files = self.shared.files.read();
        Usage {
            base: files.base.as_ref().map_or(0, |base| base.length()),
            segments: files.segments.iter().map(|segment| segment.file.length()).sum(),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(self.requests.take());
        if let Some(writer) = self.writer.take() {
            let _panicked = writer.join();
        }
        // Tasks may hold on to `shared` for a moment longer: wait for what changes files, then let the next process in.
        let _idle = self.shared.compacting.lock();
        if let Err(error) = self.shared.lock.unlock() {
            tracing::warn!(%error, "store cannot be unlocked");
        }
        self.shared.revision.send_modify(|_| {});
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let found = self.shared.index.read().get(key).map(|(key, version)| (key.clone(), version));
        found.map(|(key, version)| self.shared.entry(key, version)).transpose()
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<List> {
        let (shared, prefix) = (self.shared.clone(), prefix.to_owned());
        spawn_blocking(move || shared.list(&prefix, &options)).await.map_err(|_| Error::Closed)?
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome> {
        if let Op::Put(value) = &txn.op
            && value.len() > VALUE_BYTES_MAX
        {
            return Err(Error::TooLarge { key: txn.key, size: value.len(), limit: VALUE_BYTES_MAX });
        }
        let (reply, outcome) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(Error::Closed)?;
        requests.send(Request { txn, reply }).map_err(|_| Error::Closed)?;
        outcome.await.map_err(|_| Error::Closed)?
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<EventStream> {
        let compacted = self.shared.index.read().compacted;
        if after < compacted {
            return Err(Error::Compacted { requested: after, compacted });
        }
        Ok(follow::follow(self.shared.clone(), prefix, after))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        let mut index = self.shared.index.write();
        if revision > index.revision {
            return Err(Error::Future { requested: revision, current: index.revision });
        }
        index.compact(revision);
        Ok(())
    }

    async fn current_revision(&self) -> Result<Revision> {
        Ok(self.shared.index.read().revision)
    }
}

impl Shared {
    fn open(dir: PathBuf, options: Options) -> Result<Self> {
        std::fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
        let lock = lock(&dir)?;
        let (index, files) = recover::recover(&dir)?;
        Ok(Self::new(dir, options, index, files, lock))
    }

    fn look(dir: PathBuf) -> Result<Self> {
        // Compaction takes seconds between two rewrites; a few attempts meet none.
        for _ in 0..LOOKS_MAX {
            if let Some((index, files)) = recover::look(&dir)? {
                let unlocked = File::open(&dir).map_err(io_error("open", &dir))?;
                return Ok(Self::new(dir, Options::default(), index, files, unlocked));
            }
        }
        Err(Error::Locked { path: dir })
    }

    fn new(dir: PathBuf, options: Options, index: Index, files: Files, lock: File) -> Self {
        let revision = index.revision;
        Self {
            dir,
            options,
            index: RwLock::new(index),
            files: RwLock::new(files),
            ring: Mutex::new(Ring::new(revision)),
            revision: watch::Sender::new(revision),
            closing: AtomicBool::new(false),
            compacting: Mutex::new(()),
            lock,
        }
    }

    fn list(&self, prefix: &str, options: &ListOptions) -> Result<List> {
        let (found, revision, remaining) = {
            let index = self.index.read();
            let revision = options.revision.unwrap_or(index.revision);
            if revision > index.revision {
                return Err(Error::Future { requested: revision, current: index.revision });
            }
            if revision < index.compacted {
                return Err(Error::Compacted { requested: revision, compacted: index.compacted });
            }
            let start = match options.start_after.as_deref() {
                Some(key) if key >= prefix => Bound::Excluded(key),
                _ => Bound::Included(prefix),
            };
            let mut matching = index.range_at(start, revision).take_while(|(key, _)| key.starts_with(prefix));
            let limit = if options.limit == 0 { usize::MAX } else { options.limit };
            let found: Vec<_> = matching.by_ref().take(limit).map(|(key, version)| (key.clone(), version)).collect();
            (found, revision, matching.count() as u64)
        };
        let entries = found.into_iter().map(|(key, version)| self.entry(key, version)).collect::<Result<_>>()?;
        Ok(List { entries, revision, more: remaining > 0, remaining })
    }

    /// Reads a version that the index had a moment ago.
    fn entry(&self, key: Arc<str>, version: Version) -> Result<Entry> {
        let value = match self.value(version) {
            // Compaction has moved it meanwhile.
            Err(Error::Closed) => self.moved(&key, version)?,
            other => other?,
        };
        Ok(Entry { key, value, create_revision: version.create, mod_revision: version.revision })
    }

    fn moved(&self, key: &str, version: Version) -> Result<Bytes> {
        let index = self.index.read();
        let found = index.range_at(Bound::Included(key), version.revision).next();
        match found.filter(|(found, moved)| ***found == *key && moved.revision == version.revision) {
            Some((_, moved)) => self.value(moved),
            None => Err(Error::Compacted { requested: version.revision, compacted: index.compacted }),
        }
    }

    fn value(&self, version: Version) -> Result<Bytes> {
        let location = version.location.ok_or(Error::Closed)?;
        let file = self.files.read().open.get(&location.file).cloned().ok_or(Error::Closed)?;
        file.read(location.offset, location.length as usize)
    }
}

/// Keeps other processes out of the store in `dir`.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}
