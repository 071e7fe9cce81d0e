//! Sets of completion indexes, as a Job's status writes them: `1,3-5,7`.

use std::fmt;

/// Ordered, disjoint and not adjacent intervals, ends included. A Job may have 100,000 indexes, and
/// most that completed are next to one another.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// What is not a number or not below `completions` is left out, as upstream does.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let mut indexes = Self::default();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else { continue };
            let last = last.min(completions - 1);
            if first <= last {
                indexes.add(first, last);
            }
        }
        indexes
    }

    pub(super) fn has(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    pub(super) fn insert(&mut self, index: i32) {
        self.add(index, index);
    }

    pub(super) fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many of these are also in `other`.
    pub(super) fn common(&self, other: &Self) -> i32 {
        let overlap = |a: &(i32, i32), b: &(i32, i32)| (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
        self.0.iter().map(|a| other.0.iter().map(|b| overlap(a, b)).sum::<i32>()).sum()
    }

    fn add(&mut self, first: i32, last: i32) {
        let from = self.0.partition_point(|(_, end)| *end < first.saturating_sub(1));
        let to = self.0.partition_point(|(start, _)| *start <= last.saturating_add(1));
        let merged = match self.0.get(from..to) {
            Some([one]) => (first.min(one.0), last.max(one.1)),
            Some([head, .., tail]) => (first.min(head.0), last.max(tail.1)),
            _ => (first, last),
        };
        self.0.splice(from..to, [merged]);
    }
}

/// Two neighbours are written with a comma, three and more with a dash.
impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, completions: i32, expected: &str, total: i32) {
        let indexes = Indexes::parse(text, completions);
        assert_eq!((indexes.to_string().as_str(), indexes.total()), (expected, total), "{text:?} of {completions}");
    }

    #[test]
    fn indexes_are_read_and_written_as_upstream_does() {
        check("", 5, "", 0);
        check("0", 5, "0", 1);
        check("0-1", 5, "0,1", 2);
        check("0,1,2", 5, "0-2", 3);
        check("4,0-2", 5, "0-2,4", 4);
        check("0-9", 5, "0-4", 5);
        check("7", 5, "", 0);
        check("x,1", 5, "1", 1);
    }

    #[test]
    fn inserting_joins_neighbours() {
        let mut indexes = Indexes::default();
        for (index, expected) in [(5, "5"), (3, "3,5"), (4, "3-5"), (4, "3-5"), (0, "0,3-5"), (9, "0,3-5,9")] {
            indexes.insert(index);
            assert_eq!(indexes.to_string(), expected);
        }
        let has: Vec<i32> = (0..10).filter(|n| indexes.has(*n)).collect();
        assert_eq!(has, [0, 3, 4, 5, 9]);
        assert_eq!(indexes.common(&Indexes::parse("4-9", 10)), 3);
    }
}
