//! The service maps of one IP family.

use std::{
    collections::{HashMap, HashSet},
    mem,
    net::IpAddr,
    path::Path,
};

use xebec_abi::{
    Backend as Value, BackendId, BackendKey, Be16, FrontendEntry, FrontendKey as Key, FrontendValue, MaglevBlock,
    MaglevKey, MemberKey, ServiceId,
    lb::{backend_flag, frontend_flag},
    limits::{FIRST_BACKENDS, SERVICE_BACKENDS_MAX},
    maglev,
};

use super::{
    Backend, Changed, FrontendKey, Service,
    closed::{self, Closed},
    id::Ids,
    ranges::{self, Ranges},
};
use crate::{
    Drift, DriftKind,
    clock::monotonic_ns,
    error::{Error, Result},
    family::Family,
    maglev::{Algorithm, block_values, table},
    table::Table,
};

/// How long the backends of a replaced generation stay: far longer than any program runs.
const GRACE_NS: u64 = 500_000_000;

/// The maps, and what is in them.
#[derive(Debug)]
pub struct Store<A: Family> {
    pub(super) frontends: Table<Key<A>, FrontendEntry<A>>,
    pub(super) backends: Table<BackendKey, Value<A>>,
    pub(super) maglev: Table<MaglevKey, MaglevBlock>,
    members: Table<MemberKey<A>, u32>,
    pub(super) ranges: Ranges<A>,
    programmed: HashMap<Key<A>, FrontendValue>,
    closed: Closed<A>,
    /// Frontends of each service, and the generation they are at.
    references: HashMap<ServiceId, Reference>,
    retired: Vec<Retired>,
    /// Services whose backends changed since their flows were last looked at.
    changed: HashSet<ServiceId>,
}

/// The maps that are pinned.
pub struct Pinned<A: Family> {
    frontends: Table<Key<A>, FrontendEntry<A>>,
    backends: Table<BackendKey, Value<A>>,
    maglev: Table<MaglevKey, MaglevBlock>,
    members: Table<MemberKey<A>, u32>,
    ranges: ranges::Entries<A>,
}

impl<A: Family> Pinned<A> {
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Self {
            frontends: Table::open(directory, A::FRONTENDS)?,
            backends: Table::open(directory, A::BACKENDS)?,
            maglev: Table::open(directory, A::MAGLEV)?,
            members: Table::open(directory, A::MEMBERS)?,
            ranges: Table::open(directory, A::RANGES)?,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Reference {
    frontends: u32,
    generation: u16,
}

/// What only readers of a replaced frontend value can still look up.
#[derive(Debug)]
struct Retired {
    since_ns: u64,
    backends: Vec<BackendKey>,
    blocks: Vec<MaglevKey>,
}

/// The writes of one call, in the order in which they are safe.
struct Writes<A: Family> {
    members: Vec<MemberKey<A>>,
    backends: (Vec<BackendKey>, Vec<Value<A>>),
    maglev: (Vec<MaglevKey>, Vec<MaglevBlock>),
    frontends: (Vec<Key<A>>, Vec<FrontendEntry<A>>),
    stale_members: Vec<MemberKey<A>>,
    /// Values of frontends that no frontend has any more.
    retired: Vec<FrontendValue>,
    ranges: Vec<(ServiceId, Vec<(A, u8)>)>,
    /// Services that this call has replaced: frontends that leave one do not take its id with them.
    planned: HashSet<ServiceId>,
}

impl<A: Family> Store<A> {
    pub fn open(directory: &Path, ids: &mut Ids) -> Result<Self> {
        let Pinned { frontends, backends, maglev, members, ranges } = Pinned::open(directory)?;
        let mut services = Self {
            frontends,
            backends,
            maglev,
            members,
            ranges: Ranges::new(ranges),
            programmed: HashMap::new(),
            closed: Closed::default(),
            references: HashMap::new(),
            retired: Vec::new(),
            changed: HashSet::new(),
        };
        services.adopt(ids)?;
        Ok(services)
    }

    /// Takes over what is in the maps, and deletes the backends and tables that a crash or a failure between two writes
    /// left.
    fn adopt(&mut self, ids: &mut Ids) -> Result<()> {
        self.programmed.clear();
        for (id, _) in self.references.drain() {
            ids.release(id);
        }
        let entries = self.frontends.entries()?;
        self.closed = Closed::adopt(&entries);
        for (key, FrontendEntry { value, .. }) in entries.into_iter().filter(|(key, _)| !closed::is_address(key)) {
            self.reference(key, value, ids);
            ids.adopt(value.service);
        }
        self.ranges.adopt()?;
        let references = &self.references;
        self.ranges.retain(|id| references.contains_key(&id))?;
        let current: HashSet<(ServiceId, u16)> =
            self.programmed.values().map(|value| (value.service, value.generation)).collect();
        let retired: HashSet<BackendKey> =
            self.retired.iter().flat_map(|retired| retired.backends.iter().copied()).collect();
        let orphan = |key: &BackendKey| !current.contains(&(key.service, key.generation)) && !retired.contains(key);
        let backends = self.backends.entries()?;
        let orphans: Vec<_> = backends.into_iter().map(|(key, _)| key).filter(orphan).collect();
        self.backends.remove_all(&orphans)?;
        let retired: HashSet<MaglevKey> =
            self.retired.iter().flat_map(|retired| retired.blocks.iter().copied()).collect();
        let orphan = |key: &MaglevKey| !current.contains(&(key.service, key.generation)) && !retired.contains(key);
        let blocks = self.maglev.entries()?;
        let orphans: Vec<_> = blocks.into_iter().map(|(key, _)| key).filter(orphan).collect();
        self.maglev.remove_all(&orphans)
    }

    /// Writes to these maps from now on, which have the same entries.
    pub fn move_to(&mut self, pinned: Pinned<A>) {
        let Pinned { frontends, backends, maglev, members, ranges } = pinned;
        (self.frontends, self.backends, self.maglev, self.members) = (frontends, backends, maglev, members);
        self.ranges.move_to(ranges);
    }

    /// Pins the maps that it writes to, in place of others.
    pub fn repin(&self, directory: &Path) -> Result<()> {
        self.frontends.replace_pin(directory)?;
        self.backends.replace_pin(directory)?;
        self.maglev.replace_pin(directory)?;
        self.members.replace_pin(directory)?;
        self.ranges.repin(directory)
    }

    pub fn put_all(&mut self, services: &[&Service], ids: &mut Ids) -> Result<Vec<ServiceId>> {
        self.delete_retired(monotonic_ns())?;
        let mut written = Vec::with_capacity(services.len());
        let mut rest = services;
        while !rest.is_empty() {
            // A batch ends where an address comes up again: its second state builds on its first.
            let mut seen = HashSet::new();
            let fresh = |service: &&Service| service.frontends.iter().all(|frontend| seen.insert(frontend.key));
            let count = rest.iter().map(fresh).position(|fresh| !fresh).unwrap_or(rest.len()).max(1);
            let (batch, others) = rest.split_at(count);
            match self.put_batch(batch, ids) {
                Ok(batch) => written.extend(batch),
                Err(error) => {
                    // What was written before the failure is in the maps: start again from there.
                    self.adopt(ids)?;
                    return Err(error);
                }
            }
            rest = others;
        }
        Ok(written)
    }

    fn put_batch(&mut self, services: &[&Service], ids: &mut Ids) -> Result<Vec<ServiceId>> {
        let mut writes = Writes::new();
        let written =
            services.iter().map(|service| self.plan(service, &mut writes, ids)).collect::<Result<Vec<_>>>()?;
        self.members.put_all(&writes.members, &vec![0; writes.members.len()])?;
        self.backends.put_all(&writes.backends.0, &writes.backends.1)?;
        self.maglev.put_all(&writes.maglev.0, &writes.maglev.1)?;
        for (id, ranges) in &writes.ranges {
            self.ranges.put(*id, ranges)?;
        }
        let frontends = writes.frontends.0.iter().zip(&writes.frontends.1);
        let announced: Vec<_> =
            frontends.filter(|(key, entry)| closed::announces(key, &entry.value)).map(|(key, _)| *key).collect();
        // The flip.
        self.frontends.put_all(&writes.frontends.0, &writes.frontends.1)?;
        for (key, FrontendEntry { value, .. }) in writes.frontends.0.into_iter().zip(writes.frontends.1) {
            if let Some(orphan) = self.reference(key, value, ids) {
                writes.retired.push(orphan);
                self.ranges.put(orphan.service, &[])?;
            }
        }
        for key in announced {
            self.closed.add(&self.frontends, &key)?;
        }
        self.members.remove_all(&writes.stale_members)?;
        self.retire(&writes.retired);
        Ok(written)
    }

    fn plan(&mut self, service: &Service, writes: &mut Writes<A>, ids: &mut Ids) -> Result<ServiceId> {
        if service.frontends.is_empty() {
            return Err(Error::NoFrontend);
        }
        let count = u16::try_from(service.backends.len())
            .ok()
            .filter(|count| *count <= SERVICE_BACKENDS_MAX)
            .ok_or(Error::TooManyBackends { count: service.backends.len() })?;
        let keys: Vec<(Key<A>, u16)> =
            service.frontends.iter().map(|f| Ok((key_of::<A>(&f.key)?, f.flags))).collect::<Result<_>>()?;
        let free = |value: &&FrontendValue| !writes.planned.contains(&value.service);
        let old = keys.iter().filter_map(|(key, _)| self.programmed.get(key)).find(free).copied();
        let (id, generation) = match old {
            Some(old) => (old.service, self.references[&old.service].generation.wrapping_add(1)),
            None => (ids.allocate(), 0),
        };
        writes.planned.insert(id);
        // Ranges of the other family are nobody's: its clients cannot dial these frontends.
        writes.ranges.push((id, service.source_ranges.iter().filter_map(|range| A::of_net(*range)).collect()));
        let mut backends = service.backends.clone();
        // Local backends take the first slots, so that "local only" is a smaller count.
        backends.sort_by_key(|backend| !backend.local);
        let local = backends.iter().filter(|backend| backend.local).count() as u16;
        let mut first = [Value::default(); FIRST_BACKENDS];
        for (slot, backend) in (0..).zip(&backends) {
            let backend = value_of(backend)?;
            if let Some(first) = first.get_mut(usize::from(slot)) {
                *first = backend;
            }
            writes.backends.0.push(BackendKey { service: id, generation, slot });
            writes.backends.1.push(backend);
        }
        let affinity_s =
            service.affinity.map_or(0, |lifetime| u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).max(1));
        self.plan_members(id, old, affinity_s, &backends, writes)?;
        // The table is of all backends.
        let leads_to_all = |flags: u16| flags & frontend_flag::LOCAL_ONLY == 0 || local == count;
        let is_used = keys.iter().any(|(_, flags)| leads_to_all(*flags));
        let table = if is_used { plan_table(id, generation, service.algorithm, &backends, writes) } else { 0 };
        for (key, flags) in &keys {
            let flags = flags | frontend_flag::FIRST | if leads_to_all(*flags) { table } else { 0 };
            let value = FrontendValue { service: id, generation, backends: count, local, flags, affinity_s };
            writes.frontends.0.push(*key);
            writes.frontends.1.push(FrontendEntry { value, first });
        }
        if let Some(old) = old {
            writes.retired.push(old);
            self.changed.insert(id);
        }
        Ok(id)
    }

    /// Members are what a remembered backend is checked against, over all generations.
    fn plan_members(
        &self,
        id: ServiceId,
        old: Option<FrontendValue>,
        affinity_s: u32,
        backends: &[Backend],
        writes: &mut Writes<A>,
    ) -> Result<()> {
        let new: HashSet<MemberKey<A>> = if affinity_s == 0 {
            HashSet::new()
        } else {
            backends.iter().map(|backend| Ok(member(id, &value_of(backend)?))).collect::<Result<_>>()?
        };
        if let Some(old) = old.filter(|old| old.affinity_s != 0) {
            for key in slots(&old) {
                let Some(backend) = self.backends.get(&key)? else { continue };
                let old = member(id, &backend);
                if !new.contains(&old) {
                    writes.stale_members.push(old);
                }
            }
        }
        writes.members.extend(new);
        Ok(())
    }

    pub fn remove(&mut self, key: &FrontendKey, ids: &mut Ids) -> Result<bool> {
        self.delete_retired(monotonic_ns())?;
        let key = &key_of(key)?;
        // One that somebody else wrote may be there nevertheless.
        let Some(value) = self.programmed.get(key).copied() else { return self.frontends.remove(key) };
        self.frontends.remove(key)?;
        self.programmed.remove(key);
        self.closed.remove(&self.frontends, key)?;
        if self.release(&value, ids) {
            self.changed.insert(value.service);
            self.ranges.put(value.service, &[])?;
            if value.affinity_s != 0 {
                let mut members = Vec::new();
                for key in slots(&value) {
                    members.extend(self.backends.get(&key)?.map(|b| member(value.service, &b)));
                }
                self.members.remove_all(&members)?;
            }
            self.retire(&[value]);
        }
        Ok(true)
    }

    /// Puts back what others took of entries that no frontend shows; returns it.
    pub fn repair(&self) -> Result<Vec<Drift>> {
        let closed = self.closed.repair(&self.frontends)?;
        let closed = closed.into_iter().map(|addr| format!("{} {}", A::FRONTENDS, addr.ip()));
        let ranges = self.ranges.repair()?.into_iter().map(|range| format!("{} {range}", A::RANGES));
        Ok(closed.chain(ranges).map(|entry| Drift::new(DriftKind::MapEntry, entry)).collect())
    }

    /// What these values of frontends lead to is deleted when no reader can have them any more.
    fn retire(&mut self, values: &[FrontendValue]) {
        if !values.is_empty() {
            let backends = values.iter().flat_map(slots).collect();
            let blocks = values.iter().flat_map(blocks).collect();
            self.retired.push(Retired { since_ns: monotonic_ns(), backends, blocks });
        }
    }

    /// Deletes what was retired and whose grace period is over.
    pub fn delete_retired(&mut self, now_ns: u64) -> Result<()> {
        let over = |retired: &Retired| now_ns.saturating_sub(retired.since_ns) >= GRACE_NS;
        let (over, waiting) = mem::take(&mut self.retired).into_iter().partition(over);
        self.retired = waiting;
        let over: Vec<Retired> = over;
        let backends: Vec<_> = over.iter().flat_map(|retired| retired.backends.iter().copied()).collect();
        self.backends.remove_all(&backends)?;
        let blocks: Vec<_> = over.iter().flat_map(|retired| retired.blocks.iter().copied()).collect();
        self.maglev.remove_all(&blocks)
    }

    /// The backends, now, of services that changed since the last call.
    pub fn take_changed(&mut self) -> Result<Changed<A>> {
        let mut changed: HashMap<_, HashSet<_>> =
            mem::take(&mut self.changed).into_iter().map(|id| (id, HashSet::new())).collect();
        if changed.is_empty() {
            return Ok(changed);
        }
        for value in self.programmed.values() {
            let Some(backends) = changed.get_mut(&value.service) else { continue };
            for key in slots(value) {
                backends.extend(self.backends.get(&key)?.map(|backend| (backend.addr, backend.port)));
            }
        }
        Ok(changed)
    }

    /// Each map's name, entries and limit.
    pub fn fill(&self) -> Result<[(&'static str, (u64, u64)); 4]> {
        Ok([
            (A::FRONTENDS, self.frontends.fill()?),
            (A::BACKENDS, self.backends.fill()?),
            (A::MEMBERS, self.members.fill()?),
            (A::MAGLEV, self.maglev_fill()),
        ])
    }

    /// Counted by what leads to the blocks: reading them all would take long.
    fn maglev_fill(&self) -> (u64, u64) {
        let current: HashMap<_, _> = self.programmed.values().map(|value| (value.service, value.flags)).collect();
        let current: u64 =
            current.values().map(|flags| maglev::size(*flags).map_or(0, maglev::blocks)).map(u64::from).sum();
        let retired: u64 = self.retired.iter().map(|retired| retired.blocks.len() as u64).sum();
        (current + retired, self.maglev.limit())
    }

    /// Notes a frontend. Returns the value it had, if that was its service's last.
    fn reference(&mut self, key: Key<A>, value: FrontendValue, ids: &mut Ids) -> Option<FrontendValue> {
        ids.note(value.service);
        let old = self.programmed.insert(key, value);
        let reference =
            self.references.entry(value.service).or_insert(Reference { frontends: 0, generation: value.generation });
        reference.generation = value.generation;
        reference.frontends += 1;
        old.filter(|old| self.release(old, ids))
    }

    /// True if that was the service's last frontend.
    fn release(&mut self, value: &FrontendValue, ids: &mut Ids) -> bool {
        let Some(reference) = self.references.get_mut(&value.service) else { return false };
        reference.frontends -= 1;
        let last = reference.frontends == 0;
        if last {
            self.references.remove(&value.service);
            ids.release(value.service);
        }
        last
    }
}

impl<A: Family> Writes<A> {
    fn new() -> Self {
        Self {
            members: Vec::new(),
            backends: Default::default(),
            maglev: Default::default(),
            frontends: Default::default(),
            stale_members: Vec::new(),
            retired: Vec::new(),
            ranges: Vec::new(),
            planned: HashSet::new(),
        }
    }
}

/// What frontends' flags say of the table that is to be written.
fn plan_table<A: Family>(
    id: ServiceId,
    generation: u16,
    algorithm: Algorithm,
    backends: &[Backend],
    writes: &mut Writes<A>,
) -> u16 {
    let Algorithm::Maglev(size) = algorithm else { return 0 };
    writes.maglev.extend(block_values(id, generation, &table(backends, size)));
    maglev::flags(size.get()).unwrap_or(0)
}

fn key_of<A: Family>(key: &FrontendKey) -> Result<Key<A>> {
    let addr = A::of(key.addr).ok_or(Error::MixedFamilies { addr: key.addr })?;
    Ok(Key { addr, port: Be16::new(key.port), proto: key.proto, scope: key.scope })
}

fn value_of<A: Family>(backend: &Backend) -> Result<Value<A>> {
    let local = if backend.local { backend_flag::LOCAL } else { 0 };
    let terminating = if backend.terminating { backend_flag::TERMINATING } else { 0 };
    Ok(Value {
        addr: A::of(backend.addr).ok_or(Error::MixedFamilies { addr: backend.addr })?,
        port: Be16::new(backend.port),
        flags: local | terminating,
        weight: backend.weight,
        id: backend_id(backend),
    })
}

/// FNV-1a of its address: the same in every generation, on every node and after every restart.
fn backend_id(backend: &Backend) -> BackendId {
    let fold = |bytes: &[u8], hash| {
        bytes.iter().fold(hash, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    };
    let hash = match backend.addr {
        IpAddr::V4(addr) => fold(&addr.octets(), 0x811c_9dc5),
        IpAddr::V6(addr) => fold(&addr.octets(), 0x811c_9dc5),
    };
    BackendId(fold(&backend.port.to_be_bytes(), hash))
}

fn member<A: Family>(service: ServiceId, backend: &Value<A>) -> MemberKey<A> {
    MemberKey { service, addr: backend.addr, port: backend.port, pad: [0; 2] }
}

/// The blocks of the value's Maglev table, if it has one.
fn blocks(value: &FrontendValue) -> impl Iterator<Item = MaglevKey> + use<> {
    let FrontendValue { service, generation, flags, .. } = *value;
    let count = maglev::size(flags).map_or(0, maglev::blocks);
    (0..count).map(move |block| MaglevKey { service, generation, block })
}

pub fn slots(value: &FrontendValue) -> impl Iterator<Item = BackendKey> + use<> {
    let FrontendValue { service, generation, backends, .. } = *value;
    (0..backends).map(move |slot| BackendKey { service, generation, slot })
}
