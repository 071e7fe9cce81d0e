//! Ranges that hand out numbers: cluster addresses and node ports.
//!
//! As upstream (KEP-3070), a low band is left to those who ask for a number and the rest is handed out first, so that fixed addresses
//! seldom collide with chosen ones. Randomness comes in from outside.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use xebec_machinery::net::{self, IpFamily};

/// Why a number cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    Full,
    NotInRange,
    Allocated,
}

/// Numbers `0..size`, of which those below `reserved` are handed out last.
#[derive(Clone, Copy, Debug)]
struct Band {
    size: u64,
    reserved: u64,
}

impl Band {
    /// `calculateRangeOffset`: a small range has no low band.
    fn new(size: u64, part: u64, reserved_max: u64) -> Self {
        let reserved = if size <= 16 { 0 } else { (size / part).clamp(16, reserved_max) };
        Self { size, reserved: if reserved < size { reserved } else { 0 } }
    }

    fn pick(self, random: u64, is_taken: impl Fn(u64) -> bool) -> Option<u64> {
        let free = |low, high| first_free(low, high, random, &is_taken);
        free(self.reserved, self.size).or_else(|| free(0, self.reserved))
    }
}

/// The first free number of `low..high` at or after a random one, then around.
fn first_free(low: u64, high: u64, random: u64, is_taken: impl Fn(u64) -> bool) -> Option<u64> {
    let span = high.checked_sub(low).filter(|span| *span > 0)?;
    let start = low + random % span;
    (start..high).chain(low..start).find(|number| !is_taken(*number))
}

/// The addresses of a service network, without the network's own and, of IPv4, the broadcast address.
#[derive(Clone, Copy, Debug)]
struct IpRange {
    net: IpNet,
    band: Band,
}

impl IpRange {
    fn new(net: IpNet) -> Self {
        let host_bits = u32::from(net.max_prefix_len() - net.prefix_len());
        let addresses = 1_u64.checked_shl(host_bits).unwrap_or(u64::MAX);
        let left_out = if net.network().is_ipv4() { 2 } else { 1 };
        // A sixteenth, at least 16 and at most 256.
        Self { net: net.trunc(), band: Band::new(addresses.saturating_sub(left_out), 16, 256) }
    }

    fn pick(&self, random: u64, is_taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        self.band.pick(random, |number| is_taken(self.ip(number))).map(|number| self.ip(number))
    }

    fn ip(&self, number: u64) -> IpAddr {
        net::address(self.net, number.saturating_add(1))
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let offset = match (self.net, ip) {
            (IpNet::V4(net), IpAddr::V4(ip)) => ip.to_bits().checked_sub(net.network().to_bits()).map(u128::from),
            (IpNet::V6(net), IpAddr::V6(ip)) => ip.to_bits().checked_sub(net.network().to_bits()),
            _ => None,
        };
        offset.is_some_and(|offset| (1..=u128::from(self.band.size)).contains(&offset))
    }
}

/// The cluster's service addresses, of one family or both.
#[derive(Clone, Debug)]
pub struct ClusterIps {
    families: Vec<IpFamily>,
    ranges: Vec<IpRange>,
    taken: BTreeSet<IpAddr>,
}

impl ClusterIps {
    /// `nets` are those of the cluster's configuration: one of each family that Services may have, the primary first.
    pub fn new(nets: &[IpNet]) -> Self {
        let families = nets.iter().map(|net| IpFamily::of_net(*net)).collect();
        let mut ips = Self { families, ranges: Vec::new(), taken: BTreeSet::new() };
        ips.set_ranges(nets);
        ips
    }

    /// What Services may have, the primary family first.
    pub fn families(&self) -> &[IpFamily] {
        &self.families
    }

    pub fn primary(&self) -> IpFamily {
        self.families.first().copied().unwrap_or(IpFamily::Ipv4)
    }

    /// Hands out addresses of these networks from here on; what was handed out stays taken.
    pub fn set_ranges(&mut self, nets: &[IpNet]) {
        self.ranges = nets.iter().map(|net| IpRange::new(*net)).collect();
    }

    /// The networks of a family, as messages name them.
    pub fn range_text(&self, family: IpFamily) -> String {
        self.of(family).map(|range| range.net.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Whether an address is of a network in use.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(ip))
    }

    pub fn allocate(&mut self, ip: IpAddr) -> Result<(), Refused> {
        match self.contains(ip) {
            false => Err(Refused::NotInRange),
            true if !self.taken.insert(ip) => Err(Refused::Allocated),
            true => Ok(()),
        }
    }

    pub fn allocate_next(&mut self, family: IpFamily, random: u64) -> Result<IpAddr, Refused> {
        let ip = self.of(family).find_map(|range| range.pick(random, |ip| self.taken.contains(&ip)));
        let ip = ip.ok_or(Refused::Full)?;
        self.taken.insert(ip);
        Ok(ip)
    }

    /// Takes an address that a Service has, also one of a network that is not in use any more.
    pub fn mark(&mut self, ip: IpAddr) -> Result<(), Refused> {
        let outcome = self.allocate(ip);
        self.taken.insert(ip);
        outcome
    }

    pub fn release(&mut self, ip: IpAddr) {
        self.taken.remove(&ip);
    }

    /// Frees every address that is not to be kept.
    pub fn retain(&mut self, keep: impl Fn(IpAddr) -> bool) {
        self.taken.retain(|ip| keep(*ip));
    }

    fn of(&self, family: IpFamily) -> impl Iterator<Item = &IpRange> {
        self.ranges.iter().filter(move |range| IpFamily::of_net(range.net) == family)
    }
}

/// Ports that every node opens for a service.
#[derive(Clone, Debug)]
pub struct NodePorts {
    ports: RangeInclusive<u16>,
    taken: BTreeSet<u16>,
}

impl NodePorts {
    pub fn new(ports: RangeInclusive<u16>) -> Self {
        Self { ports, taken: BTreeSet::new() }
    }

    pub fn ports(&self) -> &RangeInclusive<u16> {
        &self.ports
    }

    pub fn allocate(&mut self, port: i64) -> Result<(), Refused> {
        match u16::try_from(port).ok().filter(|port| self.ports.contains(port)) {
            None => Err(Refused::NotInRange),
            Some(port) if !self.taken.insert(port) => Err(Refused::Allocated),
            Some(_) => Ok(()),
        }
    }

    pub fn allocate_next(&mut self, random: u64) -> Result<i64, Refused> {
        let first = *self.ports.start();
        let size = (u64::from(*self.ports.end()) + 1).saturating_sub(u64::from(first));
        let port = |number: u64| u16::try_from(number).unwrap_or(u16::MAX).saturating_add(first);
        // A thirty-second, at least 16 and at most 128.
        let number = Band::new(size, 32, 128).pick(random, |number| self.taken.contains(&port(number)));
        let port = port(number.ok_or(Refused::Full)?);
        self.taken.insert(port);
        Ok(port.into())
    }

    pub fn release(&mut self, port: i64) {
        if let Ok(port) = u16::try_from(port) {
            self.taken.remove(&port);
        }
    }

    /// Frees every port that is not to be kept.
    pub fn retain(&mut self, keep: impl Fn(i64) -> bool) {
        self.taken.retain(|port| keep((*port).into()));
    }
}

impl Default for NodePorts {
    fn default() -> Self {
        Self::new(30_000..=32_767)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(nets: &[&str]) -> ClusterIps {
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().expect("a test's network is valid")).collect();
        ClusterIps::new(&nets)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("a test's address is valid")
    }

    #[track_caller]
    fn check_next(net: &str, random: u64, expected: &str) {
        let mut ips = ips(&[net]);
        let next = ips.allocate_next(ips.primary(), random).expect("an empty range has a free address");
        assert_eq!(next.to_string(), expected);
    }

    #[test]
    fn the_low_band_is_left_to_those_who_ask() {
        check_next("10.96.0.0/12", 0, "10.96.1.1");
        check_next("10.96.0.0/24", 0, "10.96.0.17");
        check_next("10.96.0.0/24", 237, "10.96.0.254");
        check_next("10.96.0.0/24", 238, "10.96.0.17");
        check_next("10.96.0.0/29", 0, "10.96.0.1");
        check_next("fd00:10:96::/112", 0, "fd00:10:96::101");
        check_next("fd00:10:96::/112", 65_535 - 256 - 1, "fd00:10:96::ffff");
        check_next("fd00::/48", 0, "fd00::101");
    }

    #[test]
    fn an_address_is_had_once() {
        let mut ips = ips(&["10.96.0.0/24", "fd00:96::/120"]);
        for address in ["10.96.0.1", "fd00:96::1", "fd00:96::ff"] {
            assert_eq!(ips.allocate(ip(address)), Ok(()), "{address}");
            assert_eq!(ips.allocate(ip(address)), Err(Refused::Allocated), "{address}");
            ips.release(ip(address));
            assert_eq!(ips.allocate(ip(address)), Ok(()), "{address}");
        }
        for outside in ["10.96.0.0", "10.96.0.255", "10.97.0.1", "9.0.0.1", "fd00:96::", "fd00:96::100", "::1"] {
            assert_eq!(ips.allocate(ip(outside)), Err(Refused::NotInRange), "{outside}");
        }
    }

    #[test]
    fn a_full_range_falls_back_to_the_low_band_and_then_says_so() {
        let mut ips = ips(&["10.96.0.0/26"]);
        let all: BTreeSet<_> =
            (0..62).map(|n| ips.allocate_next(IpFamily::Ipv4, n * 7).expect("62 addresses")).collect();
        assert_eq!(all.len(), 62);
        assert_eq!(ips.allocate_next(IpFamily::Ipv4, 3), Err(Refused::Full));
        ips.set_ranges(&["10.96.0.0/26", "10.98.0.0/28"].map(|net| net.parse().expect("a network")));
        assert_eq!(ips.allocate_next(IpFamily::Ipv4, 0), Ok(ip("10.98.0.1")));
    }

    #[test]
    fn what_is_taken_stays_taken_when_its_range_goes_and_comes_back() {
        let mut ips = ips(&["10.96.0.0/24"]);
        assert_eq!(ips.mark(ip("10.98.0.1")), Err(Refused::NotInRange));
        ips.set_ranges(&["10.98.0.0/28".parse().expect("a network")]);
        assert_eq!(ips.allocate(ip("10.98.0.1")), Err(Refused::Allocated));
        assert_eq!(ips.allocate_next(IpFamily::Ipv4, 0), Ok(ip("10.98.0.2")));
    }

    #[test]
    fn node_ports_stay_in_their_range() {
        let mut ports = NodePorts::default();
        assert_eq!(ports.allocate_next(0), Ok(30_086));
        assert_eq!(ports.allocate(80), Err(Refused::NotInRange));
        assert_eq!(ports.allocate(32_768), Err(Refused::NotInRange));
        assert_eq!(ports.allocate(30_000), Ok(()));
        assert_eq!(ports.allocate(30_000), Err(Refused::Allocated));
    }
}
