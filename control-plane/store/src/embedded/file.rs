use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io,
    num::NonZeroU32,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use crate::{Error, Result, Revision};

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Location {
    pub offset: u64,
    pub file: FileId,
    pub length: u32,
}

/// Not zero, so that an absent [`Location`] takes no more room than one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileId(NonZeroU32);

impl FileId {
    pub const FIRST: Self = Self(NonZeroU32::MIN);
}

/// A file of the log. Readers keep it alive after compaction has unlinked it.
pub struct LogFile {
    pub id: FileId,
    pub path: PathBuf,
    pub file: File,
    /// Bytes that are complete and synced.
    pub length: AtomicU64,
}

#[derive(Debug)]
pub enum AppendError {
    Undone(Error),
    Unknown(Error),
}

impl From<AppendError> for Error {
    fn from((AppendError::Undone(error) | AppendError::Unknown(error)): AppendError) -> Self {
        error
    }
}

impl LogFile {
    pub fn open(id: FileId, path: PathBuf, create: bool) -> Result<Self> {
        let opened = OpenOptions::new().read(true).write(true).create(create).truncate(create).open(&path);
        let file = opened.map_err(io_error("open", &path))?;
        let length = AtomicU64::new(0);
        Ok(Self { id, path, file, length })
    }

    pub fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, offset).map_err(io_error("read", &self.path))?;
        Ok(buffer.into())
    }

    /// Writes after what is there and returns when it is on the disk.
    ///
    /// After [`AppendError::Undone`] (a full disk, usually) the file is as it was; after [`AppendError::Unknown`] only
    /// opening the store again can tell what it holds.
    pub fn append(&self, bytes: &[u8], sync: bool) -> Result<(), AppendError> {
        let end = self.length();
        if let Err(error) = self.file.write_all_at(bytes, end) {
            let error = io_error("write", &self.path)(error);
            return Err(match self.file.set_len(end) {
                Ok(()) => AppendError::Undone(error),
                Err(_) => AppendError::Unknown(error),
            });
        }
        if sync {
            let synced = self.file.sync_data().map_err(io_error("sync", &self.path));
            synced.map_err(AppendError::Unknown)?;
        }
        self.length.store(end + bytes.len() as u64, Ordering::Release);
        Ok(())
    }

    pub fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    pub fn unlink(&self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(io_error("remove", &self.path))
    }
}

/// The files that hold the store: at most one base (the state at its revision) and the segments of the log after it.
#[derive(Default)]
pub struct Files {
    pub open: HashMap<FileId, Arc<LogFile>>,
    pub base: Option<Arc<LogFile>>,
    /// Oldest first. The last is written to; the others never change.
    pub segments: Vec<Segment>,
    ids: u32,
}

#[derive(Clone)]
pub struct Segment {
    /// No record of the segment is older.
    pub first: Revision,
    pub file: Arc<LogFile>,
}

impl Files {
    pub fn next_id(&mut self) -> FileId {
        let id = FileId(FileId::FIRST.0.saturating_add(self.ids));
        self.ids += 1;
        id
    }

    pub fn add(&mut self, file: Arc<LogFile>) {
        self.open.insert(file.id, file);
    }

    pub fn active(&self) -> Option<&Segment> {
        self.segments.last()
    }
}

/// Sizes of the files in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub base: u64,
    pub segments: u64,
}

pub fn segment_path(dir: &Path, first: Revision) -> PathBuf {
    dir.join(format!("log-{:020}", first.0))
}

pub fn base_path(dir: &Path, revision: Revision) -> PathBuf {
    dir.join(format!("base-{:020}", revision.0))
}

/// Makes the creation, renaming and removal of files in `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", dir))
}

pub fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}
