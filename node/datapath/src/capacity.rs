//! How many entries the maps of services take, and maps that are made larger while traffic goes on.
//!
//! Programs write none of these maps, and no agent does while another one starts. So a map of another size gets the entries
//! of the old one and then its pin; the programs that are loaded afterwards find it there and replace the old ones, which
//! go on with the same entries until then. A crash in between leaves either map, and both say the same. Flows are in other
//! maps, which both programs share.

use std::{collections::BTreeMap, fs, io, path::Path, str::FromStr};

use aya::Pod;
use xebec_abi::{
    Addr4, Addr6, Backend, BackendKey, FrontendKey, FrontendValue, MaglevBlock, MaglevKey, MemberKey, RangeKey,
    layout::Layout, limits,
};

use crate::{
    Error, Result,
    family::Family,
    layout::{self, Records},
    table::{Table, TrieKey},
};

/// More than memory has room for: 16 bytes an entry are taken in any case.
const MOST: u32 = 1 << 26;

/// Entries of the maps of each family.
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
    /// The size of each map.
    pub(crate) fn sizes(&self) -> BTreeMap<&'static str, u32> {
        self.of_family::<Addr4>().into_iter().chain(self.of_family::<Addr6>()).collect()
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

    /// Makes what is pinned as large as this says.
    pub(crate) fn resize(&self, directory: &Path, records: &Records) -> Result<()> {
        self.resize_family::<Addr4>(directory, records)?;
        self.resize_family::<Addr6>(directory, records)
    }

    fn resize_family<A: Family>(&self, directory: &Path, records: &Records) -> Result<()> {
        let pins = (directory, records);
        resize::<FrontendKey<A>, FrontendValue>(pins, A::FRONTENDS, self.frontends)?;
        resize::<BackendKey, Backend<A>>(pins, A::BACKENDS, self.backends)?;
        resize::<MemberKey<A>, u32>(pins, A::MEMBERS, self.members)?;
        resize::<TrieKey<RangeKey<A>>, u32>(pins, A::RANGES, self.source_ranges)?;
        resize::<MaglevKey, MaglevBlock>(pins, A::MAGLEV, self.maglev_blocks)
    }
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

fn resize<K: Pod + Layout, V: Pod + Layout>(
    (directory, records): (&Path, &Records),
    name: &'static str,
    size: u32,
) -> Result<()> {
    // bpffs reserves dots in names.
    let (path, staged) = (directory.join(name), directory.join(format!("{name}_new")));
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Pin { operation, path, source }
    };
    // Of an agent that ended here.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &staged)(error)),
        _ => {}
    }
    if !path.exists() {
        return Ok(());
    }
    let old = Table::<K, V>::open(directory, name)?;
    if old.limit() == u64::from(size) {
        return Ok(());
    }
    let (keys, values): (Vec<K>, Vec<V>) = old.entries()?.into_iter().unzip();
    if keys.len() as u64 > u64::from(size) {
        tracing::warn!(
            map = name,
            entries = keys.len(),
            size,
            limit = old.limit(),
            "the map keeps its size: it is too full"
        );
        return Ok(());
    }
    let new = old.empty(size)?;
    new.put_all(&keys, &values)?;
    records.note(&new.fd(), name, layout::of::<K, V>())?;
    new.pin(&staged)?;
    fs::rename(&staged, &path).map_err(failed("replace", &path))?;
    tracing::info!(map = name, entries = keys.len(), from = old.limit(), to = size, "the map has another size");
    Ok(())
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
        assert_eq!(named.sizes().len(), 10);
        assert_eq!(named.sizes()["xb_lb6_fe"], 500_000);
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
