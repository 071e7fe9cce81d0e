//! Services: frontends, backends, and the swap between generations of them.

mod closed;
mod id;
mod ranges;
mod read_back;
mod store;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use ipnet::IpNet;
use xebec_abi::{Addr4, Addr6, Be16, ServiceId, lb::scope};

use id::Ids;
use store::{Pinned, Store};

use crate::{
    Capacity, Datapath, Drift, canary,
    error::{Error, Result},
    layout::Records,
    lock,
    maglev::Algorithm,
    object::Programs,
};

/// What clients dial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrontendKey {
    pub addr: IpAddr,
    pub port: u16,
    /// IP protocol number ([`xebec_abi::proto`]).
    pub proto: u8,
    /// [`xebec_abi::lb::scope`].
    pub scope: u8,
}

impl FrontendKey {
    pub fn cluster_ip(addr: IpAddr, port: u16, proto: u8) -> Self {
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
    pub addr: IpAddr,
    pub port: u16,
    /// On this node.
    pub local: bool,
    /// Serves while it terminates.
    pub terminating: bool,
    /// Its share of a Maglev table, in comparison with others'; 0 is as 1.
    pub weight: u8,
}

/// One port of a Service, in one IP family.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// Every address of the port; they share backends.
    pub frontends: Vec<Frontend>,
    pub backends: Vec<Backend>,
    /// Session affinity by client IP, for this long after its last connection.
    pub affinity: Option<Duration>,
    /// Clients for frontends with `frontend_flag::SOURCE_RANGES`.
    pub source_ranges: Vec<IpNet>,
    /// How clients outside the cluster get a backend.
    pub algorithm: Algorithm,
}

/// A frontend as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programmed {
    pub frontend: Frontend,
    pub service: ServiceId,
    pub affinity: Option<Duration>,
    /// Of its service.
    pub source_ranges: Vec<IpNet>,
    pub algorithm: Algorithm,
    pub backends: Vec<Backend>,
}

impl Datapath {
    /// Programs a service port, new or changed. For each frontend the change is one atomic write:
    /// a client gets the old service or the new one, never a mixture.
    ///
    /// # Errors
    /// [`Error::Full`] if a map has no room for it: [`Datapath::put_services_growing`] may make some.
    pub fn put_service(&self, service: &Service) -> Result<ServiceId> {
        let mut services = lock(&self.services);
        let ids = services.put_all(std::slice::from_ref(service))?;
        ids.into_iter().next().ok_or(Error::NoFrontend)
    }

    /// [`Datapath::put_service`] for many at once, with a few system calls for thousands.
    pub fn put_services(&self, services: &[Service]) -> Result<Vec<ServiceId>> {
        lock(&self.services).put_all(services)
    }

    /// [`Datapath::put_services`], and where there is no room for them the maps become larger, as far as [`Config::capacity`]
    /// goes.
    ///
    /// What they hold goes along, and the programs are replaced by such that look there; until then nothing is written, so
    /// that no packet meets less than is programmed. It takes as long as [`Datapath::reload`], and is to be called as that is.
    ///
    /// [`Config::capacity`]: crate::Config::capacity
    pub fn put_services_growing(&self, services: &[Service]) -> Result<Vec<ServiceId>> {
        match self.put_services(services) {
            Err(Error::Full { map, limit }) if self.config.capacity.exceeds(map, limit) => {
                self.make_room(services)?;
                self.put_services(services)
            }
            done => done,
        }
    }

    fn make_room(&self, services: &[Service]) -> Result<()> {
        let _turn = lock(&self.attaching);
        let mut held = lock(&self.services);
        let programs = match self.grown(services) {
            Ok(None) => return Ok(()),
            Ok(Some(programs)) => held.reopen(&self.directory).map(|()| programs),
            Err(error) => Err(error),
        };
        let programs = programs.or_else(|error| {
            // Those that run look where the entries were.
            held.repin(&self.directory)?;
            Err(error)
        })?;
        // A link that fails is tried again by `repair`.
        self.replace(programs)
    }

    /// Programs that look into larger maps, if there are any.
    fn grown(&self, services: &[Service]) -> Result<Option<Programs>> {
        let records = Records::open(&self.directory)?;
        let capacity = &self.config.capacity;
        let ipv4 = capacity.grow::<Addr4>(&self.directory, &records, &need(services, false))?;
        let ipv6 = capacity.grow::<Addr6>(&self.directory, &records, &need(services, true))?;
        if ipv4 || ipv6 { self.load().map(Some) } else { Ok(None) }
    }

    /// Forgets an address; its service's backends go with its last one. False if it was not there.
    pub fn remove_frontend(&self, key: &FrontendKey) -> Result<bool> {
        lock(&self.services).remove(key)
    }

    /// What is programmed for services, read from the kernel.
    pub fn frontends(&self) -> Result<Vec<Programmed>> {
        let mut programmed = lock(&self.services).read_back()?;
        programmed.retain(|programmed| !canary::is_canary(programmed.frontend.key.addr));
        Ok(programmed)
    }
}

/// How many entries these services take at most, in the maps of one family.
fn need(services: &[Service], ipv6: bool) -> Capacity {
    let mut need = Capacity::NONE;
    for service in services.iter().filter(|service| is_ipv6(service) == ipv6) {
        // An address that only services have has an entry of its own.
        add(&mut need.frontends, 2 * service.frontends.len());
        add(&mut need.backends, service.backends.len());
        if service.affinity.is_some() {
            add(&mut need.members, service.backends.len());
        }
        add(&mut need.source_ranges, service.source_ranges.len());
        if let Algorithm::Maglev(size) = service.algorithm {
            add(&mut need.maglev_blocks, size.blocks().into());
        }
    }
    need
}

fn add(to: &mut u32, more: usize) {
    *to = to.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
}

fn is_ipv6(service: &Service) -> bool {
    service.frontends.first().is_some_and(|frontend| frontend.key.addr.is_ipv6())
}

/// Backends, now, of services that changed, in the tables of one family.
pub(crate) type Changed<A> = HashMap<ServiceId, HashSet<(A, Be16)>>;

/// The service maps of both families, and the ids that they share.
#[derive(Debug)]
pub(crate) struct Services {
    ids: Ids,
    ipv4: Store<Addr4>,
    ipv6: Store<Addr6>,
}

impl Services {
    pub fn open(directory: &Path) -> Result<Self> {
        let mut ids = Ids::default();
        let ipv4 = Store::open(directory, &mut ids)?;
        Ok(Self { ipv6: Store::open(directory, &mut ids)?, ids, ipv4 })
    }

    /// Writes to the maps that are pinned now, which have the same entries.
    pub fn reopen(&mut self, directory: &Path) -> Result<()> {
        let (ipv4, ipv6) = (Pinned::open(directory)?, Pinned::open(directory)?);
        self.ipv4.move_to(ipv4);
        self.ipv6.move_to(ipv6);
        Ok(())
    }

    /// Pins the maps that it writes to, in place of others.
    pub fn repin(&self, directory: &Path) -> Result<()> {
        self.ipv4.repin(directory)?;
        self.ipv6.repin(directory)
    }

    pub fn put_all(&mut self, services: &[Service]) -> Result<Vec<ServiceId>> {
        if services.iter().any(|service| service.frontends.is_empty()) {
            return Err(Error::NoFrontend);
        }
        let (ipv6, ipv4): (Vec<&Service>, Vec<&Service>) = services.iter().partition(|service| is_ipv6(service));
        let mut ipv4 = self.ipv4.put_all(&ipv4, &mut self.ids)?.into_iter();
        let mut ipv6 = self.ipv6.put_all(&ipv6, &mut self.ids)?.into_iter();
        Ok(services.iter().filter_map(|service| if is_ipv6(service) { ipv6.next() } else { ipv4.next() }).collect())
    }

    fn remove(&mut self, key: &FrontendKey) -> Result<bool> {
        if key.addr.is_ipv6() { self.ipv6.remove(key, &mut self.ids) } else { self.ipv4.remove(key, &mut self.ids) }
    }

    fn read_back(&self) -> Result<Vec<Programmed>> {
        let mut programmed = self.ipv4.read_back()?;
        programmed.extend(self.ipv6.read_back()?);
        Ok(programmed)
    }

    /// Puts back what others took of entries that no frontend shows: addresses that only services have, and source
    /// ranges. Returns what was missing.
    pub fn repair(&self) -> Result<Vec<Drift>> {
        let mut found = self.ipv4.repair()?;
        found.extend(self.ipv6.repair()?);
        Ok(found)
    }

    /// Deletes the backends whose grace period is over.
    pub fn delete_retired(&mut self, now_ns: u64) -> Result<()> {
        self.ipv4.delete_retired(now_ns)?;
        self.ipv6.delete_retired(now_ns)
    }

    /// What has changed since the last call.
    pub fn take_changed(&mut self) -> Result<(Changed<Addr4>, Changed<Addr6>)> {
        Ok((self.ipv4.take_changed()?, self.ipv6.take_changed()?))
    }

    /// Each map's name, entries and limit.
    pub fn fill(&self) -> Result<Vec<(&'static str, (u64, u64))>> {
        let mut fill = self.ipv4.fill()?.to_vec();
        fill.extend(self.ipv6.fill()?);
        Ok(fill)
    }

    /// Is the service programmed?
    pub fn knows(&self, id: ServiceId) -> bool {
        self.ids.knows(id)
    }
}
