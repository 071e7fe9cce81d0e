//! Keeps the cluster's objects: a revisioned key-value [`Store`] with two implementations, and the watch [`cache`] that every read of the API is served from.
//!
//! Keys are `/registry/<group>/<resource>/<namespace>/<name>` (`core` for the empty group, no namespace segment for
//! cluster-scoped kinds). Values are canonical JSON without `metadata.resourceVersion`: the store's revision is the
//! object's version, and the cache writes it into the bytes that clients see.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backup;
pub mod cache;
pub mod decoders;
pub mod embedded;
mod error;
pub mod etcd;
mod model;

pub use error::{Error, Result, chain};
pub use model::{Change, Entry, Event, Expect, List, ListOptions, Op, Outcome, Revision, Txn};

use async_trait::async_trait;
use futures::stream::BoxStream;

/// Every key of the API lives below this prefix; one watch over it sees every revision.
pub const PREFIX: &str = "/registry/";

/// Batches of events in revision order. A batch holds whole revisions only.
pub type EventStream = BoxStream<'static, Result<Vec<Event>>>;

/// A revisioned key-value store: each committed write gets the next revision, old revisions stay readable until compacted.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The entry at the newest revision (linearizable).
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// Entries whose key starts with `prefix`, in key order, all at one revision.
    async fn list(&self, prefix: &str, options: ListOptions) -> Result<List>;

    /// Writes one key if it is as expected. Returns after the write is durable.
    async fn txn(&self, txn: Txn) -> Result<Outcome>;

    /// Every event below `prefix` with a revision greater than `after`, then new ones as they are committed.
    /// Ends with [`Error::Compacted`] when `after` is older than the retained history.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<EventStream>;

    /// Forgets versions that were superseded at or before `revision`.
    async fn compact(&self, revision: Revision) -> Result<()>;

    /// The newest committed revision: no write acknowledged before the call has a greater one.
    async fn current_revision(&self) -> Result<Revision>;

    /// Makes every watch below [`PREFIX`] see a revision at least as new as [`Store::current_revision`].
    ///
    /// Needed only where revisions can pass without an event below the prefix (an etcd shared with others).
    async fn nudge(&self) -> Result<()> {
        Ok(())
    }
}
