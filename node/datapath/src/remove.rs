//! What is left of a datapath, gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    Datapath, clsact, config,
    error::{Error, Result},
    link, reserved,
};

/// What [`Datapath::remove`] took away.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Removed {
    /// Links by their pins: the device or `cgroup`, and the program.
    pub links: Vec<String>,
    /// Clsact filters by device and direction, of kernels before 6.6.
    pub filters: Vec<String>,
    /// How many maps were pinned.
    pub maps: usize,
    /// Reserved ports as the kernel lists them, such as `30000-32767,61000-65535`; empty if there were none.
    pub ports: String,
    /// Uplinks (by index) whose clsact qdisc is there because of this datapath. It does nothing; others may have filters
    /// in it.
    pub clsact: Vec<u32>,
}

impl Datapath {
    /// Removes every program, link and map of a node's datapath, and has the ports reserved no more that it reserved.
    /// Traffic falls back to the host's network stack. Twice is once.
    ///
    /// Call it as [`Datapath::open`].
    pub fn remove(bpffs: &Path, node: &str) -> Result<Removed> {
        let directory = config::node_directory(bpffs, node);
        let (links, maps) = pinned(&directory)?;
        let filters = clsact::detach_all();
        let ports = reserved::release(&directory)?;
        let clsact = clsact::made(&directory)?;
        absent_is_fine(fs::remove_dir_all(&directory), &directory)?;
        // Another node's may be there.
        let parent = bpffs.join(config::PINS);
        match fs::remove_dir(&parent) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            outcome => absent_is_fine(outcome, &parent)?,
        }
        Ok(Removed { links, filters, maps, ports, clsact })
    }
}

/// The nodes that have a datapath in this bpf filesystem, whether their agents run or not.
pub fn nodes(bpffs: &Path) -> Result<Vec<String>> {
    let path = bpffs.join(config::PINS);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| Error::Pin { operation: "list", path, source })?,
    };
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// The links, and how many maps there are, of every version.
fn pinned(directory: &Path) -> Result<(Vec<String>, usize)> {
    let (mut links, mut maps) = (Vec::new(), 0);
    for pin in files(directory)? {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match pin.parent().map(name) {
            Some(parent) if parent == link::DIRECTORY => links.push(name(&pin)),
            _ => maps += 1,
        }
    }
    links.sort();
    Ok((links, maps))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Pin { operation: "list", path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() { files.extend(self::files(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

fn absent_is_fine(outcome: io::Result<()>, path: &Path) -> Result<()> {
    match outcome {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Pin { operation: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
