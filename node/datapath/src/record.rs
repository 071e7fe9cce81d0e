//! Sets of numbers that say what of the kernel's state this node made, where the kernel does not tell whose it is.
//!
//! A set is the keys of a pinned map beside the directories of versions, so it is gone when what it tells of is gone: with
//! the machine's next start. A file would stay, and then call the node's own what others have made since.

use std::{collections::BTreeSet, io, path::Path};

use crate::{
    error::{Error, Result},
    table::Table,
};

/// The kernel needs 16 bytes for each, in use or not.
const MEMBERS_MAX: u32 = 1024;

#[derive(Debug)]
pub struct Record(Table<u32, u32>);

impl Record {
    /// The record in `directory`, which is made if it is not there.
    pub fn ensure(directory: &Path, name: &'static str) -> Result<Self> {
        if let Some(record) = Self::open(directory, name)? {
            return Ok(record);
        }
        let table = Table::create(name, MEMBERS_MAX)?;
        table.pin(&directory.join(name))?;
        Ok(Self(table))
    }

    /// `None` if there is none.
    pub fn open(directory: &Path, name: &'static str) -> Result<Option<Self>> {
        match Table::open(directory, name) {
            Ok(table) => Ok(Some(Self(table))),
            Err(Error::Map { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn members(&self) -> Result<BTreeSet<u32>> {
        Ok(self.0.entries()?.into_iter().map(|(member, _)| member).collect())
    }

    /// Makes these the members. What is new comes first: who ends half-way leaves too many, not too few.
    pub fn set(&self, members: &BTreeSet<u32>) -> Result<()> {
        let known = self.members()?;
        let of = |set: &BTreeSet<u32>, other: &BTreeSet<u32>| set.difference(other).copied().collect::<Vec<u32>>();
        let added = of(members, &known);
        self.0.put_all(&added, &vec![0; added.len()])?;
        self.0.remove_all(&of(&known, members))
    }

    pub fn add(&self, member: u32) -> Result<()> {
        self.0.put(&member, &0)
    }
}
