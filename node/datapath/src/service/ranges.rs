//! Source ranges of load balancers.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use ipnet::IpNet;
use xebec_abi::{RangeKey, ServiceId};

use crate::{
    Result,
    family::Family,
    table::{Table, TrieKey},
};

/// Bits of a range's key that name the service.
const SERVICE_BITS: u32 = 32;

type Key<A> = TrieKey<RangeKey<A>>;
pub type Entries<A> = Table<Key<A>, u32>;

#[derive(Debug)]
pub struct Ranges<A: Family> {
    table: Entries<A>,
    known: HashMap<ServiceId, HashSet<Key<A>>>,
}

impl<A: Family> Ranges<A> {
    /// Knows of no entry before [`Ranges::adopt`].
    pub fn new(table: Entries<A>) -> Self {
        Self { table, known: HashMap::new() }
    }

    /// Writes to this map from now on, which has the same entries.
    pub fn move_to(&mut self, table: Entries<A>) {
        self.table = table;
    }

    pub fn repin(&self, directory: &Path) -> Result<()> {
        self.table.replace_pin(directory)
    }

    pub fn adopt(&mut self) -> Result<()> {
        self.known.clear();
        for (key, _) in self.table.entries()? {
            self.known.entry(service(&key)).or_default().insert(key);
        }
        Ok(())
    }

    /// Ranges of services that are not in use any more, after a crash between two writes.
    pub fn retain(&mut self, used: impl Fn(ServiceId) -> bool) -> Result<()> {
        let gone: Vec<_> = self.known.keys().copied().filter(|id| !used(*id)).collect();
        gone.into_iter().try_for_each(|id| self.put(id, &[]))
    }

    /// Replaces a service's ranges: new ones first, so that no client is refused in between.
    pub fn put(&mut self, id: ServiceId, ranges: &[(A, u8)]) -> Result<()> {
        let new: HashSet<_> = ranges.iter().map(|range| key(id, range)).collect();
        let old = self.known.get(&id).cloned().unwrap_or_default();
        for key in new.difference(&old) {
            self.table.put(key, &1)?;
        }
        for key in old.difference(&new) {
            self.table.remove(key)?;
        }
        if new.is_empty() {
            self.known.remove(&id);
        } else {
            self.known.insert(id, new);
        }
        Ok(())
    }

    /// Puts ranges back that are missing from the trie; returns them.
    pub fn repair(&self) -> Result<Vec<IpNet>> {
        let actual: HashSet<Key<A>> = self.table.entries()?.into_iter().map(|(key, _)| key).collect();
        let missing: Vec<&Key<A>> = self.known.values().flatten().filter(|key| !actual.contains(key)).collect();
        for key in &missing {
            self.table.put(key, &1)?;
        }
        Ok(missing.into_iter().filter_map(net).collect())
    }

    /// In order.
    pub fn of(&self, id: ServiceId) -> Vec<IpNet> {
        let mut ranges: Vec<_> = self.known.get(&id).into_iter().flatten().filter_map(net).collect();
        ranges.sort_unstable();
        ranges
    }
}

fn key<A: Family>(id: ServiceId, (addr, len): &(A, u8)) -> Key<A> {
    TrieKey { prefix_len: SERVICE_BITS + u32::from(*len), data: RangeKey::new(id, *addr) }
}

fn net<A: Family>(key: &Key<A>) -> Option<IpNet> {
    let len = u8::try_from(key.prefix_len.saturating_sub(SERVICE_BITS)).ok()?;
    key.data.addr.net(len)
}

fn service<A: Family>(key: &Key<A>) -> ServiceId {
    ServiceId(u32::from_be_bytes(key.data.service))
}
