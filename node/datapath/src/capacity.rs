//! How many entries the maps of services may have, and maps that grow with them while traffic goes on.
//!
//! The kernel allocates 16 bytes for each entry that a map may have, 52 MiB for all of these maps at their limits. So maps start
//! small, and have the size of what is in them after every start ([`fit`]).
//!
//! Programs write none of these maps, and no agent does while another one starts, or while it makes room. So a map of another
//! size gets the entries of the old one and then its pin; the programs that are loaded afterwards find it there and replace
//! the old ones, which go on with the same entries until then. A crash in between leaves either map, and both say the same.
//! Flows are in other maps, which both programs share.

use std::{collections::BTreeMap, fs, io, path::Path, str::FromStr};

use aya::Pod;
use xebec_abi::{
    Addr4, Addr6, Backend, BackendKey, FrontendEntry, FrontendKey, MaglevBlock, MaglevKey, MemberKey, RangeKey,
    layout::Layout, limits,
};

use crate::{
    Error, Result,
    family::Family,
    layout::{self, Records},
    table::{Table, TrieKey},
};

/// More than memory has room for.
const MOST: u32 = 1 << 26;
/// What an empty map has room for: the services of most clusters.
const FEWEST: u64 = 1 << 14;

/// How many entries the maps of each family may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// One for each address, port, protocol and kind of client (inside, outside).
    pub frontends: u32,
    /// Of each service port, twice while it changes.
    pub backends: u32,
    /// Backends of services with session affinity.
    pub members: u32,
    pub source_ranges: u32,
    /// 256 entries of a Maglev table each, twice while it changes.
    pub maglev_blocks: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            frontends: limits::FRONTENDS_MAX,
            backends: limits::BACKENDS_MAX,
            members: limits::MEMBERS_MAX,
            source_ranges: limits::RANGES_MAX,
            maglev_blocks: limits::MAGLEV_BLOCKS_MAX,
        }
    }
}

impl Capacity {
    /// Of each map.
    pub(crate) fn limits(&self) -> BTreeMap<&'static str, u32> {
        self.of_family::<Addr4>().into_iter().chain(self.of_family::<Addr6>()).collect()
    }

    /// May a map that is full at this size become larger?
    pub fn exceeds(&self, map: &str, size: u32) -> bool {
        self.limits().get(map).is_some_and(|limit| *limit > size)
    }

    /// The size of each map that is made anew.
    pub(crate) fn sizes(&self) -> BTreeMap<&'static str, u32> {
        self.limits().into_iter().map(|(map, limit)| (map, fit(0, limit))).collect()
    }

    fn of_family<A: Family>(&self) -> [(&'static str, u32); 5] {
        [
            (A::FRONTENDS, self.frontends),
            (A::BACKENDS, self.backends),
            (A::MEMBERS, self.members),
            (A::RANGES, self.source_ranges),
            (A::MAGLEV, self.maglev_blocks),
        ]
    }

    /// Makes what is pinned as large as what is in it asks for.
    pub(crate) fn resize(&self, directory: &Path, records: &Records) -> Result<()> {
        let need = Self::NONE;
        self.resize_family::<Addr4>((directory, records), Change::Any, &need)?;
        self.resize_family::<Addr6>((directory, records), Change::Any, &need).map(drop)
    }

    /// Makes those pinned maps of a family larger that may not have room for so many entries more. False: none was.
    pub(crate) fn grow<A: Family>(&self, directory: &Path, records: &Records, need: &Self) -> Result<bool> {
        self.resize_family::<A>((directory, records), Change::Growth, need)
    }

    fn resize_family<A: Family>(&self, pins: (&Path, &Records), change: Change, need: &Self) -> Result<bool> {
        let more = |need: u32, limit: u32| (change, need, limit);
        Ok([
            resize::<FrontendKey<A>, FrontendEntry<A>>(pins, A::FRONTENDS, more(need.frontends, self.frontends))?,
            resize::<BackendKey, Backend<A>>(pins, A::BACKENDS, more(need.backends, self.backends))?,
            resize::<MemberKey<A>, u32>(pins, A::MEMBERS, more(need.members, self.members))?,
            resize::<TrieKey<RangeKey<A>>, u32>(pins, A::RANGES, more(need.source_ranges, self.source_ranges))?,
            resize::<MaglevKey, MaglevBlock>(pins, A::MAGLEV, more(need.maglev_blocks, self.maglev_blocks))?,
        ]
        .contains(&true))
    }

    pub(crate) const NONE: Self = Self { frontends: 0, backends: 0, members: 0, source_ranges: 0, maglev_blocks: 0 };
}

/// Which other size a map may get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Any,
    Growth,
}

/// How large a map of so many entries is: a quarter of them may come before it has to grow. The kernel rounds the number of
/// its buckets up to a power of two.
fn fit(entries: u64, limit: u32) -> u32 {
    let size = (entries + entries / 4).max(FEWEST).next_power_of_two();
    u32::try_from(size).unwrap_or(u32::MAX).min(limit)
}

/// What to do about a map that is full, if anything can be done.
pub(crate) fn advice(map: &str) -> &'static str {
    let advice = [
        "; xebec agent --datapath-capacity frontends=N makes room",
        "; xebec agent --datapath-capacity backends=N makes room",
        "; xebec agent --datapath-capacity members=N makes room",
        "; xebec agent --datapath-capacity source-ranges=N makes room",
        "; xebec agent --datapath-capacity maglev-blocks=N makes room",
    ];
    let capacity = Capacity::default();
    let (ipv4, ipv6) = (capacity.of_family::<Addr4>(), capacity.of_family::<Addr6>());
    let known = ipv4.iter().zip(&ipv6).zip(advice).find(|((ipv4, ipv6), _)| [ipv4.0, ipv6.0].contains(&map));
    known.map_or("", |(_, advice)| advice)
}

/// False: the map keeps its size.
fn resize<K: Pod + Layout, V: Pod + Layout>(
    (directory, records): (&Path, &Records),
    name: &'static str,
    (change, need, limit): (Change, u32, u32),
) -> Result<bool> {
    // bpffs reserves dots in names.
    let (path, staged) = (directory.join(name), directory.join(format!("{name}_new")));
    // Of an agent that ended here.
    match fs::remove_file(&staged) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(Error::Pin { operation: "remove", path: staged, source });
        }
        _ => {}
    }
    if !path.exists() {
        return Ok(false);
    }
    let old = Table::<K, V>::open(directory, name)?;
    if change == Change::Growth && old.limit() >= u64::from(limit) {
        return Ok(false);
    }
    let (keys, values): (Vec<K>, Vec<V>) = old.entries()?.into_iter().unzip();
    let entries = keys.len() as u64 + u64::from(need);
    let size = match change {
        Change::Growth if entries <= old.limit() => return Ok(false),
        _ => fit(entries, limit),
    };
    if u64::from(size) == old.limit() {
        return Ok(false);
    }
    if keys.len() as u64 > u64::from(size) {
        tracing::warn!(map = name, entries, size, limit = old.limit(), "the map keeps its size: it is too full");
        return Ok(false);
    }
    let new = old.empty(size)?;
    new.put_all(&keys, &values)?;
    records.note(&new.fd(), name, layout::of::<K, V>())?;
    new.replace_pin(directory)?;
    tracing::info!(map = name, entries = keys.len(), from = old.limit(), to = size, "the map has another size");
    Ok(true)
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidCapacity {
    #[error("{0:?} is not NAME=ENTRIES")]
    Form(String),
    #[error("there is no capacity {0:?}: there are frontends, backends, members, source-ranges and maglev-blocks")]
    Name(String),
    #[error("{name}={entries}: from 1 to {MOST} entries")]
    Entries { name: String, entries: String },
}

impl FromStr for Capacity {
    type Err = InvalidCapacity;

    /// `frontends=500000,backends=2000000`; what is not named has its default.
    fn from_str(text: &str) -> Result<Self, InvalidCapacity> {
        let mut capacity = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, entries) = part.split_once('=').ok_or_else(|| InvalidCapacity::Form(part.to_owned()))?;
            let field = match name {
                "frontends" => &mut capacity.frontends,
                "backends" => &mut capacity.backends,
                "members" => &mut capacity.members,
                "source-ranges" => &mut capacity.source_ranges,
                "maglev-blocks" => &mut capacity.maglev_blocks,
                other => return Err(InvalidCapacity::Name(other.to_owned())),
            };
            let invalid = || InvalidCapacity::Entries { name: name.to_owned(), entries: entries.to_owned() };
            *field = entries.parse().ok().filter(|entries| (1..=MOST).contains(entries)).ok_or_else(invalid)?;
        }
        Ok(capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_has_its_default() {
        let check = |text: &str, expected| assert_eq!(text.parse(), Ok(expected), "{text:?}");
        check("", Capacity::default());
        let named = Capacity { frontends: 500_000, maglev_blocks: 7, ..Capacity::default() };
        check("frontends=500000,maglev-blocks=7", named);
        assert_eq!(named.limits().len(), 10);
        assert_eq!(named.limits()["xb_lb6_fe"], 500_000);
        assert_eq!((named.sizes()["xb_lb6_fe"], named.sizes()["xb_lb4_maglev"]), (16_384, 7));
    }

    #[test]
    fn a_map_is_as_large_as_what_is_in_it_asks_for() {
        for (entries, size) in [(0, 16_384), (13_107, 16_384), (13_110, 32_768), (50_000, 65_536), (100_000, 131_072)] {
            assert_eq!(fit(entries, 262_144), size, "{entries}");
        }
        // As far as its limit, which need not be a power of two.
        assert_eq!((fit(250_000, 262_144), fit(0, 8), fit(99, 8), fit(20_000, 30_000)), (262_144, 8, 8, 30_000));
        assert_eq!(fit(u64::from(u32::MAX), MOST), MOST);
    }

    #[test]
    fn a_full_map_says_what_to_do() {
        let says = |map| Error::Full { map, limit: 9 }.to_string();
        assert_eq!(
            says("xb_lb6_be"),
            "map xb_lb6_be is full: its limit is 9 entries; xebec agent --datapath-capacity backends=N makes room"
        );
        assert!(says("xb_lb4_maglev").contains("maglev-blocks=N"));
        assert_eq!(says("xb_pods4"), "map xb_pods4 is full: its limit is 9 entries");
    }

    #[test]
    fn what_means_nothing_is_named() {
        let fails = |text: &str| text.parse::<Capacity>().expect_err("invalid").to_string();
        assert_eq!(fails("frontends"), "\"frontends\" is not NAME=ENTRIES");
        assert!(fails("flows=9").starts_with("there is no capacity \"flows\""));
        assert_eq!(fails("backends=0"), "backends=0: from 1 to 67108864 entries");
        assert_eq!(fails("backends=1k"), "backends=1k: from 1 to 67108864 entries");
        assert_eq!(fails("members=67108865"), "members=67108865: from 1 to 67108864 entries");
    }
}
