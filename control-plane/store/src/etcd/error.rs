use std::{error::Error as StdError, fmt};

use crate::{Error, Revision};

/// etcd's answer to a request that failed.
#[derive(Debug)]
pub struct Failure {
    operation: &'static str,
    source: Option<etcd_client::Error>,
}

impl Failure {
    pub fn new(operation: &'static str, source: etcd_client::Error) -> Self {
        Self { operation, source: Some(source) }
    }

    pub fn timeout(operation: &'static str) -> Self {
        Self { operation, source: None }
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match &self.source {
            Some(etcd_client::Error::GRpcStatus(status)) => {
                // Codes of google.golang.org/grpc: 4 DeadlineExceeded, 14 Unavailable (no leader, closed connection).
                matches!(status.code() as i32, 1 | 2 | 4 | 14) && !self.is_out_of_space()
            }
            Some(etcd_client::Error::TransportError(_) | etcd_client::Error::IoError(_)) | None => true,
            Some(_) => false,
        }
    }

    pub fn is_compacted(&self) -> bool {
        self.says("revision has been compacted")
    }

    pub fn is_out_of_space(&self) -> bool {
        self.says("database space exceeded")
    }

    /// The error of a request for the state at `requested`.
    pub fn about(self, requested: Revision) -> Error {
        if self.is_compacted() {
            // etcd does not say here which revision is the oldest.
            return Error::Compacted { requested, compacted: Revision(requested.0 + 1) };
        }
        if self.says("required revision is a future revision") {
            return Error::Future { requested, current: Revision(0) };
        }
        self.into()
    }

    /// The error of writing a value of this size.
    pub fn about_value(self, key: &str, size: usize) -> Error {
        if self.says("request is too large") || self.says("message larger than max") {
            return Error::TooLarge { key: key.to_owned(), size, limit: crate::embedded::VALUE_BYTES_MAX };
        }
        self.into()
    }

    fn says(&self, text: &str) -> bool {
        match &self.source {
            Some(etcd_client::Error::GRpcStatus(status)) => status.message().contains(text),
            _ => false,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure.source {
            Some(source) => unavailable(failure.operation, source),
            None => unavailable(failure.operation, Silence),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.operation),
            None => write!(f, "{}: {Silence}", self.operation),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no etcd endpoint answered in time")]
struct Silence;

pub fn unavailable(operation: &'static str, source: impl StdError + Send + Sync + 'static) -> Error {
    Error::Unavailable { operation, source: Box::new(source) }
}
