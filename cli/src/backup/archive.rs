//! The file: a compressed tar archive of `pki/…`, `join-token`, pages of objects and, as the last entry, what it must hold.
//!
//! A page is `objects/<number>.jsonl`, one object a line, so that `tar -xzO` and `jq` read a backup too.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xebec_store::{Entry, Revision};

const END: &str = "end.json";
const PAGES: &str = "objects";
const FORMAT: u32 = 1;

/// The last entry; without it the archive was cut off.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    format: u32,
    pub revision: u64,
    pub objects: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    key: &'a str,
    create_revision: u64,
    mod_revision: u64,
    #[serde(borrow)]
    value: &'a RawValue,
}

pub enum Item {
    /// Below the data directory.
    File(PathBuf, Vec<u8>),
    Page(Vec<Entry>),
    End(End),
}

pub struct Writer {
    tar: tar::Builder<GzEncoder<BufWriter<File>>>,
    pages: u64,
    objects: u64,
}

impl Writer {
    pub fn create(path: &Path) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options().create(true).truncate(true).write(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("create {}", path.display()))?;
        let gzip = GzEncoder::new(BufWriter::new(file), Compression::fast());
        Ok(Self { tar: tar::Builder::new(gzip), pages: 0, objects: 0 })
    }

    /// The file or directory `name` of `dir`, if it exists.
    pub fn tree(&mut self, dir: &Path, name: &Path) -> Result<()> {
        let path = dir.join(name);
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
            for entry in entries {
                self.tree(dir, &name.join(entry?.file_name()))?;
            }
        } else if path.is_file() {
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            self.add(name, &bytes)?;
        }
        Ok(())
    }

    pub fn page(&mut self, entries: &[Entry]) -> Result<()> {
        let mut text = Vec::new();
        for entry in entries {
            let value: &RawValue =
                serde_json::from_slice(&entry.value).with_context(|| format!("{} is not JSON", entry.key))?;
            let (create_revision, mod_revision) = (entry.create_revision.0, entry.mod_revision.0);
            serde_json::to_writer(&mut text, &Line { key: &entry.key, create_revision, mod_revision, value })?;
            text.push(b'\n');
        }
        self.pages += 1;
        self.objects += entries.len() as u64;
        self.add(Path::new(&format!("{PAGES}/{:06}.jsonl", self.pages)), &text)
    }

    /// Completes the file and makes it durable; says how many objects it holds.
    pub fn finish(mut self, revision: Revision) -> Result<u64> {
        let end = End { format: FORMAT, revision: revision.0, objects: self.objects };
        self.add(Path::new(END), &serde_json::to_vec(&end)?)?;
        let mut buffer = self.tar.into_inner()?.finish()?;
        buffer.flush()?;
        buffer.get_ref().sync_all()?;
        Ok(end.objects)
    }

    fn add(&mut self, name: &Path, bytes: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        self.tar.append_data(&mut header, name, bytes).with_context(|| format!("write {}", name.display()))
    }
}

pub struct Reader(tar::Archive<GzDecoder<BufReader<File>>>);

impl Reader {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self(tar::Archive::new(GzDecoder::new(BufReader::new(file)))))
    }

    pub fn items(&mut self) -> Result<impl Iterator<Item = Result<Item>> + '_> {
        let entries = self.0.entries().context("read the backup")?;
        Ok(entries.map(|entry| item(entry.context("read the backup")?)))
    }
}

/// Reads the whole file: complete, and nothing in it leads out of the data directory.
pub fn verify(path: &Path) -> Result<End> {
    let (mut objects, mut end) = (0, None);
    let mut reader = Reader::open(path)?;
    for item in reader.items()? {
        match item.with_context(|| format!("{} is no backup, or is damaged", path.display()))? {
            Item::Page(entries) => objects += entries.len() as u64,
            Item::End(found) => end = Some(found),
            Item::File(..) => {}
        }
    }
    // The checksum comes after what an archive's reader reads.
    std::io::copy(&mut reader.0.into_inner(), &mut std::io::sink())
        .with_context(|| format!("{} is damaged", path.display()))?;
    let Some(end) = end else { bail!("{} is incomplete", path.display()) };
    ensure!(end.format == FORMAT, "{} has format {}, and this program reads {FORMAT}", path.display(), end.format);
    ensure!(end.objects == objects, "{} holds {objects} of {} objects", path.display(), end.objects);
    Ok(end)
}

fn item(mut entry: tar::Entry<'_, impl Read>) -> Result<Item> {
    let path = entry.path()?.into_owned();
    ensure!(path.components().all(|c| matches!(c, Component::Normal(_))), "{} leads elsewhere", path.display());
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    if path == Path::new(END) {
        return Ok(Item::End(serde_json::from_slice(&bytes)?));
    }
    if !path.starts_with(PAGES) {
        return Ok(Item::File(path, bytes));
    }
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let entries = lines.map(|line| {
        let line: Line<'_> = serde_json::from_slice(line)?;
        Ok(Entry {
            key: line.key.into(),
            value: bytes::Bytes::copy_from_slice(line.value.get().as_bytes()),
            create_revision: Revision(line.create_revision),
            mod_revision: Revision(line.mod_revision),
        })
    });
    Ok(Item::Page(entries.collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path) -> PathBuf {
        std::fs::create_dir(dir.join("pki")).expect("a directory");
        std::fs::write(dir.join("pki/ca.crt"), "certificate").expect("a file");
        let entry = |name: &str| Entry {
            key: format!("/registry/core/configmaps/ns/{name}").into(),
            value: format!(r#"{{"data":{{"quote":"\"{name}\n"}}}}"#).replace('\n', "\\n").into(),
            create_revision: Revision(3),
            mod_revision: Revision(7),
        };
        let path = dir.join("file");
        let mut archive = Writer::create(&path).expect("a new file");
        archive.tree(dir, Path::new("pki")).expect("certificates");
        archive.tree(dir, Path::new("join-token")).expect("what is not there is left out");
        archive.page(&[entry("a"), entry("b")]).expect("a page");
        archive.page(&[entry("c")]).expect("a page");
        assert_eq!(archive.finish(Revision(9)).expect("an end"), 3);
        path
    }

    #[test]
    fn a_backup_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = written(dir.path());
        let end = verify(&path).expect("complete");
        assert_eq!((end.objects, end.revision), (3, 9));
        let (mut files, mut keys) = (Vec::new(), Vec::new());
        for item in Reader::open(&path).expect("open").items().expect("items") {
            match item.expect("readable") {
                Item::File(path, bytes) => files.push((path, bytes)),
                Item::Page(entries) => keys.extend(entries.into_iter().map(|e| (e.key, e.value, e.mod_revision.0))),
                Item::End(_) => {}
            }
        }
        assert_eq!(files, [(PathBuf::from("pki/ca.crt"), b"certificate".to_vec())]);
        assert_eq!(keys.len(), 3);
        assert_eq!(keys[2].0.as_ref(), "/registry/core/configmaps/ns/c");
        assert_eq!((keys[2].1.as_ref(), keys[2].2), (br#"{"data":{"quote":"\"c\n"}}"#.as_slice(), 7));
    }

    #[test]
    fn a_backup_that_was_cut_off_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = written(dir.path());
        let whole = std::fs::read(&path).expect("the file");
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).expect("a shorter file");
            assert!(verify(&path).is_err(), "{length} of {} bytes", whole.len());
        }
    }
    /// With a compression that is whole, so that what is inside is read.
    #[test]
    fn a_backup_that_was_changed_is_read_or_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = written(dir.path());
        let mut whole = Vec::new();
        GzDecoder::new(File::open(&path).expect("the file")).read_to_end(&mut whole).expect("compressed");
        let (mut random, mut refused) = (xebec_fuzz::Random::new(7), 0);
        for _ in 0..2_000 {
            let mut changed = whole.clone();
            random.change(&mut changed, std::slice::from_ref(&whole));
            let mut gzip = GzEncoder::new(File::create(&path).expect("a file"), Compression::fast());
            gzip.write_all(&changed).expect("written");
            gzip.finish().expect("written");
            match verify(&path) {
                Ok(end) => assert_eq!(end.objects, 3),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 100, "{refused} refused");
    }
}
