//! Keeps memory and files bounded: forgets old versions, and rewrites the live ones when enough of the log is dead.

use std::{
    collections::VecDeque,
    ops::Bound,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{self, Instant};

use super::{
    Shared,
    file::{Location, LogFile, Segment, base_path, io_error, sync_dir},
    record::Batch,
};
use crate::{Error, Result, Revision, chain};

const EVERY: Duration = Duration::from_secs(1);
/// Copied entries between two looks at the index lock.
const CHUNK: usize = 512;

/// Compacts by itself for as long as the store is open.
pub async fn run(shared: Arc<Shared>) {
    let mut marks: VecDeque<(Instant, Revision)> = VecDeque::new();
    let mut tick = time::interval(EVERY);
    tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        let now = tick.tick().await;
        let revision = shared.index.read().revision;
        if marks.back().is_none_or(|(_, last)| *last < revision) {
            marks.push_back((now, revision));
        }
        let mut target = None;
        while marks.front().is_some_and(|(at, _)| now.duration_since(*at) >= shared.options.history_age) {
            target = marks.pop_front().map(|(_, revision)| revision);
        }
        let target = target.max(shared.excess_history());
        let work = shared.clone();
        let done = tokio::task::spawn_blocking(move || {
            if let Some(target) = target {
                work.index.write().compact(target);
            }
            work.rewrite_if_worth_it()
        });
        match done.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "store cannot compact its files"),
            Err(_) => return,
        }
    }
}

impl Shared {
    /// The revision to compact to because the log has become too large, if it has.
    fn excess_history(&self) -> Option<Revision> {
        let files = self.files.read();
        let total: u64 = files.segments.iter().map(|segment| segment.file.length()).sum();
        let mut excess = total.checked_sub(self.options.history_bytes)?;
        let mut target = None;
        for pair in files.segments.windows(2) {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(pair[0].file.length());
            target = Some(Revision(pair[1].first.0 - 1));
        }
        target
    }

    /// Rewrites when compacted segments are larger than what is live, so that each byte is copied about once per byte written.
    fn rewrite_if_worth_it(&self) -> Result<()> {
        let _one_at_a_time = self.compacting.lock();
        if self.closing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let compacted = self.index.read().compacted;
        let (dead, next, base) = {
            let files = self.files.read();
            let dead = files.segments.windows(2).take_while(|pair| pair[1].first.0 - 1 <= compacted.0).count();
            let Some(next) = files.segments.get(dead) else { return Ok(()) };
            (files.segments[..dead].to_vec(), next.first, files.base.clone())
        };
        let bytes: u64 = dead.iter().map(|segment| segment.file.length()).sum();
        let live = base.as_ref().map_or(0, |base| base.length());
        if dead.is_empty() || bytes < live.max(self.options.segment_bytes) {
            return Ok(());
        }
        self.rewrite(Revision(next.0 - 1), &dead)
    }

    /// Replaces the base and `dead` segments by a new base: the state at `revision`, their last.
    fn rewrite(&self, revision: Revision, dead: &[Segment]) -> Result<()> {
        let path = base_path(&self.dir, revision);
        let partial = path.with_extension("tmp");
        let id = self.files.write().next_id();
        let mut base = LogFile::open(id, partial.clone(), true)?;
        let moved = self.copy(revision, &base).inspect_err(|_| {
            let _best_effort = std::fs::remove_file(&partial);
        })?;
        base.file.sync_all().map_err(io_error("sync", &partial))?;
        std::fs::rename(&partial, &path).map_err(io_error("rename", &partial))?;
        sync_dir(&self.dir)?;
        base.path = path;

        let base = Arc::new(base);
        self.files.write().add(base.clone());
        for chunk in moved.chunks(CHUNK) {
            let mut index = self.index.write();
            for (key, revision, location) in chunk {
                index.relocate(key, *revision, *location);
            }
        }
        let old = {
            let mut files = self.files.write();
            files.segments.drain(..dead.len());
            let old = files.base.replace(base.clone());
            let old: Vec<_> = dead.iter().map(|segment| segment.file.clone()).chain(old).collect();
            for file in &old {
                files.open.remove(&file.id);
            }
            old
        };
        for file in &old {
            file.unlink()?;
        }
        tracing::debug!(%revision, bytes = base.length(), replaced = old.len(), "store rewrote its live objects");
        sync_dir(&self.dir)
    }

    /// Writes the state at `revision` to `base`.
    fn copy(&self, revision: Revision, base: &LogFile) -> Result<Vec<(Arc<str>, Revision, Location)>> {
        let mut moved: Vec<(Arc<str>, Revision, Location)> = Vec::new();
        let mut batch = Batch::new();
        loop {
            if self.closing.load(Ordering::Relaxed) {
                return Err(Error::Closed);
            }
            let chunk: Vec<_> = {
                let index = self.index.read();
                let start = moved.last().map_or(Bound::Unbounded, |(key, ..)| Bound::Excluded(&**key));
                index.range_at(start, revision).take(CHUNK).map(|(key, version)| (key.clone(), version)).collect()
            };
            if chunk.is_empty() {
                return Ok(moved);
            }
            let start = base.length();
            for (key, version) in chunk {
                let value = self.value(version)?;
                let at = batch.push(&key, Some(&value), version.revision, version.create);
                let location = Location { offset: start + at as u64, file: base.id, length: value.len() as u32 };
                moved.push((key, version.revision, location));
            }
            base.append(batch.seal(), false)?;
            batch.clear();
        }
    }
}
