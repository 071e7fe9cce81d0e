//! Ranges of addresses that load balancers may have.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// A range of addresses, both ends in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AddressRange {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of addresses: write 192.0.2.0/24 or 192.0.2.10-192.0.2.20")]
pub struct InvalidRange(String);

impl AddressRange {
    /// How many addresses.
    pub fn total(&self) -> i64 {
        i64::from(self.last.to_bits() - self.first.to_bits()) + 1
    }

    /// Is there an address in both?
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    pub fn overlaps_network(&self, network: IpNet) -> bool {
        let IpNet::V4(network) = network else { return false };
        self.overlaps(&Self { first: network.network(), last: network.broadcast() })
    }

    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        self.first <= addr && addr <= self.last
    }

    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (self.first.to_bits()..=self.last.to_bits()).map(Ipv4Addr::from_bits)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for AddressRange {
    type Err = InvalidRange;

    /// A network gives its hosts' addresses, without its own and its broadcast address.
    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let invalid = || InvalidRange(text.to_owned());
        if let Some((first, last)) = text.split_once('-') {
            let [first, last] = [first, last].map(|text| text.trim().parse().map_err(|_| invalid()));
            let range = Self { first: first?, last: last? };
            return if range.first <= range.last { Ok(range) } else { Err(invalid()) };
        }
        let network: Ipv4Net = text.trim().parse().map_err(|_| invalid())?;
        let (mut first, mut last) = (network.network(), network.broadcast());
        if network.prefix_len() < 31 {
            first = Ipv4Addr::from_bits(first.to_bits() + 1);
            last = Ipv4Addr::from_bits(last.to_bits() - 1);
        }
        Ok(Self { first, last })
    }
}
