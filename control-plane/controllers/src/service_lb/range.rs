//! Ranges of addresses that load balancers may have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// A range of addresses of one family, both ends in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of addresses: write 192.0.2.0/24 or 192.0.2.10-192.0.2.20")]
pub struct InvalidRange(String);

impl AddressRange {
    fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// How many addresses.
    pub fn total(&self) -> i64 {
        i64::try_from(bits(self.last) - bits(self.first)).unwrap_or(i64::MAX).saturating_add(1)
    }

    /// Is there an address in both?
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.first <= other.last && other.first <= self.last
    }

    pub fn overlaps_network(&self, network: IpNet) -> bool {
        self.overlaps(&Self { first: network.network(), last: network.broadcast() })
    }

    pub fn contains(&self, addr: IpAddr) -> bool {
        self.is_ipv4() == addr.is_ipv4() && self.first <= addr && addr <= self.last
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let ipv4 = self.is_ipv4();
        (bits(self.first)..=bits(self.last)).map(move |bits| address(bits, ipv4))
    }
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

fn address(bits: u128, ipv4: bool) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if ipv4 => Ipv4Addr::from_bits(bits).into(),
        _ => Ipv6Addr::from_bits(bits).into(),
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for AddressRange {
    type Err = InvalidRange;

    /// A network gives its hosts' addresses: of IPv4 without its own and its broadcast address, of IPv6 without that of
    /// its routers (RFC 4291 section 2.6.1).
    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let invalid = || InvalidRange(text.to_owned());
        if let Some((first, last)) = text.split_once('-') {
            let [first, last] = [first, last].map(|text| text.trim().parse().map_err(|_| invalid()));
            return Self::new(first?, last?).ok_or_else(invalid);
        }
        let network: IpNet = text.trim().parse().map_err(|_| invalid())?;
        let ipv4 = network.addr().is_ipv4();
        let (mut first, mut last) = (bits(network.network()), bits(network.broadcast()));
        if network.max_prefix_len() - network.prefix_len() > 1 {
            first += 1;
            last -= u128::from(ipv4);
        }
        Self::new(address(first, ipv4), address(last, ipv4)).ok_or_else(invalid)
    }
}
