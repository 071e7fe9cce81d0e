//! Source ranges of load balancers.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use ipnet::Ipv4Net;
use xebec_abi::{ServiceId, lb::RangeKey4, names};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Result, table::Table};

/// Bits of a range's key that name the service.
const SERVICE_BITS: u32 = 32;

/// Key of the trie (`struct bpf_lpm_trie_key`): the length in host order, then the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TrieKey {
    prefix_len: u32,
    range: RangeKey4,
}

#[derive(Debug)]
pub struct Ranges {
    table: Table<TrieKey, u32>,
    known: HashMap<ServiceId, HashSet<TrieKey>>,
}

impl Ranges {
    pub fn open(directory: &Path) -> Result<Self> {
        let table = Table::open(directory, names::LB4_RANGES)?;
        let mut ranges = Self { table, known: HashMap::new() };
        ranges.adopt()?;
        Ok(ranges)
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
    pub fn put(&mut self, id: ServiceId, ranges: &[Ipv4Net]) -> Result<()> {
        let new: HashSet<_> = ranges.iter().map(|range| key(id, *range)).collect();
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

    /// In order.
    pub fn of(&self, id: ServiceId) -> Vec<Ipv4Net> {
        let net = |key: &TrieKey| {
            let len = u8::try_from(key.prefix_len.saturating_sub(SERVICE_BITS)).ok()?;
            Ipv4Net::new(key.range.addr.into(), len).ok()
        };
        let mut ranges: Vec<_> = self.known.get(&id).into_iter().flatten().filter_map(net).collect();
        ranges.sort_unstable();
        ranges
    }
}

fn key(id: ServiceId, range: Ipv4Net) -> TrieKey {
    let range = range.trunc();
    let prefix_len = SERVICE_BITS + u32::from(range.prefix_len());
    TrieKey { prefix_len, range: RangeKey4::new(id, range.addr().octets()) }
}

fn service(key: &TrieKey) -> ServiceId {
    ServiceId(u32::from_be_bytes(key.range.service))
}
