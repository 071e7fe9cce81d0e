//! Files that change all at once: upstream's `AtomicWriter`.
//!
//! The payload lies in a directory named by its time; `..data` links to it, and every file a user sees links through `..data`. An update writes
//! a new directory and renames a new `..data` over the old one, so that a reader sees the old files or the new ones and never a mixture.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

/// A file of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    pub owner: Option<u32>,
}

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

pub(super) fn write(dir: &Path, files: &BTreeMap<String, File>, group: Option<u32>) -> io::Result<()> {
    let old = fs::read_link(dir.join(DATA)).ok();
    if old.as_ref().is_some_and(|old| same(&dir.join(old), files)) {
        return Ok(());
    }
    let stamp = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let name = format!("..{}.{:09}", stamp.as_secs(), stamp.subsec_nanos());
    let payload = dir.join(&name);
    for (path, file) in files {
        write_file(&payload, path, file, group)?;
    }
    fs::create_dir_all(&payload)?;
    fs::set_permissions(&payload, fs::Permissions::from_mode(0o755))?;
    let _ = fs::remove_file(dir.join(NEW_DATA));
    symlink(&name, dir.join(NEW_DATA))?;
    fs::rename(dir.join(NEW_DATA), dir.join(DATA))?;
    link_names(dir, files)?;
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old))?;
    }
    Ok(())
}

fn write_file(payload: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let target = payload.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&target, &file.bytes)?;
    chown(&target, file.owner, group)?;
    let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
    fs::set_permissions(&target, fs::Permissions::from_mode(mode))
}

fn same(payload: &Path, files: &BTreeMap<String, File>) -> bool {
    let mut found = BTreeSet::new();
    walk(payload, payload, &mut found);
    found.len() == files.len()
        && files.iter().all(|(path, file)| fs::read(payload.join(path)).is_ok_and(|bytes| bytes == file.bytes))
}

fn walk(root: &Path, dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, found);
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_string_lossy().into_owned());
        }
    }
}

/// One link for each top-level name; names that are gone lose theirs.
fn link_names(dir: &Path, files: &BTreeMap<String, File>) -> io::Result<()> {
    let names: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !names.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in names {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    Ok(())
}
