//! Makes a store out of a backup.

use std::path::Path;

use super::{
    file::{FileId, LogFile, base_path, io_error, sync_dir},
    lock,
    record::Batch,
    recover,
};
use crate::{Entry, Error, Result, Revision};

/// A batch is written when it has this size.
const BATCH_BYTES: usize = 1 << 20;

/// Makes the store in `dir` hold `entries`, as of `revision`. Replaces what is there only if `replace` says so.
///
/// Later revisions follow `revision`: one that no client has seen keeps watches of the time before from going on as if
/// nothing had happened.
pub fn restore(
    dir: &Path,
    revision: Revision,
    entries: impl IntoIterator<Item = Result<Entry>>,
    replace: bool,
) -> Result<u64> {
    std::fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    let _lock = lock(dir)?;
    if recover::exists(dir)? && !replace {
        return Err(Error::NotEmpty { place: dir.display().to_string() });
    }
    let path = base_path(dir, revision);
    let partial = path.with_extension("tmp");
    let count = write(&partial, entries).inspect_err(|_| {
        let _best_effort = std::fs::remove_file(&partial);
    })?;
    // Keeps the new file out of sight of the removal.
    let aside = dir.join("restored");
    std::fs::rename(&partial, &aside).map_err(io_error("rename", &partial))?;
    recover::remove(dir)?;
    std::fs::rename(&aside, &path).map_err(io_error("rename", &aside))?;
    sync_dir(dir)?;
    Ok(count)
}

fn write(path: &Path, entries: impl IntoIterator<Item = Result<Entry>>) -> Result<u64> {
    let base = LogFile::open(FileId::FIRST, path.to_owned(), true)?;
    let mut batch = Batch::new();
    let mut count = 0;
    for entry in entries {
        let entry = entry?;
        batch.push(&entry.key, Some(&entry.value), entry.mod_revision, entry.create_revision);
        count += 1;
        if batch.len() >= BATCH_BYTES {
            base.append(batch.seal(), false)?;
            batch.clear();
        }
    }
    if !batch.is_empty() {
        base.append(batch.seal(), false)?;
    }
    base.file.sync_all().map_err(io_error("sync", path))?;
    Ok(count)
}
