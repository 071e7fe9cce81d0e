//! Two readings of counters become figures.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Counter and gauge of a container or a node.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Point {
    /// Since the start of the container.
    pub cpu_seconds: Option<f64>,
    pub memory_bytes: Option<f64>,
    /// When the counter was read; milliseconds of Unix time, as below.
    pub at_ms: i64,
    pub started_ms: Option<i64>,
}

impl Point {
    pub fn is_whole(&self) -> bool {
        self.cpu_seconds.is_some() && self.memory_bytes.is_some()
    }
}

/// What one kubelet said.
#[derive(Clone, Default, Debug)]
pub struct Reading {
    pub node: Point,
    /// By namespace and name, then by container.
    pub pods: HashMap<(String, String), BTreeMap<String, Point>>,
}

/// What is used: of the CPU on average over the window, of memory at its end.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Usage {
    pub cpu_nanocores: i64,
    pub memory_bytes: i64,
    /// Milliseconds of Unix time.
    pub at_ms: i64,
    pub window: Duration,
}

/// The last reading and the one before.
#[derive(Clone, Copy, Default, Debug)]
struct Pair {
    last: Point,
    before: Option<Point>,
}

/// The last two readings of a node and its pods.
#[derive(Clone, Default, Debug)]
pub struct Readings {
    node: Pair,
    pods: HashMap<(String, String), BTreeMap<String, Pair>>,
}

/// A container younger than the window is measured from its start, but not before this (metrics-server's
/// `freshContainerMinMetricsResolution`).
const FRESH_MIN_MS: i64 = 10_000;
const FRESH_MAX_MS: i64 = 60_000;

impl Readings {
    /// What was read last goes before `reading`; containers that are not in it are forgotten.
    #[must_use]
    pub fn followed_by(mut self, reading: Reading) -> Self {
        let pods = reading.pods.into_iter().map(|(pod, containers)| {
            let mut known = self.pods.remove(&pod).unwrap_or_default();
            let pairs = containers.into_iter().map(|(name, point)| {
                let pair = known.remove(&name).unwrap_or_default().followed_by(point);
                (name, pair)
            });
            (pod, pairs.collect())
        });
        Self { pods: pods.collect(), node: self.node.followed_by(reading.node) }
    }

    pub fn node(&self) -> Option<Usage> {
        self.node.usage()
    }

    pub fn pod(&self, namespace: &str, name: &str) -> BTreeMap<String, Usage> {
        let containers = self.pods.get(&(namespace.to_owned(), name.to_owned()));
        containers.into_iter().flatten().filter_map(|(name, pair)| Some((name.clone(), pair.usage()?))).collect()
    }
}

impl Pair {
    fn followed_by(self, point: Point) -> Self {
        let (known, new) = (self.last.cpu_seconds, point.cpu_seconds);
        let restarted = self.last.started_ms != point.started_ms || new < known;
        match known {
            Some(_) if point.at_ms <= self.last.at_ms && !restarted => self,
            Some(_) if !restarted => Self { last: point, before: Some(self.last) },
            _ => Self { last: point, before: None },
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Figures far below 2^53; the cast saturates.
    fn usage(&self) -> Option<Usage> {
        let last = self.last;
        let (since_ms, before) = match self.before {
            Some(before) => (before.at_ms, before.cpu_seconds?),
            None => {
                let age = last.at_ms.checked_sub(last.started_ms?)?;
                ((FRESH_MIN_MS..=FRESH_MAX_MS).contains(&age)).then_some((last.started_ms?, 0.0))?
            }
        };
        let window_ms = last.at_ms.checked_sub(since_ms)?;
        let cpu = (last.cpu_seconds? - before) * 1e12 / window_ms as f64;
        Some(Usage {
            cpu_nanocores: cpu as i64,
            memory_bytes: last.memory_bytes? as i64,
            at_ms: last.at_ms,
            window: Duration::from_millis(u64::try_from(window_ms).ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(cpu: f64, at_ms: i64, started_ms: i64) -> Point {
        Point { cpu_seconds: Some(cpu), memory_bytes: Some(4096.0), at_ms, started_ms: Some(started_ms) }
    }

    /// `expected`: CPU in thousandths of a core, and milliseconds of the window.
    #[track_caller]
    fn check(points: &[Point], expected: Option<(i64, u128)>) {
        let pair = points.iter().fold(Pair::default(), |pair, point| pair.followed_by(*point));
        let usage = pair.usage().map(|usage| (usage.cpu_nanocores / 1_000_000, usage.window.as_millis()));
        assert_eq!(usage, expected, "{points:?}");
    }

    #[test]
    fn usage_is_what_was_used_between_two_readings() {
        check(&[], None);
        check(&[point(5.0, 100_000, 0)], None);
        check(&[point(5.0, 100_000, 0), point(8.0, 115_000, 0)], Some((200, 15_000)));
        check(&[point(5.0, 100_000, 0), point(8.0, 115_000, 0), point(8.0, 130_000, 0)], Some((0, 15_000)));
        // The same reading twice says nothing new.
        check(&[point(5.0, 100_000, 0), point(8.0, 115_000, 0), point(8.0, 115_000, 0)], Some((200, 15_000)));
    }

    #[test]
    fn a_container_that_restarted_is_measured_from_its_start() {
        check(&[point(5.0, 100_000, 0), point(6.0, 120_000, 100_000)], Some((300, 20_000)));
        check(&[point(5.0, 100_000, 0), point(1.0, 105_000, 100_000)], None);
        check(&[point(5.0, 100_000, 0), point(1.0, 400_000, 100_000)], None);
    }

    #[test]
    fn times_too_far_apart_say_nothing() {
        check(&[point(5.0, i64::MIN, 1)], None);
        check(&[point(5.0, i64::MIN, 0), point(8.0, i64::MAX, 0)], None);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let one = |name: &str| Reading {
            node: point(1.0, 1, 0),
            pods: [(("n".to_owned(), name.to_owned()), [("c".to_owned(), point(1.0, 20_000, 0))].into())].into(),
        };
        let readings = Readings::default().followed_by(one("a")).followed_by(one("b"));
        assert!(readings.pod("n", "a").is_empty());
        assert_eq!(readings.pod("n", "b").len(), 1);
    }
}
