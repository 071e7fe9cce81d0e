//! Services: frontends, backends, and the swap between generations of them.

mod closed;
mod ranges;
mod read_back;

use std::{
    collections::{HashMap, HashSet},
    mem,
    net::Ipv4Addr,
    path::Path,
    time::Duration,
};

use ipnet::Ipv4Net;
use xebec_abi::{
    Addr4, Backend4, BackendId, BackendKey, Be16, Frontend4, FrontendKey4, MemberKey4, ServiceId,
    lb::{backend_flag, scope},
    limits::SERVICE_BACKENDS_MAX,
    names,
};

use closed::Closed;
use ranges::Ranges;

use crate::{
    Datapath,
    clock::boot_ns,
    error::{Error, Result},
    lock,
    table::Table,
};

/// How long the backends of a replaced generation stay: far longer than any program runs.
const GRACE_NS: u64 = 500_000_000;

/// What clients dial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrontendKey {
    pub addr: Ipv4Addr,
    pub port: u16,
    /// IP protocol number ([`xebec_abi::proto`]).
    pub proto: u8,
    /// [`xebec_abi::lb::scope`].
    pub scope: u8,
}

impl FrontendKey {
    pub fn cluster_ip(addr: Ipv4Addr, port: u16, proto: u8) -> Self {
        Self { addr, port, proto, scope: scope::INTERNAL }
    }
}

/// One address of a service port, with [`xebec_abi::lb::frontend_flag`]s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Frontend {
    pub key: FrontendKey,
    pub flags: u16,
}

/// One address that serves a service port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Backend {
    pub addr: Ipv4Addr,
    pub port: u16,
    /// On this node.
    pub local: bool,
    /// Serves while it terminates.
    pub terminating: bool,
}

/// One port of a Service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// Every address of the port; they share backends.
    pub frontends: Vec<Frontend>,
    pub backends: Vec<Backend>,
    /// Session affinity by client IP, for this long after its last connection.
    pub affinity: Option<Duration>,
    /// Clients outside the cluster for frontends with `frontend_flag::SOURCE_RANGES`.
    pub source_ranges: Vec<Ipv4Net>,
}

/// A frontend as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programmed {
    pub frontend: Frontend,
    pub service: ServiceId,
    pub affinity: Option<Duration>,
    /// Of its service.
    pub source_ranges: Vec<Ipv4Net>,
    pub backends: Vec<Backend>,
}

impl Datapath {
    /// Programs a service port, new or changed. For each frontend the change is one atomic write:
    /// a client gets the old service or the new one, never a mixture.
    pub fn put_service(&self, service: &Service) -> Result<ServiceId> {
        let mut services = lock(&self.services);
        let ids = services.put_all(std::slice::from_ref(service))?;
        ids.into_iter().next().ok_or(Error::NoFrontend)
    }

    /// [`Datapath::put_service`] for many at once, with a few system calls for thousands.
    pub fn put_services(&self, services: &[Service]) -> Result<Vec<ServiceId>> {
        lock(&self.services).put_all(services)
    }

    /// Forgets an address; its service's backends go with its last one. False if it was not there.
    pub fn remove_frontend(&self, key: &FrontendKey) -> Result<bool> {
        lock(&self.services).remove(&key_of(key))
    }

    /// What is programmed, read from the kernel.
    pub fn frontends(&self) -> Result<Vec<Programmed>> {
        lock(&self.services).read_back()
    }
}

/// The service maps, and what is allocated in them.
#[derive(Debug)]
pub(crate) struct Services {
    frontends: Table<FrontendKey4, Frontend4>,
    backends: Table<BackendKey, Backend4>,
    members: Table<MemberKey4, u32>,
    ranges: Ranges,
    programmed: HashMap<FrontendKey4, Frontend4>,
    closed: Closed,
    /// Frontends of each service, and the generation they are at.
    references: HashMap<ServiceId, Reference>,
    next_id: u32,
    retired: Vec<Retired>,
    /// Services whose backends changed since their flows were last looked at.
    changed: HashSet<ServiceId>,
}

#[derive(Clone, Copy, Debug)]
struct Reference {
    frontends: u32,
    generation: u16,
}

/// Backends that only readers of a replaced frontend value can still look up.
#[derive(Debug)]
struct Retired {
    since_ns: u64,
    keys: Vec<BackendKey>,
}

/// The writes of one call, in the order in which they are safe.
#[derive(Default)]
struct Writes {
    members: Vec<MemberKey4>,
    backends: (Vec<BackendKey>, Vec<Backend4>),
    frontends: (Vec<FrontendKey4>, Vec<Frontend4>),
    stale_members: Vec<MemberKey4>,
    retired: Vec<BackendKey>,
    ranges: Vec<(ServiceId, Vec<Ipv4Net>)>,
    /// Services that this call has replaced: frontends that leave one do not take its id with them.
    planned: HashSet<ServiceId>,
}

impl Services {
    pub fn open(directory: &Path) -> Result<Self> {
        let mut services = Self {
            frontends: Table::open(directory, names::LB4_FRONTENDS)?,
            backends: Table::open(directory, names::LB4_BACKENDS)?,
            members: Table::open(directory, names::LB4_MEMBERS)?,
            ranges: Ranges::open(directory)?,
            programmed: HashMap::new(),
            closed: Closed::default(),
            references: HashMap::new(),
            next_id: 1,
            retired: Vec::new(),
            changed: HashSet::new(),
        };
        services.adopt()?;
        Ok(services)
    }

    /// Takes over what is in the maps, and deletes the backends that a crash or a failure between two writes left.
    fn adopt(&mut self) -> Result<()> {
        self.programmed.clear();
        self.references.clear();
        let entries = self.frontends.entries()?;
        self.closed = Closed::adopt(&entries);
        for (key, value) in entries.into_iter().filter(|(key, _)| !closed::is_address(key)) {
            self.reference(key, value);
            self.next_id = self.next_id.max(value.service.0.wrapping_add(1));
        }
        self.ranges.adopt()?;
        let references = &self.references;
        self.ranges.retain(|id| references.contains_key(&id))?;
        let current: HashSet<(ServiceId, u16)> =
            self.programmed.values().map(|value| (value.service, value.generation)).collect();
        let retired: HashSet<BackendKey> =
            self.retired.iter().flat_map(|retired| retired.keys.iter().copied()).collect();
        let orphan = |key: &BackendKey| !current.contains(&(key.service, key.generation)) && !retired.contains(key);
        let backends = self.backends.entries()?;
        let orphans: Vec<_> = backends.into_iter().map(|(key, _)| key).filter(orphan).collect();
        self.backends.remove_all(&orphans)
    }

    pub fn put_all(&mut self, services: &[Service]) -> Result<Vec<ServiceId>> {
        self.delete_retired(boot_ns())?;
        let mut ids = Vec::with_capacity(services.len());
        let mut rest = services;
        while !rest.is_empty() {
            // A batch ends where an address comes up again: its second state builds on its first.
            let mut seen = HashSet::new();
            let fresh = |service: &Service| service.frontends.iter().all(|frontend| seen.insert(frontend.key));
            let count = rest.iter().map(fresh).position(|fresh| !fresh).unwrap_or(rest.len()).max(1);
            let (batch, others) = rest.split_at(count);
            match self.put_batch(batch) {
                Ok(batch) => ids.extend(batch),
                Err(error) => {
                    // What was written before the failure is in the maps: start again from there.
                    self.adopt()?;
                    return Err(error);
                }
            }
            rest = others;
        }
        Ok(ids)
    }

    fn put_batch(&mut self, services: &[Service]) -> Result<Vec<ServiceId>> {
        let mut writes = Writes::default();
        let ids = services.iter().map(|service| self.plan(service, &mut writes)).collect::<Result<Vec<_>>>()?;
        self.members.put_all(&writes.members, &vec![0; writes.members.len()])?;
        self.backends.put_all(&writes.backends.0, &writes.backends.1)?;
        for (id, ranges) in &writes.ranges {
            self.ranges.put(*id, ranges)?;
        }
        let frontends = writes.frontends.0.iter().zip(&writes.frontends.1);
        let announced: Vec<_> =
            frontends.filter(|(key, value)| closed::announces(key, value)).map(|(key, _)| *key).collect();
        // The flip.
        self.frontends.put_all(&writes.frontends.0, &writes.frontends.1)?;
        for (key, value) in writes.frontends.0.into_iter().zip(writes.frontends.1) {
            if let Some(orphan) = self.reference(key, value) {
                writes.retired.extend(slots(&orphan));
                self.ranges.put(orphan.service, &[])?;
            }
        }
        for key in announced {
            self.closed.add(&self.frontends, &key)?;
        }
        self.members.remove_all(&writes.stale_members)?;
        if !writes.retired.is_empty() {
            self.retired.push(Retired { since_ns: boot_ns(), keys: writes.retired });
        }
        Ok(ids)
    }

    fn plan(&mut self, service: &Service, writes: &mut Writes) -> Result<ServiceId> {
        if service.frontends.is_empty() {
            return Err(Error::NoFrontend);
        }
        let count = u16::try_from(service.backends.len())
            .ok()
            .filter(|count| *count <= SERVICE_BACKENDS_MAX)
            .ok_or(Error::TooManyBackends { count: service.backends.len() })?;
        let keys: Vec<_> = service.frontends.iter().map(|f| (key_of(&f.key), f.flags)).collect();
        let free = |value: &&Frontend4| !writes.planned.contains(&value.service);
        let old = keys.iter().filter_map(|(key, _)| self.programmed.get(key)).find(free).copied();
        let (id, generation) = match old {
            Some(old) => (old.service, self.references[&old.service].generation.wrapping_add(1)),
            None => (self.allocate(), 0),
        };
        writes.planned.insert(id);
        writes.ranges.push((id, service.source_ranges.clone()));
        let mut backends = service.backends.clone();
        // Local backends take the first slots, so that "local only" is a smaller count.
        backends.sort_by_key(|backend| !backend.local);
        let local = backends.iter().filter(|backend| backend.local).count() as u16;
        for (slot, backend) in (0..).zip(&backends) {
            writes.backends.0.push(BackendKey { service: id, generation, slot });
            writes.backends.1.push(backend4(backend));
        }
        let affinity_s =
            service.affinity.map_or(0, |lifetime| u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).max(1));
        self.plan_members(id, old, affinity_s, &backends, writes)?;
        for (key, flags) in &keys {
            let value = Frontend4 { service: id, generation, backends: count, local, flags: *flags, affinity_s };
            writes.frontends.0.push(*key);
            writes.frontends.1.push(value);
        }
        if let Some(old) = old {
            writes.retired.extend(slots(&old));
            self.changed.insert(id);
        }
        Ok(id)
    }

    /// Members are what a remembered backend is checked against, over all generations.
    fn plan_members(
        &self,
        id: ServiceId,
        old: Option<Frontend4>,
        affinity_s: u32,
        backends: &[Backend],
        writes: &mut Writes,
    ) -> Result<()> {
        let new: HashSet<_> = if affinity_s == 0 {
            HashSet::new()
        } else {
            backends.iter().map(|backend| member(id, &backend4(backend))).collect()
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

    pub fn remove(&mut self, key: &FrontendKey4) -> Result<bool> {
        self.delete_retired(boot_ns())?;
        let Some(value) = self.programmed.get(key).copied() else { return Ok(false) };
        self.frontends.remove(key)?;
        self.programmed.remove(key);
        self.closed.remove(&self.frontends, key)?;
        if self.release(&value) {
            self.changed.insert(value.service);
            self.ranges.put(value.service, &[])?;
            let keys: Vec<_> = slots(&value).collect();
            if value.affinity_s != 0 {
                let mut members = Vec::new();
                for key in &keys {
                    members.extend(self.backends.get(key)?.map(|b| member(value.service, &b)));
                }
                self.members.remove_all(&members)?;
            }
            self.retired.push(Retired { since_ns: boot_ns(), keys });
        }
        Ok(true)
    }

    /// Deletes the backends whose grace period is over.
    pub fn delete_retired(&mut self, now_ns: u64) -> Result<()> {
        let over = |retired: &Retired| now_ns.saturating_sub(retired.since_ns) >= GRACE_NS;
        let (over, waiting) = mem::take(&mut self.retired).into_iter().partition(over);
        self.retired = waiting;
        let over: Vec<Retired> = over;
        let keys: Vec<_> = over.into_iter().flat_map(|retired| retired.keys).collect();
        self.backends.remove_all(&keys)
    }

    /// The backends, now, of services that changed since the last call.
    pub fn take_changed(&mut self) -> Result<HashMap<ServiceId, HashSet<(Addr4, Be16)>>> {
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

    /// Entries and limits of frontends, backends and members.
    #[allow(clippy::type_complexity)] // Three pairs, named where they are used.
    pub fn fill(&self) -> Result<((u64, u64), (u64, u64), (u64, u64))> {
        Ok((self.frontends.fill()?, self.backends.fill()?, self.members.fill()?))
    }

    /// Is the service programmed?
    pub fn knows(&self, id: ServiceId) -> bool {
        self.references.contains_key(&id)
    }

    fn allocate(&mut self) -> ServiceId {
        loop {
            let id = ServiceId(self.next_id);
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if !self.references.contains_key(&id) {
                return id;
            }
        }
    }

    /// Notes a frontend. Returns the value it had, if that was its service's last.
    fn reference(&mut self, key: FrontendKey4, value: Frontend4) -> Option<Frontend4> {
        let old = self.programmed.insert(key, value);
        let reference =
            self.references.entry(value.service).or_insert(Reference { frontends: 0, generation: value.generation });
        reference.generation = value.generation;
        reference.frontends += 1;
        old.filter(|old| self.release(old))
    }

    /// True if that was the service's last frontend.
    fn release(&mut self, value: &Frontend4) -> bool {
        let Some(reference) = self.references.get_mut(&value.service) else { return false };
        reference.frontends -= 1;
        let last = reference.frontends == 0;
        if last {
            self.references.remove(&value.service);
        }
        last
    }
}

fn key_of(key: &FrontendKey) -> FrontendKey4 {
    FrontendKey4 { addr: key.addr.octets(), port: Be16::new(key.port), proto: key.proto, scope: key.scope }
}

fn backend4(backend: &Backend) -> Backend4 {
    let local = if backend.local { backend_flag::LOCAL } else { 0 };
    let terminating = if backend.terminating { backend_flag::TERMINATING } else { 0 };
    Backend4 {
        addr: backend.addr.octets(),
        port: Be16::new(backend.port),
        flags: local | terminating,
        zone: 0,
        id: backend_id(backend),
    }
}

/// FNV-1a of its address: the same in every generation, on every node and after every restart.
fn backend_id(backend: &Backend) -> BackendId {
    let bytes = backend.addr.octets().into_iter().chain(backend.port.to_be_bytes());
    BackendId(bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)))
}

fn member(service: ServiceId, backend: &Backend4) -> MemberKey4 {
    MemberKey4 { service, addr: backend.addr, port: backend.port, pad: [0; 2] }
}

fn slots(value: &Frontend4) -> impl Iterator<Item = BackendKey> + use<> {
    let Frontend4 { service, generation, backends, .. } = *value;
    (0..backends).map(move |slot| BackendKey { service, generation, slot })
}
