//! One error for every call: the operation and its object; the cause is `source`.

use std::io;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} {object}")]
    Rpc {
        operation: &'static str,
        object: String,
        #[source]
        source: Box<tonic::Status>,
    },
    #[error("{operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("parse {what}")]
    Json {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{0}")]
    Archive(String),
    #[error("{operation} timed out")]
    Timeout { operation: &'static str },
}

impl Error {
    pub(crate) fn rpc(operation: &'static str, object: impl Into<String>) -> impl FnOnce(tonic::Status) -> Self {
        let object = object.into();
        move |status| Self::Rpc { operation, object, source: Box::new(status) }
    }

    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }

    /// The runtime does not know the object.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(tonic::Code::NotFound)
    }

    /// The runtime could not be reached; the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.code(), Some(tonic::Code::Unavailable | tonic::Code::Cancelled))
    }

    fn code(&self) -> Option<tonic::Code> {
        match self {
            Self::Rpc { source, .. } => Some(source.code()),
            _ => None,
        }
    }

    /// What a user reads in an event or a container's `waiting.message`: the runtime's own words where it spoke.
    pub fn message(&self) -> String {
        match self {
            Self::Rpc { source, .. } => format!("rpc error: code = {:?} desc = {}", source.code(), source.message()),
            other => chain(other),
        }
    }
}

/// The error and its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |&e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
