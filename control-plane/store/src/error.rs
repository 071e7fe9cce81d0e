use std::{error::Error as StdError, io, path::PathBuf};

use crate::Revision;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API answers 410 Expired.
    #[error("revision {requested} has been compacted; the oldest is {compacted}")]
    Compacted { requested: Revision, compacted: Revision },

    #[error("revision {requested} is in the future; the newest is {current}")]
    Future { requested: Revision, current: Revision },

    /// Whether a write took effect is unknown.
    #[error("store is unavailable: {operation}")]
    Unavailable {
        operation: &'static str,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },

    #[error("{operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("{path} is damaged at offset {offset}: {reason}")]
    Corrupt { path: PathBuf, offset: u64, reason: &'static str },

    #[error("{path} is in use by another process")]
    Locked { path: PathBuf },

    #[error("{place} holds objects already")]
    NotEmpty { place: String },

    #[error("value of {key} has {size} bytes; the limit is {limit}")]
    TooLarge { key: String, size: usize, limit: usize },

    #[error("invalid etcd {what}: {value}")]
    InvalidOption { what: &'static str, value: String },

    #[error("timed out waiting for revision {revision}; the cache is at {current}")]
    Timeout { revision: Revision, current: Revision },

    /// The watcher did not read fast enough, or the cache lost its place and started again.
    #[error("watch closed: {reason}")]
    WatchClosed { reason: &'static str },

    #[error("store is closed")]
    Closed,
}

/// `error` and its causes on one line.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    std::iter::successors(Some(error), |&e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
