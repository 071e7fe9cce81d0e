use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use super::file::Location;
use crate::Revision;

/// Where every retained version of every key is.
pub struct Index {
    latest: BTreeMap<Arc<str>, Version>,
    /// Of the few keys that have any, oldest first.
    older: HashMap<Arc<str>, Vec<Version>>,
    /// (revision of the write that superseded a version, key), oldest first.
    superseded: VecDeque<(Revision, Arc<str>)>,
    /// Of the newest durable write.
    pub revision: Revision,
    /// States before this revision are gone.
    pub compacted: Revision,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    pub revision: Revision,
    pub create: Revision,
    /// `None` is a deletion.
    pub location: Option<Location>,
}

impl Index {
    pub fn new(revision: Revision, compacted: Revision) -> Self {
        Self { latest: BTreeMap::new(), older: HashMap::new(), superseded: VecDeque::new(), revision, compacted }
    }

    /// The newest version of `key`, unless it is a deletion.
    pub fn get(&self, key: &str) -> Option<(&Arc<str>, Version)> {
        let (key, version) = self.latest.get_key_value(key)?;
        version.location.map(|_| (key, *version))
    }

    /// The string by which `key` is known here, to share it.
    pub fn interned(&self, key: &str) -> Option<&Arc<str>> {
        self.latest.get_key_value(key).map(|(key, _)| key)
    }

    /// Records a write that is newer than all before.
    pub fn insert(&mut self, key: Arc<str>, version: Version) {
        self.revision = self.revision.max(version.revision);
        if let Some(latest) = self.latest.get_mut(&key) {
            let previous = std::mem::replace(latest, version);
            self.older.entry(key.clone()).or_default().push(previous);
            self.superseded.push_back((version.revision, key));
            return;
        }
        if version.location.is_none() {
            return; // The deletion of something that compaction has forgotten.
        }
        self.latest.insert(key, version);
    }

    /// Versions that were alive at `revision`, of keys from `start` on.
    pub fn range_at<'a>(
        &'a self,
        start: std::ops::Bound<&'a str>,
        revision: Revision,
    ) -> impl Iterator<Item = (&'a Arc<str>, Version)> {
        self.latest.range::<str, _>((start, std::ops::Bound::Unbounded)).filter_map(move |(key, latest)| {
            let version = if latest.revision <= revision { *latest } else { self.older_at(key, revision)? };
            version.location.map(|_| (key, version))
        })
    }

    fn older_at(&self, key: &str, revision: Revision) -> Option<Version> {
        self.older.get(key)?.iter().rev().find(|version| version.revision <= revision).copied()
    }

    /// Forgets versions that were superseded at or before `revision`, and deletions that old.
    pub fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision);
        while self.superseded.front().is_some_and(|(at, _)| *at <= revision) {
            let Some((_, key)) = self.superseded.pop_front() else { return };
            let Some(latest) = self.latest.get(&key) else { continue };
            let is_old = latest.revision <= revision;
            if is_old && latest.location.is_none() {
                self.latest.remove(&key);
            }
            if is_old {
                self.older.remove(&key);
            } else if let Some(older) = self.older.get_mut(&key) {
                let newest_old = older.iter().rposition(|version| version.revision <= revision);
                older.drain(..newest_old.unwrap_or(0));
                older.shrink_to_fit();
            }
        }
    }

    /// The version of `key` from exactly `revision` has moved.
    pub fn relocate(&mut self, key: &str, revision: Revision, location: Location) {
        let versions = self.older.get_mut(key).into_iter().flatten().chain(self.latest.get_mut(key));
        for version in versions.filter(|version| version.revision == revision) {
            version.location = Some(location);
        }
    }

    #[cfg(test)]
    pub fn superseded(&self) -> usize {
        self.superseded.len()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::{super::file::FileId, *};

    fn version(revision: u64, alive: bool) -> Version {
        let location = alive.then_some(Location { offset: revision, file: FileId::FIRST, length: 1 });
        Version { revision: Revision(revision), create: Revision(1), location }
    }

    #[track_caller]
    fn check(index: &Index, revision: u64, expected: &[(&str, u64)]) {
        let found: Vec<_> =
            index.range_at(Bound::Unbounded, Revision(revision)).map(|(key, v)| (&**key, v.revision.0)).collect();
        assert_eq!(found, expected, "at {revision}");
    }

    #[test]
    fn past_states_are_kept_until_compacted() {
        let mut index = Index::new(Revision(1), Revision(1));
        for (key, revision, alive) in
            [("a", 2, true), ("b", 3, true), ("a", 4, true), ("b", 5, false), ("a", 6, true), ("b", 7, true)]
        {
            index.insert(key.into(), version(revision, alive));
        }
        check(&index, 2, &[("a", 2)]);
        check(&index, 3, &[("a", 2), ("b", 3)]);
        check(&index, 5, &[("a", 4)]);
        check(&index, 7, &[("a", 6), ("b", 7)]);
        index.compact(Revision(5));
        check(&index, 5, &[("a", 4)]);
        check(&index, 6, &[("a", 6)]);
        check(&index, 7, &[("a", 6), ("b", 7)]);
        index.compact(Revision(7));
        assert_eq!(index.superseded(), 0);
        check(&index, 7, &[("a", 6), ("b", 7)]);
        assert!(index.older.is_empty());
        index.insert("a".into(), version(8, false));
        index.compact(Revision(8));
        assert_eq!(index.latest.len(), 1);
        assert!(index.older.is_empty());
    }
}
