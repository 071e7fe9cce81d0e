//! Equal blocks of one network.

use ipnet::Ipv4Net;
use std::collections::BTreeSet;

pub struct Blocks {
    network: Ipv4Net,
    prefix: u8,
}

impl Blocks {
    /// `None` if the network is smaller than one block.
    #[must_use]
    pub fn new(network: Ipv4Net, prefix: u8) -> Option<Self> {
        let fits = network.prefix_len() <= prefix && prefix <= 30;
        fits.then(|| Self { network: network.trunc(), prefix })
    }

    pub fn first_free<'a>(&self, taken: impl Iterator<Item = &'a Ipv4Net>) -> Option<Ipv4Net> {
        let mut used = BTreeSet::new();
        for block in taken {
            used.extend(self.indexes(block));
        }
        let count = 1u64 << (self.prefix - self.network.prefix_len());
        let free = (0..count).find(|index| !used.contains(index))?;
        let offset = u32::try_from(free << (32 - self.prefix)).ok()?;
        let address = u32::from(self.network.addr()).checked_add(offset)?;
        Ipv4Net::new(address.into(), self.prefix).ok()
    }

    /// The blocks that a network covers, wholly or in part.
    fn indexes(&self, taken: &Ipv4Net) -> std::ops::Range<u64> {
        let base = u64::from(u32::from(self.network.addr()));
        let end = u64::from(u32::from(self.network.broadcast()));
        let first = u64::from(u32::from(taken.network()));
        let last = u64::from(u32::from(taken.broadcast()));
        if last < base || first > end {
            return 0..0;
        }
        let shift = 32 - self.prefix;
        let index = |address: u64| (address.clamp(base, end) - base) >> shift;
        index(first)..index(last) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, taken: &[&str], expected: Option<&str>) {
        let blocks = Blocks::new(network.parse().expect("network"), 24).expect("fits");
        let taken: Vec<Ipv4Net> = taken.iter().map(|t| t.parse().expect("taken")).collect();
        let free = blocks.first_free(taken.iter()).map(|b| b.to_string());
        assert_eq!(free.as_deref(), expected, "{network} without {taken:?}");
    }

    #[test]
    fn the_lowest_free_block_is_given() {
        check("10.244.0.0/16", &[], Some("10.244.0.0/24"));
        check("10.244.0.0/16", &["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24"));
        check("10.244.0.0/16", &["10.244.0.0/23"], Some("10.244.2.0/24"));
        check("10.244.0.0/16", &["10.244.0.128/25"], Some("10.244.1.0/24"));
        check("10.244.0.0/16", &["192.168.0.0/24"], Some("10.244.0.0/24"));
        check("10.244.0.0/23", &["10.244.0.0/24", "10.244.1.0/24"], None);
    }

    #[test]
    fn a_network_smaller_than_a_block_is_refused() {
        assert!(Blocks::new("10.0.0.0/25".parse().expect("network"), 24).is_none());
    }
}
