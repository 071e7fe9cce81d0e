//! `--eviction-hard`: when a node is short of something, as upstream spells it.

use std::fmt;
use std::str::FromStr;

use xebec_types::{Quantity, resource};

/// What may run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
}

impl Signal {
    const ALL: [Self; 4] =
        [Self::MemoryAvailable, Self::NodefsAvailable, Self::NodefsInodesFree, Self::ImagefsAvailable];

    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodesFree => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
        }
    }

    /// The resource, in messages.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory",
            Self::NodefsInodesFree => "inodes",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    Percent(f64),
    Amount(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub limit: Limit,
}

/// A signal's capacity and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    pub capacity: u64,
    pub available: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("--eviction-hard: {0}")]
pub struct InvalidThreshold(String);

/// `memory.available<100Mi,nodefs.available<10%`; a signal that is not named has no threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds(Vec<Threshold>);

impl Default for Thresholds {
    /// Upstream's on Linux (pkg/kubelet/apis/config/v1beta1, `DefaultEvictionHard`).
    fn default() -> Self {
        let percent = |signal, percent| Threshold { signal, limit: Limit::Percent(percent) };
        Self(vec![
            Threshold { signal: Signal::MemoryAvailable, limit: Limit::Amount(100 << 20) },
            percent(Signal::NodefsAvailable, 10.0),
            percent(Signal::NodefsInodesFree, 5.0),
            percent(Signal::ImagefsAvailable, 15.0),
        ])
    }
}

impl Threshold {
    pub fn crossed(&self, observed: Observation) -> bool {
        observed.available < self.floor(observed.capacity)
    }

    fn floor(&self, capacity: u64) -> u64 {
        match self.limit {
            Limit::Percent(percent) => (capacity as f64 * percent / 100.0) as u64,
            Limit::Amount(amount) => amount,
        }
    }
}

impl Thresholds {
    pub fn crossed(&self, observe: impl Fn(Signal) -> Option<Observation>) -> Vec<(Threshold, Observation)> {
        let known = self.0.iter().filter_map(|threshold| Some((*threshold, observe(threshold.signal)?)));
        known.filter(|(threshold, observed)| threshold.crossed(*observed)).collect()
    }
}

impl FromStr for Thresholds {
    type Err = InvalidThreshold;

    fn from_str(text: &str) -> Result<Self, InvalidThreshold> {
        text.split(',').filter(|part| !part.trim().is_empty()).map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Threshold {
    type Err = InvalidThreshold;

    fn from_str(text: &str) -> Result<Self, InvalidThreshold> {
        let invalid = |why: &str| InvalidThreshold(format!("{text:?} {why}"));
        let (name, limit) =
            text.trim().split_once('<').ok_or_else(|| invalid("must look like memory.available<100Mi"))?;
        let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name);
        let signal = signal.ok_or_else(|| invalid("names no signal that is watched"))?;
        let limit = match limit.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
                Limit::Percent(percent.ok_or_else(|| invalid("has no percentage of 0 to 100"))?)
            }
            None => {
                let amount = resource::value(&Quantity(limit.to_owned())).and_then(|amount| u64::try_from(amount).ok());
                Limit::Amount(amount.ok_or_else(|| invalid("has no quantity"))?)
            }
        };
        Ok(Self { signal, limit })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Amount(amount) => write!(f, "{amount}"),
        }
    }
}
