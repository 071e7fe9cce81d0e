//! What a decision consists of: filters that rule nodes out and scores that rank the rest.
//!
//! A plugin prepares a state for one pod (or skips it: what a pod does not ask for costs nothing), and the state is a pure
//! function of a node.

use std::borrow::Cow;

use crate::cluster::NodeInfo;

/// Plugins by upstream's names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Plugin {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    NodeVolumeLimits,
    VolumeBinding,
    VolumeZone,
    PodTopologySpread,
    InterPodAffinity,
    DynamicResources,
    NodeResourcesBalancedAllocation,
    ImageLocality,
}

impl Plugin {
    /// The weight of the plugin's score, as in upstream's default configuration.
    pub fn weight(self) -> i64 {
        match self {
            Self::TaintToleration => 3,
            Self::NodeAffinity | Self::PodTopologySpread | Self::InterPodAffinity => 2,
            _ => 1,
        }
    }
}

/// A set of plugins.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Plugins(u16);

impl Plugins {
    pub fn all() -> Self {
        Self(u16::MAX)
    }

    pub fn insert(&mut self, plugin: Plugin) {
        self.0 |= 1 << plugin as u16;
    }

    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl<const N: usize> From<[Plugin; N]> for Plugins {
    fn from(plugins: [Plugin; N]) -> Self {
        let mut set = Self::default();
        plugins.into_iter().for_each(|plugin| set.insert(plugin));
        set
    }
}

/// Why a node cannot take a pod, in upstream's words.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Reason(pub Cow<'static, str>);

impl From<&'static str> for Reason {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

/// A node can take the pod, or why not.
pub type Verdict = Result<(), Rejection>;

/// Usually one reason; lack of several resources is several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    pub reasons: Vec<Reason>,
}

impl From<&'static str> for Rejection {
    fn from(text: &'static str) -> Self {
        Self { reasons: vec![text.into()] }
    }
}

pub trait Filter {
    fn filter(&self, node: &NodeInfo) -> Verdict;
}

/// The greatest score of a node.
pub const MAX_SCORE: i64 = 100;

pub trait Score {
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the scores of all nodes between 0 and [`MAX_SCORE`].
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Scales scores so that the greatest becomes [`MAX_SCORE`]; reversed, so that the greatest becomes 0.
pub fn scale(scores: &mut [i64], reverse: bool) {
    let max = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if max == 0 { 0 } else { *score * MAX_SCORE / max };
        *score = if reverse { MAX_SCORE - scaled } else { scaled };
    }
}
