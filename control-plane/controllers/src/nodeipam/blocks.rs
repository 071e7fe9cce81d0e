//! Equal blocks of one network.

use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// As upstream: more blocks of one IPv6 network cannot be kept account of.
const IPV6_INDEX_BITS_MAX: u8 = 16;

pub struct Blocks {
    network: IpNet,
    prefix: u8,
}

impl Blocks {
    /// `None` if the network is smaller than one block, or an IPv6 network larger than 65536 of them.
    #[must_use]
    pub fn new(network: IpNet, prefix: u8) -> Option<Self> {
        let index_bits = prefix.checked_sub(network.prefix_len())?;
        // A block has room for its own address, the gateway and a pod.
        let is_usable = prefix + 2 <= network.max_prefix_len();
        let is_countable = network.addr().is_ipv4() || index_bits <= IPV6_INDEX_BITS_MAX;
        (is_usable && is_countable).then(|| Self { network: network.trunc(), prefix })
    }

    /// `taken` of the other family takes nothing.
    pub fn first_free<'a>(&self, taken: impl Iterator<Item = &'a IpNet>) -> Option<IpNet> {
        let mut used = BTreeSet::new();
        for block in taken {
            used.extend(self.indexes(block));
        }
        let count = 1u64 << (self.prefix - self.network.prefix_len());
        let free = (0..count).find(|index| !used.contains(index))?;
        let address = bits(self.network).0 + (u128::from(free) << self.host_bits());
        let address = match self.network {
            IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(address).ok()?).into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(address).into(),
        };
        IpNet::new(address, self.prefix).ok()
    }

    /// The blocks that a network covers, wholly or in part.
    fn indexes(&self, taken: &IpNet) -> std::ops::Range<u64> {
        let ((base, end), (first, last)) = (bits(self.network), bits(*taken));
        if taken.addr().is_ipv4() != self.network.addr().is_ipv4() || last < base || first > end {
            return 0..0;
        }
        let index =
            |address: u128| u64::try_from((address.clamp(base, end) - base) >> self.host_bits()).unwrap_or(u64::MAX);
        index(first)..index(last) + 1
    }

    fn host_bits(&self) -> u8 {
        self.network.max_prefix_len() - self.prefix
    }
}

/// The first and the last address.
fn bits(net: IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(net) => (net.network().to_bits().into(), net.broadcast().to_bits().into()),
        IpNet::V6(net) => (net.network().to_bits(), net.broadcast().to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, prefix: u8, taken: &[&str], expected: Option<&str>) {
        let blocks = Blocks::new(network.parse().expect("network"), prefix).expect("fits");
        let taken: Vec<IpNet> = taken.iter().map(|t| t.parse().expect("taken")).collect();
        let free = blocks.first_free(taken.iter()).map(|b| b.to_string());
        assert_eq!(free.as_deref(), expected, "{network} without {taken:?}");
    }

    #[test]
    fn the_lowest_free_block_is_given() {
        check("10.244.0.0/16", 24, &[], Some("10.244.0.0/24"));
        check("10.244.0.0/16", 24, &["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24"));
        check("10.244.0.0/16", 24, &["10.244.0.0/23"], Some("10.244.2.0/24"));
        check("10.244.0.0/16", 24, &["10.244.0.128/25"], Some("10.244.1.0/24"));
        check("10.244.0.0/16", 24, &["192.168.0.0/24"], Some("10.244.0.0/24"));
        check("10.244.0.0/23", 24, &["10.244.0.0/24", "10.244.1.0/24"], None);
    }

    #[test]
    fn ipv6_blocks_are_counted_alike() {
        check("fd00:10:244::/48", 64, &[], Some("fd00:10:244::/64"));
        check("fd00:10:244::/48", 64, &["fd00:10:244::/64", "10.244.0.0/24"], Some("fd00:10:244:1::/64"));
        check("fd00:10:244::/56", 64, &["fd00:10:244::/57"], Some("fd00:10:244:80::/64"));
        check("fd00:10:244::/56", 64, &["fd00:10:244::/56"], None);
        check("fd00:10:244::/112", 120, &["fd00:10:244::40/122"], Some("fd00:10:244::100/120"));
    }

    #[test]
    fn a_network_that_holds_no_block_or_too_many_is_refused() {
        let check = |network: &str, prefix| assert!(Blocks::new(network.parse().expect("network"), prefix).is_none());
        check("10.0.0.0/25", 24);
        check("10.0.0.0/24", 31);
        check("fd00::/47", 64);
        check("fd00::/120", 127);
    }
}
