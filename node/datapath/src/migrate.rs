//! Pinned maps that have another layout than this agent's programs get theirs, without loss.
//!
//! - What agents alone write (services, pods, other nodes) is converted into a new map before programs are loaded: nobody
//!   writes meanwhile, and each old program goes on with the old map until its link has the new one.
//! - Flows are written by programs, and the two directions of one by different programs. So the first programs that are loaded
//!   bridge both maps. As long as a link may run an old program, the old map decides: what these change is changed there, and
//!   written to the new one as well. When every link runs them, and no CPU an old one, the rest is copied, the new map gets the
//!   pin and decides ([`names::CARRIED`]), and programs that know it alone take their place.
//! - What clients are remembered by (affinity, latencies, fragments) is copied before, and what old programs wrote meanwhile
//!   after.
//! - Counters, and a layout that nobody knows, of a later version or a gap, begin anew: a map is never misread.
//!
//! An agent that dies on the way leaves either pin, and programs that take the map for the one that decides which has it, or
//! will when the next agent has said so, before it replaces any; that one starts over with the maps that are not done.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use xebec_abi::{MapId, config::migrating, names};

use crate::{
    Error, Result,
    layout::{
        self, MapLayout, Records,
        step::{self, Entry, Step},
    },
    sys,
    table::{self, Table},
    testing::{Done, Observer},
};

/// A pinned map that had another layout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Migrated {
    pub map: &'static str,
    /// How many entries were converted; `None` if the map began anew.
    pub entries: Option<usize>,
}

/// Who writes a map decides how it is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writer {
    Agent,
    /// Other programs must see at once what one writes.
    Programs {
        map: MapId,
        /// The old map's name in the object.
        old: &'static str,
    },
    /// It may be seen a moment later.
    Late,
    /// Nothing is lost with it but counts, and the sockets' memory, which nobody can list.
    Lost,
}

impl Writer {
    fn of(map: &str) -> Self {
        match map {
            names::CT4 => Self::Programs { map: MapId::Ct4, old: names::OLD_CT4 },
            names::NAT4 => Self::Programs { map: MapId::Nat4, old: names::OLD_NAT4 },
            names::CT6 => Self::Programs { map: MapId::Ct6, old: names::OLD_CT6 },
            names::NAT6 => Self::Programs { map: MapId::Nat6, old: names::OLD_NAT6 },
            names::LB4_AFFINITY | names::LB6_AFFINITY | names::LATENCY4 | names::LATENCY6 => Self::Late,
            names::FRAGMENTS4 | names::FRAGMENTS6 => Self::Late,
            names::TRANSIENT4 | names::TRANSIENT6 | names::SOCK4_ORIGINS | names::SOCK6_ORIGINS => Self::Lost,
            names::DROPS | names::COUNTERS | names::MAP_ERRORS => Self::Lost,
            _ => Self::Agent,
        }
    }
}

/// How often the maps are compared at most: once, and again until nothing differs.
const PASSES: usize = 4;

/// The maps of old flows in the object.
pub const OLD_MAPS: [&str; 4] = [names::OLD_CT4, names::OLD_NAT4, names::OLD_CT6, names::OLD_NAT6];

/// What is to be done while programs are replaced.
#[derive(Default, Debug)]
pub struct Migration {
    moving: Vec<Moving>,
    done: Vec<Migrated>,
}

/// A map that programs write.
#[derive(Debug)]
struct Moving {
    map: &'static str,
    writer: Writer,
    path: Vec<Step>,
    old: Pinned,
    new: OwnedFd,
    /// What was copied before programs were replaced, by its new key: the old entry's bytes.
    copied: HashMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug)]
struct Pinned {
    fd: OwnedFd,
    info: sys::MapInfo,
}

impl Migration {
    /// Finds the maps that have another layout, converts those that agents write, and makes new ones of those that programs
    /// write.
    pub fn prepare(directory: &Path, layout: MapLayout, records: &Records, observer: &Observer) -> Result<Self> {
        Self::prepare_with(directory, &layout::all(layout), &step::all(), records, observer)
    }

    fn prepare_with(
        directory: &Path,
        wanted: &[(&'static str, u64)],
        steps: &[Step],
        records: &Records,
        observer: &Observer,
    ) -> Result<Self> {
        let mut migration = Self::default();
        let names = wanted.iter().map(|(map, _)| *map);
        resume(directory, names)?;
        for (map, number) in wanted {
            let (map, number) = (*map, *number);
            // Of an agent that ended here.
            remove(&staged(directory, map))?;
            let path = directory.join(map);
            let old = match sys::open_pin(&path) {
                Ok(fd) => Pinned::new(fd).map_err(failed("open", map))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(failed("open", map)(source)),
            };
            let known = records.number(old.info.id)?;
            if known == Some(number) {
                continue;
            }
            let way = known.and_then(|known| step::path(steps, map, known, number));
            match (way, Writer::of(map)) {
                (Some(way), Writer::Agent) => migration.convert(directory, map, way, &old, records)?,
                (Some(way), writer @ (Writer::Programs { .. } | Writer::Late)) => {
                    records.begin()?;
                    migration.stage(directory, (map, writer), way, old, records)?;
                    observer.see(Done::Staged(map));
                }
                (_, writer) => {
                    remove(&path)?;
                    // Without a number no program ever had it.
                    if known.is_some() {
                        migration.lose(map, known, number, writer);
                    }
                }
            }
        }
        Ok(migration)
    }

    /// The pins that programs are loaded with, of maps that have another one meanwhile.
    pub fn pins(&self, directory: &Path) -> BTreeMap<&'static str, PathBuf> {
        let mut pins = BTreeMap::new();
        for moving in &self.moving {
            pins.insert(moving.map, staged(directory, moving.map));
            if let Writer::Programs { old, .. } = moving.writer
                && moving.is_bridged()
            {
                pins.insert(old, directory.join(moving.map));
                pins.insert(names::CARRIED, directory.join(names::CARRIED));
            }
        }
        pins
    }

    /// For [`xebec_abi::config::global::MIGRATING`].
    pub fn mask(&self) -> u32 {
        let bits = self.moving.iter().filter(|moving| moving.is_bridged()).map(|moving| match moving.writer {
            Writer::Programs { map, .. } => migrating(map),
            _ => 0,
        });
        bits.fold(0, |mask, bit| mask | bit)
    }

    /// Are there maps that programs write among them?
    pub fn is_moving(&self) -> bool {
        !self.moving.is_empty()
    }

    /// After every link runs programs with the new maps: copies what is missing in them, gives them their pins, and lets
    /// them decide. A map has its pin before it decides: an agent that dies in between leaves that to the next one.
    pub fn carry(&mut self, directory: &Path, observer: &Observer) -> Result<()> {
        sys::wait_for_programs();
        for moving in &self.moving {
            let map = moving.map;
            let entries = moving.carry().map_err(failed("migrate", map))?;
            self.done.push(Migrated { map, entries: Some(entries) });
            observer.see(Done::Copied(map));
        }
        for moving in &self.moving {
            let (map, from, to) = (moving.map, staged(directory, moving.map), directory.join(moving.map));
            fs::rename(&from, &to).map_err(|source| Error::Pin { operation: "replace", path: to, source })?;
            observer.see(Done::Renamed(map));
            if moving.is_bridged() {
                decide(directory, map)?;
                observer.see(Done::Decided(map));
            }
            tracing::info!(map, "the map has another layout");
        }
        sys::wait_for_programs();
        Ok(())
    }

    /// After every link runs programs that know the new maps alone.
    pub fn end(&mut self, directory: &Path) -> Result<()> {
        self.moving.clear();
        remove(&directory.join(names::CARRIED))
    }

    pub fn done(self) -> Vec<Migrated> {
        self.done
    }

    fn convert(
        &mut self,
        directory: &Path,
        map: &'static str,
        way: Vec<Step>,
        old: &Pinned,
        records: &Records,
    ) -> Result<()> {
        let new = new_map(map, &way, old, records)?;
        let entries = old.converted(&way).map_err(failed("read", map))?;
        for (key, value) in &entries {
            sys::insert(new.as_fd(), key, value).map_err(failed("write", map))?;
        }
        let (from, to) = (staged(directory, map), directory.join(map));
        sys::pin(new.as_fd(), &from).map_err(|source| Error::Pin { operation: "pin", path: from.clone(), source })?;
        fs::rename(&from, &to).map_err(|source| Error::Pin { operation: "replace", path: to, source })?;
        tracing::info!(map, entries = entries.len(), "the map has another layout");
        self.done.push(Migrated { map, entries: Some(entries.len()) });
        Ok(())
    }

    fn stage(
        &mut self,
        directory: &Path,
        (map, writer): (&'static str, Writer),
        path: Vec<Step>,
        old: Pinned,
        records: &Records,
    ) -> Result<()> {
        let new = new_map(map, &path, &old, records)?;
        let pin = staged(directory, map);
        sys::pin(new.as_fd(), &pin).map_err(|source| Error::Pin { operation: "pin", path: pin, source })?;
        let mut moving = Moving { map, writer, path, old, new, copied: HashMap::new() };
        if !moving.is_bridged() {
            moving.copy_before().map_err(failed("migrate", map))?;
        }
        self.moving.push(moving);
        Ok(())
    }

    fn lose(&mut self, map: &'static str, known: Option<u64>, number: u64, writer: Writer) {
        let (known, number) = (format!("{:016x}", known.unwrap_or_default()), format!("{number:016x}"));
        tracing::warn!(
            map,
            known,
            number,
            ?writer,
            "the map has a layout that this version does not know: it begins anew"
        );
        self.done.push(Migrated { map, entries: None });
    }
}

impl Moving {
    /// Do programs take over what they miss? They know one layout besides theirs: the last one.
    fn is_bridged(&self) -> bool {
        matches!(self.writer, Writer::Programs { .. }) && self.path.len() == 1
    }

    fn copy_before(&mut self) -> io::Result<()> {
        for (key, value) in self.old.entries()? {
            let (new_key, new_value) = step::convert(&self.path, &key, &value);
            sys::insert(self.new.as_fd(), &new_key, &new_value)?;
            self.copied.insert(new_key, value);
        }
        Ok(())
    }

    fn carry(&self) -> io::Result<usize> {
        if self.is_bridged() { self.match_old() } else { self.copy_after() }
    }

    /// Copies what old programs wrote after the first copy.
    fn copy_after(&self) -> io::Result<usize> {
        let entries = self.old.entries()?;
        for (key, value) in &entries {
            let (new_key, new_value) = step::convert(&self.path, key, value);
            let before = self.copied.get(&new_key);
            if sys::insert(self.new.as_fd(), &new_key, &new_value)? || before.is_none_or(|before| before == value) {
                continue;
            }
            // An old program changed it after it was copied. What new ones made of it meanwhile is later still.
            let copied = before.map(|before| step::convert(&self.path, key, before).1);
            let mut current = vec![0; new_value.len()];
            if sys::lookup(self.new.as_fd(), &new_key, &mut current)? && Some(current) == copied {
                sys::update(self.new.as_fd(), &new_key, &new_value)?;
            }
        }
        Ok(entries.len())
    }

    /// Makes the new map what the old one is, while programs write the same to both, the old one first. What old programs
    /// wrote is in the old one alone.
    fn match_old(&self) -> io::Result<usize> {
        let mut count = 0;
        for _ in 0..PASSES {
            // Listed first: what is made meanwhile is not taken for something that was removed from the old one.
            let new: HashMap<_, _> = entries(self.new.as_fd())?.into_iter().collect();
            let old = self.old.entries()?;
            count = old.len();
            let (mut kept, mut differ) = (HashSet::new(), false);
            for (key, value) in &old {
                let (new_key, new_value) = step::convert(&self.path, key, value);
                differ |= new.get(&new_key) != Some(&new_value) && self.match_entry(key, &new_key, value.len())?;
                kept.insert(new_key);
            }
            for key in new.keys().filter(|key| !kept.contains(*key)) {
                differ |= sys::delete(self.new.as_fd(), key)?;
            }
            if !differ {
                break;
            }
        }
        Ok(count)
    }

    /// Looks again, as packets may just have changed both: true if they still differ, and what is in the new one was replaced.
    fn match_entry(&self, key: &[u8], new_key: &[u8], bytes: usize) -> io::Result<bool> {
        let mut value = vec![0; bytes];
        if !sys::lookup(self.old.fd.as_fd(), key, &mut value)? {
            return Ok(false);
        }
        let (_, wanted) = step::convert(&self.path, key, &value);
        let mut found = vec![0; wanted.len()];
        if !sys::lookup(self.new.as_fd(), new_key, &mut found)? {
            return sys::insert(self.new.as_fd(), new_key, &wanted);
        }
        if found == wanted {
            return Ok(false);
        }
        sys::update(self.new.as_fd(), new_key, &wanted).map(|()| true)
    }
}

impl Pinned {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let info = sys::map_info(fd.as_fd())?;
        Ok(Self { fd, info })
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        entries(self.fd.as_fd())
    }

    fn converted(&self, way: &[Step]) -> io::Result<Vec<Entry>> {
        Ok(self.entries()?.iter().map(|(key, value)| step::convert(way, key, value)).collect())
    }
}

fn entries(map: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    let info = sys::map_info(map)?;
    let (keys, values) = table::bytes_of(map, &info)?;
    let (keys, values) = (keys.chunks_exact(info.key_size as usize), values.chunks_exact(info.value_size as usize));
    Ok(keys.zip(values).map(|(key, value)| (key.to_vec(), value.to_vec())).collect())
}

/// After an agent that ended on the way: the new maps that have their pin decide, also for programs that know the old ones.
fn resume(directory: &Path, maps: impl Iterator<Item = &'static str>) -> Result<()> {
    if directory.join(names::CARRIED).exists() {
        for map in maps.filter(|map| matches!(Writer::of(map), Writer::Programs { .. })) {
            if !staged(directory, map).exists() {
                decide(directory, map)?;
            }
        }
        remove(&directory.join(names::CARRIED))?;
    }
    Ok(())
}

/// Programs that know both maps take the new one for the one that decides.
fn decide(directory: &Path, name: &'static str) -> Result<()> {
    let Writer::Programs { map, .. } = Writer::of(name) else { return Ok(()) };
    Table::<u32, u32>::open(directory, names::CARRIED)?.put(&map.index(), &1)
}

/// A map as the old one, with the layout at the end of the way. It has its number before it has a pin.
fn new_map(map: &'static str, way: &[Step], old: &Pinned, records: &Records) -> Result<OwnedFd> {
    let (key_size, value_size) = way
        .last()
        .map_or((old.info.key_size, old.info.value_size), |step| (step.key_bytes as u32, step.value_bytes as u32));
    let new =
        sys::map_create(map, &sys::MapInfo { key_size, value_size, ..old.info }).map_err(failed("create", map))?;
    records.note(&new, map, way.last().map_or(0, |step| step.to))?;
    Ok(new)
}

/// bpffs reserves dots in names.
fn staged(directory: &Path, map: &str) -> PathBuf {
    directory.join(format!("{map}_new"))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Pin { operation: "remove", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn failed(operation: &'static str, map: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Map { operation, map, source }
}

#[cfg(test)]
mod tests;
