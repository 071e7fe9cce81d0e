//! Deletes conntrack and NAT entries that nobody uses.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use xebec_abi::{
    Addr4, Addr6, Address, Direction, Flow, FlowKey, FlowState, RehearsalFlow,
    limits::{RESET_NS, TRANSIENT_FLOWS_MAX, TRANSIENT_NAT_MAX},
    proto,
};

use crate::{
    Config, Datapath, MapLayout, MapUsage, Result, clock::monotonic_ns, family::Family, lock, service::Changed,
    table::Table,
};

/// Between two collections of idle flows.
const PERIOD: Duration = Duration::from_secs(30);
/// Between two looks at flows of services that changed.
const TICK: Duration = Duration::from_secs(1);

/// What a collection did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Collected {
    pub conntrack: usize,
    pub nat: usize,
    /// UDP flows to backends that their service no longer has.
    pub stale: usize,
}

/// How many flows of a map are half-open, of as many as have a place: one more makes the one go that has waited longest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HalfOpen {
    pub flows: u64,
    pub places: u64,
}

impl Datapath {
    /// Collects garbage until told to stop.
    pub async fn maintain(self: Arc<Self>, stop: CancellationToken) {
        let mut idle_at = tokio::time::Instant::now() + PERIOD;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            let all = tokio::time::Instant::now() >= idle_at;
            if all {
                idle_at += PERIOD;
            }
            let datapath = Arc::clone(&self);
            let collect = move || if all { datapath.collect_garbage() } else { datapath.collect_stale() };
            match tokio::task::spawn_blocking(collect).await {
                Ok(Ok(collected)) if collected == Collected::default() => {}
                Ok(Ok(collected)) => tracing::debug!(?collected, "collected flows"),
                Ok(Err(error)) => tracing::warn!(%error, "collecting flows failed"),
                Err(error) => tracing::warn!(%error, "collecting flows panicked"),
            }
        }
    }

    /// Deletes idle flows, and what [`Datapath::collect_stale`] deletes.
    pub fn collect_garbage(&self) -> Result<Collected> {
        let stale = self.collect_stale()?;
        let now = monotonic_ns();
        let (flows4, flows6) = (&self.garbage.ipv4, &self.garbage.ipv6);
        Ok(Collected {
            conntrack: collect(&flows4.conntrack, now)? + collect(&flows6.conntrack, now)?,
            nat: collect(&flows4.nat, now)? + collect(&flows6.nat, now)?,
            ..stale
        })
    }

    /// Deletes the backends of replaced services, and flows of UDP and SCTP that are bound to a backend that is gone: the
    /// client cannot know, and would send to it for as long as it sends. A TCP client is told by a reset or a timeout.
    pub fn collect_stale(&self) -> Result<Collected> {
        let changed = {
            let mut services = lock(&self.services);
            services.delete_retired(monotonic_ns())?;
            self.latencies.retain(|service| services.knows(service))?;
            services.take_changed()?
        };
        let stale = self.garbage.ipv4.delete_stale(&changed.0)? + self.garbage.ipv6.delete_stale(&changed.1)?;
        Ok(Collected { stale, ..Collected::default() })
    }
}

/// Of both families.
#[derive(Debug)]
pub(crate) struct Flows {
    ipv4: FlowTables<Addr4>,
    ipv6: FlowTables<Addr6>,
}

#[derive(Debug)]
struct FlowTables<A: Family> {
    conntrack: FlowTable<A>,
    nat: FlowTable<A>,
}

/// Flows in either layout.
#[derive(Debug)]
enum FlowTable<A: Family> {
    Current(Table<FlowKey<A>, Flow<A>>),
    Rehearsal(Table<FlowKey<A>, RehearsalFlow<A>>),
}

impl<A: Family> FlowTable<A> {
    fn open(path: &Path, map: &'static str, layout: MapLayout) -> Result<Self> {
        Ok(match layout {
            MapLayout::Current => Self::Current(Table::open_at(path, map)?),
            MapLayout::Rehearsal => Self::Rehearsal(Table::open_at(path, map)?),
        })
    }

    fn entries(&self) -> Result<Vec<(FlowKey<A>, Flow<A>)>> {
        match self {
            Self::Current(table) => table.entries(),
            Self::Rehearsal(table) => Ok(table.entries()?.into_iter().map(|(key, flow)| (key, flow.into())).collect()),
        }
    }

    fn get(&self, key: &FlowKey<A>) -> Result<Option<Flow<A>>> {
        match self {
            Self::Current(table) => table.get(key),
            Self::Rehearsal(table) => Ok(table.get(key)?.map(Into::into)),
        }
    }

    fn remove(&self, key: &FlowKey<A>) -> Result<bool> {
        match self {
            Self::Current(table) => table.remove(key),
            Self::Rehearsal(table) => table.remove(key),
        }
    }

    fn limit(&self) -> u64 {
        match self {
            Self::Current(table) => table.limit(),
            Self::Rehearsal(table) => table.limit(),
        }
    }
}

impl Flows {
    /// From the pins that `pin` gives the maps.
    pub fn open(pin: impl Fn(&'static str) -> PathBuf, layout: MapLayout) -> Result<Self> {
        Ok(Self { ipv4: FlowTables::open(&pin, layout)?, ipv6: FlowTables::open(&pin, layout)? })
    }

    /// Each map, with what is half-open in those of the node's families.
    pub fn usage(&self, config: &Config) -> Result<impl Iterator<Item = MapUsage>> {
        let (ipv4, ipv6) = (self.ipv4.usage(config.ipv4.is_some())?, self.ipv6.usage(config.ipv6.is_some())?);
        Ok(ipv4.into_iter().chain(ipv6))
    }
}

impl<A: Family> FlowTables<A> {
    fn open(pin: impl Fn(&'static str) -> PathBuf, layout: MapLayout) -> Result<Self> {
        let table = |map| FlowTable::open(&pin(map), map, layout);
        Ok(Self { conntrack: table(A::CONNTRACK)?, nat: table(A::NAT)? })
    }

    fn usage(&self, is_used: bool) -> Result<[MapUsage; 2]> {
        let of = |map, table: &FlowTable<A>, places: u32| {
            let entries = table.entries()?;
            let half_open = is_used.then(|| HalfOpen { flows: half_open(&entries), places: places.into() });
            Ok(MapUsage { map, entries: entries.len() as u64, limit: table.limit(), half_open })
        };
        Ok([of(A::CONNTRACK, &self.conntrack, TRANSIENT_FLOWS_MAX)?, of(A::NAT, &self.nat, TRANSIENT_NAT_MAX)?])
    }

    fn delete_stale(&self, changed: &Changed<A>) -> Result<usize> {
        if changed.is_empty() {
            return Ok(0);
        }
        Ok(delete_stale(&self.conntrack, changed)? + delete_stale(&self.nat, changed)?)
    }
}

fn delete_stale<A: Family>(table: &FlowTable<A>, changed: &Changed<A>) -> Result<usize> {
    let mut stale = 0;
    for (key, flow) in table.entries()? {
        let request = matches!(key.direction, Direction::SERVICE | Direction::OUT)
            && matches!(key.proto, proto::UDP | proto::SCTP);
        let gone = |backends: &HashSet<_>| !backends.contains(&(flow.to.dst, flow.to.ports.dst));
        if request && changed.get(&flow.service).is_some_and(gone) {
            stale += 1;
            table.remove(&key)?;
            if let Some(answer) = key.partner(&flow) {
                table.remove(&answer)?;
            }
        }
    }
    Ok(stale)
}

/// Each flow once, by the entry of its requests: that has the place.
fn half_open<A: Address>(entries: &[(FlowKey<A>, Flow<A>)]) -> u64 {
    let requests = [Direction::SERVICE, Direction::OUT, Direction::INBOUND];
    let half_open = entries.iter().filter(|(key, flow)| requests.contains(&key.direction) && flow.state.is_half_open());
    half_open.count() as u64
}

/// How long an idle flow stays: as Linux's own conntrack does
/// (`nf_conntrack_tcp_timeout_*`, `nf_conntrack_udp_timeout*`, `nf_conntrack_sctp_timeout_established`), but TCP half as
/// long as a day.
fn lifetime(proto: u8, state: FlowState) -> Duration {
    Duration::from_secs(match (proto, state) {
        (proto::TCP, FlowState::CLOSING) => 60,
        (proto::TCP | proto::SCTP, FlowState::RESET) => RESET_NS / 1_000_000_000,
        (proto::TCP, FlowState::OPEN) => 12 * 3600,
        (proto::TCP, _) => 120,
        (proto::UDP, FlowState::OPEN) => 180,
        // Six heartbeats (RFC 9260 section 16) and a half.
        (proto::SCTP, FlowState::OPEN) => 210,
        _ => 60,
    })
}

/// The keys of idle flows. Both entries of a flow go together, and only when both are idle: a stream of answers keeps
/// its request's entry, without which the next request would open another flow.
fn idle<A: Address>(flows: &HashMap<FlowKey<A>, Flow<A>>, now_ns: u64) -> Vec<FlowKey<A>> {
    let idle = |flow: &Flow<A>, lifetime: Duration| now_ns.saturating_sub(flow.seen_ns) > lifetime.as_nanos() as u64;
    let both = |(key, flow): &(&FlowKey<A>, &Flow<A>)| {
        let own = lifetime(key.proto, flow.state);
        let Some(partner) = key.partner(flow).and_then(|partner| flows.get(&partner)) else { return idle(flow, own) };
        let other = lifetime(key.proto, partner.state);
        // A reset is the end of both.
        let reset = [flow, partner].iter().any(|flow| flow.state == FlowState::RESET);
        let most = if reset { lifetime(key.proto, FlowState::RESET) } else { Duration::MAX };
        idle(flow, own.min(most)) && idle(partner, other.min(most))
    };
    flows.iter().filter(both).map(|(key, _)| *key).collect()
}

fn collect<A: Family>(table: &FlowTable<A>, now_ns: u64) -> Result<usize> {
    let flows: HashMap<_, _> = table.entries()?.into_iter().collect();
    let mut collected = 0;
    for key in idle(&flows, now_ns) {
        // Looked at again just before it goes: it may have been used since the map was read.
        let unused = table.get(&key)?.is_some_and(|flow| Some(&flow) == flows.get(&key));
        if unused && table.remove(&key)? {
            collected += 1;
        }
    }
    Ok(collected)
}

#[cfg(test)]
mod tests;
