//! An initramfs: a cpio archive in "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::sh;

/// What becomes a file in the machine.
#[derive(Debug)]
pub struct Entry {
    /// From the root, without a leading slash.
    pub path: String,
    pub bytes: Vec<u8>,
    pub executable: bool,
}

/// The program at `from` and the shared libraries that it is linked with.
///
/// # Errors
/// When a file cannot be read, or a library is not on this machine.
pub fn program(from: &Path, to: &str) -> Result<Vec<Entry>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut entries = vec![Entry { path: to.to_owned(), bytes: read(from)?, executable: true }];
    // ldd fails on a static program, which needs nothing.
    let output = sh::command("ldd").arg(from).output().context("start ldd")?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if line.contains("not found") {
            bail!("{}: {}", from.display(), line.trim());
        }
        let library = line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
        if let Some(library) = library {
            let path = library.to_string_lossy().trim_start_matches('/').to_owned();
            entries.push(Entry { bytes: read(&library)?, path, executable: true });
        }
    }
    Ok(entries)
}

/// Writes the archive: the files, and the kernel's modules as `modules/NUMBER-NAME.ko` in the order in which they load.
///
/// # Errors
/// When the archive cannot be written.
pub fn write(archive: &Path, files: &[Entry], modules: &[(String, Vec<u8>)]) -> Result<()> {
    let file = File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut cpio = Cpio { to: BufWriter::new(file), written: BTreeSet::new() };
    for file in files {
        cpio.file(&file.path, &file.bytes, file.executable)?;
    }
    for (number, (name, bytes)) in modules.iter().enumerate() {
        cpio.file(&format!("modules/{number:02}-{name}.ko"), bytes, false)?;
    }
    cpio.finish().with_context(|| format!("write {}", archive.display()))
}

struct Cpio<W> {
    to: W,
    written: BTreeSet<String>,
}

impl<W: Write> Cpio<W> {
    /// A path that is there already is left as it is: programs share libraries.
    fn file(&mut self, path: &str, bytes: &[u8], executable: bool) -> io::Result<()> {
        for (end, _) in path.match_indices('/') {
            if let Some(parent) = path.get(..end).filter(|parent| self.written.insert((*parent).to_owned())) {
                self.entry(parent, 0o040_755, &[])?;
            }
        }
        if !self.written.insert(path.to_owned()) {
            return Ok(());
        }
        self.entry(path, if executable { 0o100_755 } else { 0o100_644 }, bytes)
    }

    fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.to.flush()
    }

    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let number = self.written.len();
        let (size, name) = (bytes.len(), path.len() + 1);
        // Magic; inode, mode, uid, gid, links, mtime, size, device, rdevice (major and minor), name's size, checksum.
        write!(self.to, "070701{number:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}", 0, 1)?;
        write!(self.to, "{0:08x}{0:08x}{0:08x}{0:08x}{name:08x}{0:08x}{path}\0", 0)?;
        self.pad(110 + name)?;
        self.to.write_all(bytes)?;
        self.pad(size)
    }

    /// Headers and contents start at multiples of four bytes.
    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_everything_is_aligned() {
        let mut bytes = Vec::new();
        let mut cpio = Cpio { to: &mut bytes, written: BTreeSet::new() };
        cpio.file("usr/bin/a", b"hello", true).expect("written");
        cpio.file("usr/bin/a", b"again", true).expect("written");
        cpio.finish().expect("written");
        assert_eq!(bytes.len() % 4, 0);
        let heads: Vec<usize> =
            bytes.windows(6).enumerate().filter(|(_, w)| w == b"070701").map(|(at, _)| at).collect();
        let names: Vec<String> = heads
            .iter()
            .map(|at| bytes[at + 110..].iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect())
            .collect();
        assert_eq!(names, ["usr", "usr/bin", "usr/bin/a", "TRAILER!!!"]);
        assert!(heads.iter().all(|at| at % 4 == 0), "{heads:?}");
    }
}
