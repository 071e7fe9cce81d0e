//! Ranges that hand out numbers: cluster addresses and node ports.
//!
//! As upstream (KEP-3070), a low band is left to those who ask for a number and the rest is handed out first, so that fixed addresses
//! seldom collide with chosen ones. Randomness comes in from outside.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;

/// Why a number cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    Full,
    NotInRange,
    Allocated,
}

/// Numbers `0..size`, of which those below `reserved` are handed out last.
#[derive(Clone, Debug)]
struct Range {
    size: u32,
    reserved: u32,
    taken: BTreeSet<u32>,
}

impl Range {
    fn new(size: u32, reserved: u32) -> Self {
        Self { size, reserved: if reserved < size { reserved } else { 0 }, taken: BTreeSet::new() }
    }

    fn take(&mut self, number: u32) -> Result<(), Refused> {
        match number {
            _ if number >= self.size => Err(Refused::NotInRange),
            _ if !self.taken.insert(number) => Err(Refused::Allocated),
            _ => Ok(()),
        }
    }

    fn take_any(&mut self, random: u64) -> Result<u32, Refused> {
        let free = |low, high| self.free_from(low, high, random);
        let number = free(self.reserved, self.size).or_else(|| free(0, self.reserved)).ok_or(Refused::Full)?;
        self.taken.insert(number);
        Ok(number)
    }

    /// The first free number of `low..high` at or after a random one, then around.
    fn free_from(&self, low: u32, high: u32, random: u64) -> Option<u32> {
        let span = u64::from(high.checked_sub(low).filter(|span| *span > 0)?);
        let start = low + u32::try_from(random % span).unwrap_or(0);
        (start..high).chain(low..start).find(|number| !self.taken.contains(number))
    }
}

/// The addresses of a service network, without the network's own and the broadcast address.
#[derive(Clone, Debug)]
pub struct Ipv4Range {
    net: Ipv4Net,
    range: Range,
}

impl Ipv4Range {
    pub fn new(net: Ipv4Net) -> Self {
        let addresses = 1_u64 << (32 - net.prefix_len());
        let size = u32::try_from(addresses.saturating_sub(2)).unwrap_or(u32::MAX);
        // `calculateRangeOffset`: a sixteenth, at least 16 and at most 256.
        let reserved = if size <= 16 { 0 } else { (size / 16).clamp(16, 256) };
        Self { net, range: Range::new(size, reserved) }
    }

    pub fn net(&self) -> Ipv4Net {
        self.net
    }

    pub fn allocate(&mut self, ip: Ipv4Addr) -> Result<(), Refused> {
        let number = self.number(ip).ok_or(Refused::NotInRange)?;
        self.range.take(number)
    }

    pub fn allocate_next(&mut self, random: u64) -> Result<Ipv4Addr, Refused> {
        let number = self.range.take_any(random)?;
        Ok(Ipv4Addr::from(u32::from(self.net.network()) + 1 + number))
    }

    pub fn release(&mut self, ip: Ipv4Addr) {
        if let Some(number) = self.number(ip) {
            self.range.taken.remove(&number);
        }
    }

    pub fn has(&self, ip: Ipv4Addr) -> bool {
        self.number(ip).is_some_and(|number| self.range.taken.contains(&number))
    }

    fn number(&self, ip: Ipv4Addr) -> Option<u32> {
        u32::from(ip).checked_sub(u32::from(self.net.network()).checked_add(1)?)
    }
}

/// Ports that every node opens for a service.
#[derive(Clone, Debug)]
pub struct NodePorts {
    ports: RangeInclusive<u16>,
    range: Range,
}

impl NodePorts {
    pub fn new(ports: RangeInclusive<u16>) -> Self {
        let size = u32::from(*ports.end()) + 1 - u32::from(*ports.start());
        // `calculateRangeOffset` of ports: a thirty-second, at least 16 and at most 128.
        let reserved = if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
        Self { ports, range: Range::new(size, reserved) }
    }

    pub fn ports(&self) -> &RangeInclusive<u16> {
        &self.ports
    }

    pub fn allocate(&mut self, port: i64) -> Result<(), Refused> {
        let number = u32::try_from(port - i64::from(*self.ports.start())).map_err(|_| Refused::NotInRange)?;
        self.range.take(number)
    }

    pub fn allocate_next(&mut self, random: u64) -> Result<i64, Refused> {
        Ok(i64::from(self.range.take_any(random)?) + i64::from(*self.ports.start()))
    }

    pub fn release(&mut self, port: i64) {
        if let Ok(number) = u32::try_from(port - i64::from(*self.ports.start())) {
            self.range.taken.remove(&number);
        }
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

    fn range(net: &str) -> Ipv4Range {
        Ipv4Range::new(net.parse().expect("a test's network is valid"))
    }

    #[track_caller]
    fn check_next(net: &str, random: u64, expected: &str) {
        let ip = range(net).allocate_next(random).expect("an empty range has a free address");
        assert_eq!(ip.to_string(), expected);
    }

    #[test]
    fn the_low_band_is_left_to_those_who_ask() {
        check_next("10.96.0.0/12", 0, "10.96.1.1");
        check_next("10.96.0.0/24", 0, "10.96.0.17");
        check_next("10.96.0.0/24", 237, "10.96.0.254");
        check_next("10.96.0.0/24", 238, "10.96.0.17");
        check_next("10.96.0.0/29", 0, "10.96.0.1");
    }

    #[test]
    fn an_address_is_had_once() {
        let mut range = range("10.96.0.0/24");
        let ip = Ipv4Addr::new(10, 96, 0, 1);
        assert_eq!(range.allocate(ip), Ok(()));
        assert_eq!(range.allocate(ip), Err(Refused::Allocated));
        range.release(ip);
        assert_eq!(range.allocate(ip), Ok(()));
        for outside in ["10.96.0.0", "10.96.0.255", "10.97.0.1", "9.0.0.1"] {
            assert_eq!(range.allocate(outside.parse().expect("an address")), Err(Refused::NotInRange), "{outside}");
        }
    }

    #[test]
    fn a_full_range_falls_back_to_the_low_band_and_then_says_so() {
        let mut range = range("10.96.0.0/26");
        let all: BTreeSet<_> = (0..62).map(|n| range.allocate_next(n * 7).expect("62 addresses")).collect();
        assert_eq!(all.len(), 62);
        assert_eq!(range.allocate_next(3), Err(Refused::Full));
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
