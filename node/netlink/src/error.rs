//! Every error names the operation and the object; the errno is the `source`.

use std::io;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open a netlink socket in {netns}")]
    Open {
        netns: String,
        #[source]
        source: io::Error,
    },
    #[error("{operation} {object}")]
    Netlink {
        operation: &'static str,
        object: String,
        #[source]
        source: io::Error,
    },
    #[error("{operation} network namespace {path}")]
    Netns {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{operation} sysctl {name}")]
    Sysctl {
        operation: &'static str,
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("this kernel has no queueing discipline {0}: load sch_{0} (CONFIG_NET_SCH_*)")]
    NoQueue(&'static str),
    #[error("no link named {0}")]
    NoSuchLink(String),
    #[error("link {name} exists as {actual}, not as {wanted}: delete it or choose another name")]
    OtherKind { name: String, actual: String, wanted: &'static str },
    #[error("invalid MAC address {0:?}")]
    InvalidMac(String),
}

impl Error {
    pub(crate) fn netlink(operation: &'static str, object: impl ToString, error: rtnetlink::Error) -> Self {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other),
        };
        Self::Netlink { operation, object: object.to_string(), source }
    }

    /// The kernel's answer, when the kernel answered.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open { source, .. }
            | Self::Netlink { source, .. }
            | Self::Netns { source, .. }
            | Self::Sysctl { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The object is absent already: what a deletion wanted.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NoSuchLink(_))
            || matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL))
    }

    /// The kernel has no such driver or option.
    pub fn is_unsupported(&self) -> bool {
        self.errno() == Some(libc::EOPNOTSUPP)
    }

    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }
}
