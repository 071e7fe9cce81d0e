//! How fast packets may go into pods.

use std::{collections::HashMap, path::Path};

use xebec_abi::{PodRate, names};

use crate::{Drift, DriftKind, Result, table::Table};

/// A pod may get so much at once: what its rate is in this time,
const BURST_NS: u64 = 50_000_000;
/// but at least two of the largest packets that the kernel makes of segments.
const BURST_BYTES: u64 = 128 << 10;

/// Of pods with a limit, by host-side device.
#[derive(Debug)]
pub struct Rates {
    table: Table<u32, PodRate>,
    /// Without what programs write.
    known: HashMap<u32, PodRate>,
}

impl Rates {
    pub fn open(directory: &Path) -> Result<Self> {
        let table: Table<u32, PodRate> = Table::open(directory, names::POD_RATES)?;
        let known = table.entries()?.into_iter().map(|(ifindex, rate)| (ifindex, settings(rate))).collect();
        Ok(Self { table, known })
    }

    pub fn knows(&self, ifindex: u32) -> bool {
        self.known.contains_key(&ifindex)
    }

    pub fn len(&self) -> u64 {
        self.known.len() as u64
    }

    /// False if it was so already. A bucket that changes is full.
    pub fn put(&mut self, ifindex: u32, bytes_per_s: u64) -> Result<bool> {
        let rate = rate(bytes_per_s);
        if self.known.get(&ifindex) == Some(&rate) {
            return Ok(false);
        }
        self.table.put(&ifindex, &rate)?;
        self.known.insert(ifindex, rate);
        Ok(true)
    }

    pub fn remove(&mut self, ifindex: u32) -> Result<()> {
        if self.known.remove(&ifindex).is_some() {
            self.table.remove(&ifindex)?;
        }
        Ok(())
    }

    /// Forgets devices that no pod has.
    pub fn retain(&mut self, wanted: impl Fn(u32) -> bool) -> Result<()> {
        let stale: Vec<u32> = self.known.keys().copied().filter(|ifindex| !wanted(*ifindex)).collect();
        stale.into_iter().try_for_each(|ifindex| self.remove(ifindex))
    }

    /// Makes the map hold what it should; returns what it did not.
    pub fn repair(&self) -> Result<Vec<Drift>> {
        let mut actual: HashMap<u32, PodRate> = self.table.entries()?.into_iter().collect();
        let mut found = Vec::new();
        let drift = |ifindex: u32| Drift::new(DriftKind::MapEntry, format_args!("{} {ifindex}", names::POD_RATES));
        for (ifindex, rate) in &self.known {
            if actual.remove(ifindex).map(settings) != Some(*rate) {
                self.table.put(ifindex, rate)?;
                found.push(drift(*ifindex));
            }
        }
        for ifindex in actual.into_keys() {
            self.table.remove(&ifindex)?;
            found.push(drift(ifindex));
        }
        Ok(found)
    }
}

fn settings(rate: PodRate) -> PodRate {
    PodRate { full_ns: 0, ..rate }
}

fn rate(bytes_per_s: u64) -> PodRate {
    let least_ns = (BURST_BYTES * 1_000_000_000).checked_div(bytes_per_s).unwrap_or(0);
    PodRate { bytes_per_s, burst_ns: least_ns.max(BURST_NS), full_ns: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_moment_and_at_least_two_large_packets() {
        let bytes = |rate: PodRate| u128::from(rate.bytes_per_s) * u128::from(rate.burst_ns) / 1_000_000_000;
        for (bytes_per_s, expected) in [(125, 131_072), (131_072, 131_072), (125_000_000, 6_250_000)] {
            assert_eq!(bytes(rate(bytes_per_s)), expected, "{bytes_per_s}");
        }
        // Upstream's least and largest: a kilobit and a petabit.
        assert_eq!(rate(125).burst_ns, 1_048_576_000_000);
        assert_eq!(rate(125_000_000_000_000).burst_ns, BURST_NS);
    }
}
