//! Addresses that load balancers may have.

use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;

/// A range of addresses, both ends in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AddressPool {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pool of addresses: write 192.0.2.0/24 or 192.0.2.10-192.0.2.20")]
pub struct InvalidPool(String);

impl AddressPool {
    pub fn contains(&self, addr: Ipv4Addr) -> bool {
        self.first <= addr && addr <= self.last
    }

    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (self.first.to_bits()..=self.last.to_bits()).map(Ipv4Addr::from_bits)
    }
}

impl FromStr for AddressPool {
    type Err = InvalidPool;

    /// A network gives its hosts' addresses, without its own and its broadcast address.
    fn from_str(text: &str) -> Result<Self, InvalidPool> {
        let invalid = || InvalidPool(text.to_owned());
        if let Some((first, last)) = text.split_once('-') {
            let pool = Self {
                first: first.trim().parse().map_err(|_| invalid())?,
                last: last.trim().parse().map_err(|_| invalid())?,
            };
            return if pool.first <= pool.last { Ok(pool) } else { Err(invalid()) };
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
