//! The store of a single server: a log of writes on disk, an index of it in memory.

use std::path::Path;

use async_trait::async_trait;

use crate::{Entry, EventStream, List, ListOptions, Outcome, Result, Revision, Store, Txn};

/// See the module.
pub struct Embedded {}

/// Opens or creates the store in `dir`. Fails with [`crate::Error::Locked`] while another process has it open.
pub async fn open(dir: impl AsRef<Path>) -> Result<Embedded> {
    let _dir = dir.as_ref();
    Err(crate::Error::Closed)
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, _key: &str) -> Result<Option<Entry>> {
        Err(crate::Error::Closed)
    }
    async fn list(&self, _prefix: &str, _options: ListOptions) -> Result<List> {
        Err(crate::Error::Closed)
    }
    async fn txn(&self, _txn: Txn) -> Result<Outcome> {
        Err(crate::Error::Closed)
    }
    async fn watch(&self, _prefix: &str, _after: Revision) -> Result<EventStream> {
        Err(crate::Error::Closed)
    }
    async fn compact(&self, _revision: Revision) -> Result<()> {
        Err(crate::Error::Closed)
    }
    async fn current_revision(&self) -> Result<Revision> {
        Err(crate::Error::Closed)
    }
}
