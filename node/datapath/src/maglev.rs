//! Maglev tables, computed: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016),
//! section 3.4.

use std::{fmt, net::IpAddr, str::FromStr};

use xebec_abi::{
    MaglevBlock, MaglevKey, ServiceId,
    maglev::{BLOCK_ENTRIES, SIZE_DEFAULT, SIZES, blocks},
};

use crate::service::Backend;

/// How a service chooses the backend of a new flow from outside the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Algorithm {
    /// Each with equal chances.
    #[default]
    Random,
    /// By a table that every node computes alike.
    Maglev(TableSize),
}

/// Entries of a Maglev table: one of [`SIZES`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableSize(u32);

impl TableSize {
    /// `None` of a size that no table has.
    pub fn new(entries: u32) -> Option<Self> {
        SIZES.contains(&entries).then_some(Self(entries))
    }

    pub fn get(self) -> u32 {
        self.0
    }

    /// Entries of the map that a table takes.
    pub fn blocks(self) -> u16 {
        xebec_abi::maglev::blocks(self.0)
    }
}

impl Default for TableSize {
    fn default() -> Self {
        Self(SIZE_DEFAULT)
    }
}

impl fmt::Display for TableSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a Maglev table has one of {SIZES:?} entries")]
pub struct InvalidTableSize;

impl FromStr for TableSize {
    type Err = InvalidTableSize;

    fn from_str(text: &str) -> Result<Self, InvalidTableSize> {
        text.parse().ok().and_then(Self::new).ok_or(InvalidTableSize)
    }
}

/// For each entry the index of its backend. The backends' order has no influence on which backend an entry leads to, so
/// every node finds the same. Empty without backends.
pub fn table(backends: &[Backend], size: TableSize) -> Vec<u16> {
    let size = size.get();
    let mut turns: Vec<Turns> =
        (0..).zip(backends).map(|(index, backend)| Turns::new(index, backend, u64::from(size))).collect();
    turns.sort_unstable_by_key(|turns| turns.order);
    let heaviest = turns.iter().map(|turns| turns.weight).max().unwrap_or_default();
    let mut entries = vec![None; if turns.is_empty() { 0 } else { size as usize }];
    let mut free = entries.len();
    while free != 0 {
        for turns in &mut turns {
            // The heaviest backend takes an entry in every round, others in as many as their weight says.
            turns.credit += turns.weight;
            if free == 0 || turns.credit < heaviest {
                continue;
            }
            turns.credit -= heaviest;
            // The permutation visits every entry, so it comes to a free one.
            while let Some(entry) = entries.get_mut(turns.next()) {
                if entry.is_none() {
                    *entry = Some(turns.index);
                    free -= 1;
                    break;
                }
            }
        }
    }
    entries.into_iter().flatten().collect()
}

/// A backend's own order of the entries.
struct Turns {
    index: u16,
    order: (IpAddr, u16),
    weight: u64,
    credit: u64,
    size: u64,
    at: u64,
    skip: u64,
}

impl Turns {
    fn new(index: u16, backend: &Backend, size: u64) -> Self {
        let (order, weight) = ((backend.addr, backend.port), u64::from(backend.weight.max(1)));
        let (at, skip) = (hash(order, 0) % size, hash(order, 1) % (size - 1) + 1);
        Self { index, order, weight, credit: 0, size, at, skip }
    }

    fn next(&mut self) -> usize {
        let at = self.at;
        // Both are below the size: no need to divide.
        self.at = at + self.skip;
        if self.at >= self.size {
            self.at -= self.size;
        }
        at as usize
    }
}

/// FNV-1a, then the finaliser of MurmurHash3, so that similar addresses differ in every bit.
fn hash((addr, port): (IpAddr, u16), seed: u8) -> u64 {
    let octets = match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let bytes = octets.into_iter().chain(port.to_be_bytes()).chain([seed]);
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A table as the map has it; what is missing to whole blocks repeats the first entries.
pub fn block_values(service: ServiceId, generation: u16, table: &[u16]) -> Vec<(MaglevKey, MaglevBlock)> {
    let mut entries = table.iter().copied().cycle();
    let count = if table.is_empty() { 0 } else { blocks(table.len() as u32) };
    let block = |block| {
        let mut slots = [0; BLOCK_ENTRIES];
        for (slot, entry) in slots.iter_mut().zip(&mut entries) {
            *slot = entry;
        }
        (MaglevKey { service, generation, block }, MaglevBlock { slots })
    };
    (0..count).map(block).collect()
}

#[cfg(test)]
mod tests;
