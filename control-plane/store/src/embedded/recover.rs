//! Reads the log files when the store is opened.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;

use super::{
    file::{Files, Location, LogFile, Segment, io_error, sync_dir},
    index::{Index, Version},
    record::{self, BATCH_HEADER, Header},
};
use crate::{Error, Result, Revision};

/// The revision of an empty store, as etcd's.
const FIRST: Revision = Revision(1);

/// Loads what `dir` holds, drops what a crash left half-written or half-removed.
pub fn recover(dir: &Path) -> Result<(Index, Files)> {
    let found = scan(dir)?;
    let base = found.bases.last().cloned();
    let start = base.as_ref().map_or(FIRST, |(revision, _)| *revision);
    // Segments end where the next begins, and a base is made of whole segments.
    let (stale, live): (Vec<_>, Vec<_>) = found.segments.into_iter().partition(|(first, _)| *first <= start);
    let old_bases = found.bases.into_iter().filter(|(revision, _)| *revision < start);
    let leftovers: Vec<PathBuf> =
        stale.into_iter().chain(old_bases).map(|(_, path)| path).chain(found.partial).collect();
    for path in &leftovers {
        std::fs::remove_file(path).map_err(io_error("remove", path))?;
    }
    sync_dir(dir)?;

    let mut index = Index::new(start, start);
    let mut files = Files::default();
    if let Some((_, path)) = base {
        let file = Arc::new(LogFile::open(files.next_id(), path, false)?);
        load(&file, Tail::Damaged, &mut index)?;
        index.revision = index.revision.max(start);
        files.add(file.clone());
        files.base = Some(file);
    }
    let last = live.len().saturating_sub(1);
    for (at, (first, path)) in live.into_iter().enumerate() {
        let file = Arc::new(LogFile::open(files.next_id(), path, false)?);
        load(&file, if at == last { Tail::MayBeTorn } else { Tail::Damaged }, &mut index)?;
        files.add(file.clone());
        files.segments.push(Segment { first, file });
    }
    Ok((index, files))
}

/// Loads what `dir` holds and changes nothing; another process may be writing. `None` if compaction replaced files meanwhile.
pub fn look(dir: &Path) -> Result<Option<(Index, Files)>> {
    let found = scan(dir)?;
    let base = found.bases.last().cloned();
    let start = base.as_ref().map_or(FIRST, |(revision, _)| *revision);
    let mut index = Index::new(start, start);
    let mut files = Files::default();
    let live = found.segments.into_iter().filter(|(first, _)| *first > start);
    // Every file is opened before one is read: what is unlinked from then on stays readable.
    let mut opened = Vec::new();
    for (first, path) in base.into_iter().chain(live) {
        match LogFile::open(files.next_id(), path, false) {
            Ok(file) => opened.push((first, Arc::new(file))),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let last = opened.len().saturating_sub(1);
    for (at, (first, file)) in opened.into_iter().enumerate() {
        let is_base = first == start;
        if !is_base && first.0 != index.revision.0 + 1 {
            return Ok(None);
        }
        load(&file, if at == last && !is_base { Tail::Growing } else { Tail::Damaged }, &mut index)?;
        files.add(file);
        index.revision = index.revision.max(start);
    }
    Ok(Some((index, files)))
}

/// Whether `dir` holds a store.
pub fn exists(dir: &Path) -> Result<bool> {
    if !dir.exists() {
        return Ok(false);
    }
    let found = scan(dir)?;
    Ok(!found.bases.is_empty() || !found.segments.is_empty())
}

/// Removes the store in `dir`.
pub fn remove(dir: &Path) -> Result<()> {
    let found = scan(dir)?;
    // A base without the segments after it would be an older state: they go first, the newest before the others.
    let segments = found.segments.into_iter().rev().chain(found.bases).map(|(_, path)| path);
    for path in segments.chain(found.partial) {
        std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
    }
    sync_dir(dir)
}

/// What it means that a file does not end with a complete batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Another process is writing it.
    Growing,
    /// The last write was interrupted; nobody was told that it succeeded.
    MayBeTorn,
    Damaged,
}

#[derive(Default)]
struct Found {
    bases: Vec<(Revision, PathBuf)>,
    segments: Vec<(Revision, PathBuf)>,
    partial: Vec<PathBuf>,
}

fn scan(dir: &Path) -> Result<Found> {
    let mut found = Found::default();
    for entry in std::fs::read_dir(dir).map_err(io_error("read", dir))? {
        let path = entry.map_err(io_error("read", dir))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let numbered = |prefix| name.strip_prefix(prefix).and_then(|number| number.parse().ok()).map(Revision);
        if let Some(revision) = numbered("base-") {
            found.bases.push((revision, path));
        } else if let Some(first) = numbered("log-") {
            found.segments.push((first, path));
        } else if name.ends_with(".tmp") {
            found.partial.push(path);
        }
    }
    found.bases.sort();
    found.segments.sort();
    Ok(found)
}

fn load(log: &LogFile, tail: Tail, index: &mut Index) -> Result<()> {
    let size = log.file.metadata().map_err(io_error("stat", &log.path))?.len();
    let file = log.file.try_clone().map_err(io_error("open", &log.path))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut at = 0;
    while at < size {
        let Some(payload) = read_batch(&mut reader, size - at, &log.path)? else {
            if tail == Tail::Growing {
                break;
            }
            drop(reader);
            truncate(log, at, size, tail)?;
            break;
        };
        let start = at + BATCH_HEADER as u64;
        for record in record::records(&payload) {
            let corrupt = || Error::Corrupt { path: log.path.clone(), offset: at, reason: "a key is not UTF-8" };
            let key = std::str::from_utf8(&record.key).map_err(|_| corrupt())?;
            let key = index.interned(key).cloned().unwrap_or_else(|| key.into());
            let location = record.value.as_ref().map(|value| Location {
                offset: start + record.at as u64,
                file: log.id,
                length: value.len() as u32,
            });
            index.insert(key, Version { revision: record.revision, create: record.create, location });
        }
        at = start + payload.len() as u64;
    }
    log.length.store(at, Ordering::Release);
    Ok(())
}

/// The next batch; `None` if it is incomplete or its checksum is wrong.
fn read_batch(reader: &mut BufReader<File>, left: u64, path: &Path) -> Result<Option<Bytes>> {
    if left < BATCH_HEADER as u64 {
        return Ok(None);
    }
    let mut header = [0; BATCH_HEADER];
    reader.read_exact(&mut header).map_err(io_error("read", path))?;
    let Some(header) = Header::parse(&header) else { return Ok(None) };
    if header.length == 0 || header.length as u64 > left - BATCH_HEADER as u64 {
        return Ok(None);
    }
    let mut payload = vec![0; header.length];
    reader.read_exact(&mut payload).map_err(io_error("read", path))?;
    Ok(header.matches(&payload).then(|| payload.into()))
}

/// Cuts off an interrupted write, and the space reserved for more. A batch is written only after the one before it is on the disk: if a complete batch
/// follows an incomplete one, acknowledged data is damaged.
fn truncate(log: &LogFile, at: u64, size: u64, tail: Tail) -> Result<()> {
    let corrupt = |reason| Error::Corrupt { path: log.path.clone(), offset: at, reason };
    if tail == Tail::Damaged {
        return Err(corrupt("the checksum of a batch is wrong"));
    }
    let rest = log.read(at, (size - at) as usize)?;
    if record::contains_batch(rest.get(1..).unwrap_or_default()) {
        return Err(corrupt("the checksum of a batch that others follow is wrong"));
    }
    if rest.iter().any(|byte| *byte != 0) {
        tracing::info!(path = %log.path.display(), offset = at, bytes = size - at, "dropping an interrupted write");
    }
    log.file.set_len(at).and_then(|()| log.file.sync_all()).map_err(io_error("truncate", &log.path))
}
