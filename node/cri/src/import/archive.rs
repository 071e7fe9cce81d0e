//! Random access to a tar file: an index of its entries, bytes read on demand.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::Source;
use crate::{Error, Result};

/// Manifests, indexes and image configs are small; anything larger is not one.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

pub(super) struct Archive {
    file: File,
    entries: HashMap<String, Extent>,
}

#[derive(Clone, Copy)]
pub(super) struct Extent {
    offset: u64,
    pub size: u64,
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_owned();
    move |error| Error::Archive(format!("{what}: {error}"))
}

/// `./blobs//x` and `blobs/x` are one name.
fn clean(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

/// A link's target as an archive path, relative to the directory of the link.
fn resolve(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Archive {
    pub fn open(source: Source) -> Result<Self> {
        let mut file = match source {
            Source::File(path) => File::open(&path).map_err(Error::io("open", &path))?,
            Source::Stream(mut stream) => spool(&mut stream)?,
        };
        file.seek(SeekFrom::Start(0)).map_err(failed("read archive"))?;
        let mut magic = [0; 2];
        let read = file.read_at(&mut magic, 0).map_err(failed("read archive"))?;
        if read == magic.len() && magic == GZIP_MAGIC {
            file = spool(&mut flate2::read::MultiGzDecoder::new(file))?;
        }
        file.seek(SeekFrom::Start(0)).map_err(failed("read archive"))?;
        let entries = index(&file)?;
        Ok(Self { file, entries })
    }

    pub fn has(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    pub fn extent(&self, path: &str) -> Result<Extent> {
        self.entries.get(&clean(path)).copied().ok_or_else(|| Error::Archive(format!("the archive has no file {path}")))
    }

    pub fn document(&self, path: &str) -> Result<Vec<u8>> {
        let extent = self.extent(path)?;
        if extent.size > DOCUMENT_BYTES_MAX {
            return Err(Error::Archive(format!("{path} has {} bytes: too many for a manifest", extent.size)));
        }
        self.chunk(extent, 0, usize::try_from(extent.size).unwrap_or_default())
    }

    /// At most `length` bytes of an entry from `position` on; empty at its end.
    pub fn chunk(&self, extent: Extent, position: u64, length: usize) -> Result<Vec<u8>> {
        let left = usize::try_from(extent.size.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        self.file.read_exact_at(&mut bytes, extent.offset + position).map_err(failed("read archive"))?;
        Ok(bytes)
    }

    pub fn digest(&self, extent: Extent) -> Result<String> {
        let mut hash = Sha256::new();
        let mut position = 0;
        loop {
            let bytes = self.chunk(extent, position, 1 << 20)?;
            if bytes.is_empty() {
                return Ok(hex(hash));
            }
            position += bytes.len() as u64;
            hash.update(&bytes);
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

fn spool(stream: &mut dyn Read) -> Result<File> {
    let mut file = tempfile::tempfile().map_err(failed("create spool file"))?;
    io::copy(stream, &mut file).map_err(failed("read archive"))?;
    Ok(file)
}

fn index(file: &File) -> Result<HashMap<String, Extent>> {
    let mut archive = tar::Archive::new(file);
    let (mut entries, mut links) = (HashMap::new(), Vec::new());
    for entry in archive.entries_with_seek().map_err(failed("read tar"))? {
        let entry = entry.map_err(failed("read tar"))?;
        let path = clean(&entry.path().map_err(failed("read tar"))?.to_string_lossy());
        let target = entry.link_name().map_err(failed("read tar"))?.map(|t| t.to_string_lossy().into_owned());
        match (entry.header().entry_type(), target) {
            (tar::EntryType::Regular | tar::EntryType::Continuous, _) => {
                entries.insert(path, Extent { offset: entry.raw_file_position(), size: entry.size() });
            }
            (tar::EntryType::Symlink, Some(target)) => links.push((path.clone(), resolve(&path, &target))),
            (tar::EntryType::Link, Some(target)) => links.push((path, clean(&target))),
            _ => {}
        }
    }
    // Old `docker save` archives share layers between images by links, some of them to links.
    for _ in 0..links.len().min(16) {
        for (path, target) in &links {
            if let Some(extent) = entries.get(target).copied() {
                entries.entry(path.clone()).or_insert(extent);
            }
        }
    }
    Ok(entries)
}
