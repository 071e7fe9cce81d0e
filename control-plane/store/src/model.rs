use std::{fmt, num::ParseIntError, str::FromStr, sync::Arc};

use bytes::Bytes;

/// A point in the store's history; the `resourceVersion` that clients see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

/// A key with its value at some revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub key: Arc<str>,
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
}

#[derive(Clone, Default, Debug)]
pub struct ListOptions {
    /// Zero means no limit.
    pub limit: usize,
    /// Only keys greater than this one.
    pub start_after: Option<String>,
    /// The state at exactly this revision; the newest if absent.
    pub revision: Option<Revision>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List {
    pub entries: Vec<Entry>,
    /// The revision that the entries were read at.
    pub revision: Revision,
    /// Whether keys follow that the limit cut off.
    pub more: bool,
    /// How many keys the limit cut off.
    pub remaining: u64,
}

/// One conditional write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Txn {
    pub key: String,
    pub expect: Expect,
    pub op: Op,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key was last written at this revision.
    Revision(Revision),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    Put(Bytes),
    Delete,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Durable at this revision.
    Committed(Revision),
    /// Nothing was written; the entry as it is instead.
    Conflict(Option<Entry>),
}

/// What one committed write did to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub key: Arc<str>,
    pub revision: Revision,
    pub change: Change,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The key holds `value`. It was created by this very write if `create_revision` is the event's revision.
    Put {
        value: Bytes,
        create_revision: Revision,
    },
    Delete,
}
