//! What connections to services take, as the socket hooks saw it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use xebec_abi::{
    Addr4, Addr6, FrontendEntry, FrontendKey, ServiceId,
    latency::{BUCKETS, Latency, LatencyKey},
    lb::{frontend_flag, scope},
    names,
};

use crate::{Datapath, Result, canary::is_canary, config, family::Family, table::Table};

/// Counts by powers of two of a microsecond: bucket `i` is from 2^i to 2^(i+1) µs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Histogram {
    pub buckets: [u64; BUCKETS],
    pub sum: Duration,
}

impl Histogram {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper end of the bucket that holds the quantile; `None` of nothing.
    pub fn quantile(&self, fraction: f64) -> Option<Duration> {
        let rank = (self.count() as f64 * fraction).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(upper(found))
    }

    fn of(buckets: &[u32; BUCKETS], sum_us: u64) -> Self {
        Self { buckets: buckets.map(u64::from), sum: Duration::from_micros(sum_us) }
    }

    fn join(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }
}

/// Where a bucket ends.
pub fn upper(bucket: usize) -> Duration {
    Duration::from_micros(1 << (bucket + 1))
}

/// Connections to one backend, or to all of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Observed {
    /// From connect() to the handshake's end; its count is that of connections.
    pub connect: Histogram,
    /// The smoothed round-trip time of connections that have closed.
    pub rtt: Histogram,
    /// Segments sent again.
    pub retransmits: u64,
}

impl Observed {
    pub fn join(&mut self, other: &Self) {
        self.connect.join(&other.connect);
        self.rtt.join(&other.rtt);
        self.retransmits += other.retransmits;
    }

    fn of(latency: &Latency) -> Self {
        Self {
            connect: Histogram::of(&latency.connect, latency.connect_us),
            rtt: Histogram::of(&latency.rtt, latency.rtt_us),
            retransmits: latency.retransmits,
        }
    }
}

/// A service by the address that clients in the cluster dial, and its backends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceLatency {
    pub frontend: SocketAddr,
    pub backends: BTreeMap<SocketAddr, Observed>,
}

impl ServiceLatency {
    /// All backends together.
    pub fn total(&self) -> Observed {
        let mut total = Observed::default();
        self.backends.values().for_each(|observed| total.join(observed));
        total
    }
}

impl Datapath {
    /// Services that were connected to by TCP, by their clusterIP.
    pub fn latencies(&self) -> Result<Vec<ServiceLatency>> {
        self.latencies.by_service(&self.directory)
    }
}

/// [`Datapath::latencies`] of a node's pinned maps, for a process that is not its agent; empty where there are none.
pub fn latencies(bpffs: &Path, node: &str) -> Result<Vec<ServiceLatency>> {
    let directory = config::version_directory(bpffs, node);
    if names::LATENCIES.iter().any(|name| !directory.join(name).exists()) {
        return Ok(Vec::new());
    }
    Latencies::open(|map| directory.join(map))?.by_service(&directory)
}

/// Of both families.
#[derive(Debug)]
pub(crate) struct Latencies {
    ipv4: OfFamily<Addr4>,
    ipv6: OfFamily<Addr6>,
}

type OfFamily<A> = Table<LatencyKey<A>, Latency>;

impl Latencies {
    /// Of the maps at these paths.
    pub fn open(pin: impl Fn(&'static str) -> PathBuf) -> Result<Self> {
        let (ipv4, ipv6) = (Addr4::LATENCIES, Addr6::LATENCIES);
        Ok(Self { ipv4: Table::open_at(&pin(ipv4), ipv4)?, ipv6: Table::open_at(&pin(ipv6), ipv6)? })
    }

    /// Forgets other services.
    pub fn retain(&self, knows: impl Fn(ServiceId) -> bool) -> Result<()> {
        retain(&self.ipv4, &knows)?;
        retain(&self.ipv6, &knows)
    }

    fn by_service(&self, directory: &Path) -> Result<Vec<ServiceLatency>> {
        let mut services = by_service(&self.ipv4, directory)?;
        services.extend(by_service(&self.ipv6, directory)?);
        services.sort_by_key(|service| service.frontend);
        Ok(services)
    }
}

fn retain<A: Family>(table: &OfFamily<A>, knows: impl Fn(ServiceId) -> bool) -> Result<()> {
    let keys = table.entries()?.into_iter().map(|(key, _)| key);
    table.remove_all(&keys.filter(|key| !knows(key.service)).collect::<Vec<_>>())
}

fn by_service<A: Family>(table: &OfFamily<A>, directory: &Path) -> Result<Vec<ServiceLatency>> {
    let entries = table.entries()?;
    let wanted: HashSet<ServiceId> = entries.iter().map(|(key, _)| key.service).collect();
    let mut services: HashMap<ServiceId, ServiceLatency> = frontends::<A>(directory, &wanted)?
        .into_iter()
        .map(|(id, frontend)| (id, ServiceLatency { frontend, backends: BTreeMap::new() }))
        .collect();
    for (key, latency) in entries {
        // A service that went away meanwhile, or the canary.
        let Some(service) = services.get_mut(&key.service) else { continue };
        service.backends.insert(SocketAddr::new(key.addr.ip(), key.port.get()), Observed::of(&latency));
    }
    Ok(services.into_values().collect())
}

/// The clusterIP of each service, or else the least of its addresses.
fn frontends<A: Family>(directory: &Path, wanted: &HashSet<ServiceId>) -> Result<HashMap<ServiceId, SocketAddr>> {
    const OTHER: u16 =
        frontend_flag::NODE_PORT | frontend_flag::LOAD_BALANCER | frontend_flag::EXTERNAL_IP | frontend_flag::HOST_PORT;
    let mut frontends = HashMap::new();
    let table: Table<FrontendKey<A>, FrontendEntry<A>> = Table::open(directory, A::FRONTENDS)?;
    for (key, FrontendEntry { value, .. }) in table.entries()? {
        let addr = key.addr.ip();
        if key.scope == scope::INTERNAL && wanted.contains(&value.service) && !is_canary(addr) {
            let rank = (value.flags & OTHER != 0, SocketAddr::new(addr, key.port.get()));
            let best = frontends.entry(value.service).or_insert(rank);
            *best = rank.min(*best);
        }
    }
    Ok(frontends.into_iter().map(|(id, (_, frontend))| (id, frontend)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(buckets: &[(usize, u64)], fraction: f64, expected_us: Option<u64>) {
        let mut histogram = Histogram::default();
        buckets.iter().for_each(|(bucket, count)| histogram.buckets[*bucket] = *count);
        assert_eq!(histogram.quantile(fraction), expected_us.map(Duration::from_micros), "{buckets:?} at {fraction}");
    }

    #[test]
    fn a_quantile_is_the_end_of_the_bucket_that_holds_it() {
        check(&[], 0.5, None);
        check(&[(3, 1)], 0.5, Some(16));
        check(&[(0, 99), (10, 1)], 0.99, Some(2));
        check(&[(0, 98), (10, 2)], 0.99, Some(2048));
        check(&[(0, 98), (10, 2)], 0.0, Some(2));
    }

    #[test]
    fn backends_add_up() {
        let mut latency = Latency { connect_us: 7, retransmits: 2, ..Latency::default() };
        latency.connect[2] = 1;
        let mut observed = Observed::of(&latency);
        observed.join(&observed.clone());
        let connect = observed.connect;
        assert_eq!((connect.buckets[2], connect.sum, observed.retransmits), (2, Duration::from_micros(14), 4));
    }
}
