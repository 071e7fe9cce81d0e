//! The objects of a store at one revision, to be kept elsewhere and brought back.

use crate::{Entry, Error, Expect, List, ListOptions, Op, Outcome, PREFIX, Result, Revision, Store, Txn};

/// Entries read at once.
const PAGE: usize = 1_000;

/// Reads everything below [`PREFIX`] at one revision, page by page.
pub struct Pages<'a> {
    store: &'a dyn Store,
    options: ListOptions,
    more: bool,
}

impl<'a> Pages<'a> {
    pub fn new(store: &'a dyn Store) -> Self {
        Self { store, options: ListOptions { limit: PAGE, ..ListOptions::default() }, more: true }
    }

    /// The next entries and the revision of them all; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<(Vec<Entry>, Revision)>> {
        if !self.more {
            return Ok(None);
        }
        let List { entries, revision, more, .. } = self.store.list(PREFIX, self.options.clone()).await?;
        self.options.revision = Some(revision);
        self.options.start_after = entries.last().map(|entry| entry.key.to_string());
        self.more = more;
        Ok(Some((entries.into_iter().filter(is_object).collect(), revision)))
    }
}

/// Whether anything would be lost if the store were written over.
pub async fn is_empty(store: &dyn Store) -> Result<bool> {
    let first = Pages::new(store).next().await?;
    Ok(first.is_none_or(|(entries, _)| entries.is_empty()))
}

/// Removes every object.
pub async fn clear(store: &dyn Store) -> Result<u64> {
    let mut pages = Pages::new(store);
    let mut count = 0;
    while let Some((entries, _)) = pages.next().await? {
        for entry in entries {
            let expect = Expect::Revision(entry.mod_revision);
            expected(store.txn(Txn { key: entry.key.to_string(), expect, op: Op::Delete }).await?)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Writes an entry of a backup into a store where its key is free. It gets a revision of its own there.
pub async fn write(store: &dyn Store, entry: &Entry) -> Result<()> {
    let op = Op::Put(entry.value.clone());
    expected(store.txn(Txn { key: entry.key.to_string(), expect: Expect::Absent, op }).await?)
}

/// Nobody else may write meanwhile.
fn expected(outcome: Outcome) -> Result<()> {
    match outcome {
        Outcome::Committed(_) => Ok(()),
        Outcome::Conflict(_) => {
            Err(Error::NotEmpty { place: "the store, which another process writes to,".to_owned() })
        }
    }
}

/// Stores keep marks of their own outside of any resource.
fn is_object(entry: &Entry) -> bool {
    crate::cache::resource_of(&entry.key).contains('/')
}
