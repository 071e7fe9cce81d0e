//! Counters of the programs, summed over CPUs.

use std::path::Path;

use xebec_abi::{Counter, DropReason, MapId, Traffic, names, stats::ERRNOS};

use crate::{Datapath, Result, table::PerCpu};

/// Drops by reason, those that happened.
pub type Drops = Vec<(DropReason, Traffic)>;
/// Failed map operations: map, errno, how often.
pub type MapErrors = Vec<(MapId, i32, u64)>;

impl Datapath {
    /// Packets dropped and connections refused, by reason.
    pub fn drops(&self) -> Result<Drops> {
        self.statistics.drops()
    }

    /// Every other counter.
    pub fn counters(&self) -> Result<Vec<(Counter, Traffic)>> {
        self.statistics.counters()
    }

    /// Map operations that failed in a program, by errno.
    pub fn map_errors(&self) -> Result<MapErrors> {
        self.statistics.map_errors()
    }
}

#[derive(Debug)]
pub(crate) struct Statistics {
    drops: PerCpu<Traffic>,
    counters: PerCpu<Traffic>,
    errors: PerCpu<u64>,
}

impl Statistics {
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Self {
            drops: PerCpu::open(directory, names::DROPS)?,
            counters: PerCpu::open(directory, names::COUNTERS)?,
            errors: PerCpu::open(directory, names::MAP_ERRORS)?,
        })
    }

    fn drops(&self) -> Result<Drops> {
        let mut drops = Vec::new();
        for reason in DropReason::ALL {
            let traffic = sum(&self.drops.get(reason.index())?);
            if traffic.packets != 0 {
                drops.push((*reason, traffic));
            }
        }
        Ok(drops)
    }

    fn counters(&self) -> Result<Vec<(Counter, Traffic)>> {
        Counter::ALL.iter().map(|counter| Ok((*counter, sum(&self.counters.get(counter.index())?)))).collect()
    }

    fn map_errors(&self) -> Result<MapErrors> {
        let mut errors = Vec::new();
        for map in MapId::ALL {
            for errno in 0..ERRNOS.cast_signed() {
                let count: u64 = self.errors.get(map.error_index(-errno))?.iter().sum();
                if count != 0 {
                    errors.push((*map, errno, count));
                }
            }
        }
        Ok(errors)
    }
}

fn sum(values: &[Traffic]) -> Traffic {
    values.iter().fold(Traffic::default(), |sum, value| Traffic {
        packets: sum.packets.wrapping_add(value.packets),
        bytes: sum.bytes.wrapping_add(value.bytes),
    })
}
