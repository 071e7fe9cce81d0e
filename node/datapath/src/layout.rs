//! What layout each pinned map has: [`xebec_abi::layout`] makes a number of what programs and agents read, and a map in the
//! pin directory keeps that number for the id of every map there. An id is one map's for as long as the kernel runs, and a
//! map gets its number before its pin, so the two never disagree, whenever an agent dies.

mod first;
pub mod step;

use std::{collections::HashSet, fs, os::fd::AsFd, path::Path};

use xebec_abi::{
    Addr4, Addr6, Affinity, AffinityKey, Backend, BackendKey, Endpoint, Flow1, FlowKey, FragmentKey, FrontendEntry,
    FrontendKey, L2Key, L2Mac, LocalPod, MaglevBlock, MaglevKey, MemberKey, Origins, PodRate, Ports, PrefixKey,
    RangeKey, RehearsalFlow, Traffic,
    latency::{Latency, LatencyKey},
    layout::{Layout, entry},
    names,
};

use crate::{
    Config, Error, Result,
    family::Family,
    migrate::Migration,
    sys,
    table::{Table, TrieKey},
};

/// Which layout the maps of flows have.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum MapLayout {
    #[default]
    Current,
    /// One that exists so that migration can be tried at any time.
    Rehearsal,
}

/// Ids of maps that were replaced stay until an agent has settled.
const RECORDS_MAX: u32 = 4_096;
/// No map has this id: its entry is there while maps are being replaced.
const MIGRATING: u32 = 0;

/// The number of every pinned map.
pub fn all(layout: MapLayout) -> Vec<(&'static str, u64)> {
    let mut all = of_family::<Addr4>(layout).to_vec();
    all.extend(of_family::<Addr6>(layout));
    all.extend([
        (names::POD_RATES, of::<u32, PodRate>()),
        (names::DROPS, of::<u32, Traffic>()),
        (names::COUNTERS, of::<u32, Traffic>()),
        (names::MAP_ERRORS, of::<u32, u64>()),
    ]);
    all
}

fn of_family<A: Family>(layout: MapLayout) -> [(&'static str, u64); 16] {
    let flows = flows::<A>(layout);
    [
        (A::FRONTENDS, of::<FrontendKey<A>, FrontendEntry<A>>()),
        (A::BACKENDS, of::<BackendKey, Backend<A>>()),
        (A::MEMBERS, of::<MemberKey<A>, u32>()),
        (A::RANGES, of::<TrieKey<RangeKey<A>>, u32>()),
        (A::MAGLEV, of::<MaglevKey, MaglevBlock>()),
        (A::AFFINITY, of::<AffinityKey<A>, Affinity<A>>()),
        (A::ORIGINS, of::<u32, Origins<A>>()),
        (A::LATENCIES, of::<LatencyKey<A>, Latency>()),
        (A::CONNTRACK, flows),
        (A::NAT, flows),
        (A::TRANSIENT, of::<u32, FlowKey<A>>()),
        (A::FRAGMENTS, of::<FragmentKey<A>, Ports>()),
        (A::ANNOUNCED, of::<L2Key<A>, L2Mac>()),
        (A::PODS, of::<A, LocalPod>()),
        (A::IPCACHE, of::<PrefixKey<A>, Endpoint<A>>()),
        (A::PREFIXES, of::<TrieKey<A>, Endpoint<A>>()),
    ]
}

/// The number of maps of flows.
pub fn flows<A: Family>(layout: MapLayout) -> u64 {
    match layout {
        MapLayout::Current => of::<FlowKey<A>, Flow1<A>>(),
        MapLayout::Rehearsal => of::<FlowKey<A>, RehearsalFlow<A>>(),
    }
}

/// The number of a map with these keys and values.
pub const fn of<K: Layout, V: Layout>() -> u64 {
    entry(K::FINGERPRINT, V::FINGERPRINT)
}

/// The numbers of the maps in a pin directory.
#[derive(Debug)]
pub struct Records(Table<u32, u64>);

impl Records {
    /// Opens them, or makes them: maps without are those of the first version.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(names::LAYOUTS);
        if path.exists() {
            return Ok(Self(Table::open(directory, names::LAYOUTS)?));
        }
        let records = Self(Table::create(names::LAYOUTS, RECORDS_MAX)?);
        for (map, number) in first::NUMBERS {
            if let Ok(pinned) = sys::open_pin(&directory.join(map)) {
                records.note(&pinned, map, number)?;
            }
        }
        records.0.pin(&path)?;
        Ok(records)
    }

    /// Those that an agent keeps.
    pub fn read(directory: &Path) -> Result<Self> {
        Ok(Self(Table::open(directory, names::LAYOUTS)?))
    }

    /// The number of a map; `None` of one whose agent died before any program had it.
    pub fn number(&self, id: u32) -> Result<Option<u64>> {
        self.0.get(&id)
    }

    pub fn note(&self, map: &impl AsFd, name: &'static str, number: u64) -> Result<()> {
        let failed = |source| Error::Map { operation: "look at", map: name, source };
        self.0.put(&sys::map_info(map.as_fd()).map_err(failed)?.id, &number)
    }

    /// Notes the maps that programs were just loaded with; the loader made those that have no number yet.
    pub fn note_new(&self, directory: &Path, config: &Config, migration: &Migration) -> Result<()> {
        let pins = migration.pins(directory);
        for (map, number) in all(config.map_layout) {
            let path = pins.get(map).cloned().unwrap_or_else(|| directory.join(map));
            let id = id(&path, map)?;
            if self.number(id)?.is_none() {
                self.0.put(&id, &number)?;
            }
        }
        Ok(())
    }

    pub fn begin(&self) -> Result<()> {
        self.0.put(&MIGRATING, &1)
    }

    /// Forgets the maps that are gone.
    pub fn settle(&self, directory: &Path) -> Result<()> {
        let failed = |source| Error::Directory { path: directory.to_owned(), source };
        let mut kept = HashSet::new();
        for pin in fs::read_dir(directory).map_err(failed)?.flatten() {
            // The directory of links is none.
            let Ok(map) = sys::open_pin(&pin.path()) else { continue };
            kept.extend(sys::map_info(map.as_fd()).map(|info| info.id));
        }
        let gone: Vec<u32> = self.0.entries()?.into_iter().map(|(id, _)| id).filter(|id| !kept.contains(id)).collect();
        self.0.remove_all(&gone)
    }

    /// The layout of the maps of flows; `None` while they are being replaced.
    pub fn layout(&self, directory: &Path) -> Result<Option<MapLayout>> {
        if self.0.get(&MIGRATING)?.is_some() {
            return Ok(None);
        }
        let number = self.number(id(&directory.join(Addr4::NAT), Addr4::NAT)?)?;
        let layouts = [MapLayout::Current, MapLayout::Rehearsal];
        Ok(layouts.into_iter().find(|layout| number == Some(flows::<Addr4>(*layout))))
    }
}

fn id(path: &Path, map: &'static str) -> Result<u32> {
    let failed = |source| Error::Map { operation: "open", map, source };
    let pinned = sys::open_pin(path).map_err(failed)?;
    Ok(sys::map_info(pinned.as_fd()).map_err(failed)?.id)
}

#[cfg(test)]
mod tests;
