//! `xebec backup` and `xebec restore`: the objects, the certificates and the keys of a control plane in one file.

mod archive;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use xebec_apiserver::pki::write_secret;
use xebec_store::backup::{self, Pages};
use xebec_store::{Revision, embedded};

use crate::output::say;
use crate::server::{identity, store};
use archive::{Item, Reader, Writer};

/// What a control plane has in its data directory besides objects: without them no node and no token of before is known.
const KEYS: [&str; 2] = ["pki", "join-token"];
/// Revisions after a restore are greater than any that a client can have seen since the backup, so that its watches end
/// instead of going on in another history (as `etcdutl snapshot restore --bump-revision`).
const REVISION_BUMP: u64 = 1_000_000_000;

#[derive(Args)]
pub struct Backup {
    /// Written whole or not at all; whoever reads it has every secret of the cluster
    file: PathBuf,
    #[command(flatten)]
    store: store::StoreFlags,
}

#[derive(Args)]
pub struct Restore {
    file: PathBuf,
    #[command(flatten)]
    store: store::StoreFlags,
    /// Replace what the store and the data directory hold
    #[arg(long)]
    force: bool,
}

impl Backup {
    /// # Errors
    /// When something cannot be read, or the file not be written; then it is as it was.
    pub async fn run(self) -> Result<()> {
        let partial = self.file.with_extension("partial");
        let written = self.write(&partial).await;
        if written.is_err() {
            let _best_effort = std::fs::remove_file(&partial);
        }
        let (objects, revision) = written?;
        std::fs::rename(&partial, &self.file).with_context(|| format!("write {}", self.file.display()))?;
        say!("{}: {objects} objects at revision {revision}", self.file.display())?;
        Ok(())
    }

    async fn write(&self, partial: &Path) -> Result<(u64, Revision)> {
        let store = self.store.look().await?;
        let mut archive = Writer::create(partial)?;
        for name in KEYS {
            archive.tree(&self.store.data_dir, Path::new(name))?;
        }
        let mut pages = Pages::new(&*store);
        let mut last = Revision(0);
        while let Some((entries, revision)) = pages.next().await.context("read the objects")? {
            archive.page(&entries)?;
            last = revision;
        }
        Ok((archive.finish(last)?, last))
    }
}

impl Restore {
    /// # Errors
    /// When the file is incomplete, when there is something to lose, or when a server runs.
    pub async fn run(self) -> Result<()> {
        let dir = &self.store.data_dir;
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let (_, _lock) = identity::claim(dir)?;
        // The whole file is read before anything is changed.
        let end = archive::verify(&self.file)?;
        let kept = KEYS.iter().map(|name| dir.join(name)).find(|path| path.exists());
        if let Some(path) = kept.filter(|_| !self.force) {
            bail!("{} exists already; --force replaces it", path.display());
        }
        if self.store.is_embedded() { self.embedded(end.revision).await } else { self.etcd().await }?;
        self.keys()?;
        say!("{}: {} objects restored", self.file.display(), end.objects)?;
        Ok(())
    }

    fn keys(&self) -> Result<()> {
        for item in Reader::open(&self.file)?.items()? {
            if let Item::File(path, bytes) = item? {
                let path = self.store.data_dir.join(path);
                let parent = path.parent().unwrap_or(Path::new("/"));
                std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
                write_secret(&path, bytes)?;
            }
        }
        Ok(())
    }

    async fn embedded(&self, revision: u64) -> Result<()> {
        let (file, db, force) = (self.file.clone(), self.store.db(), self.force);
        let work = move || -> Result<()> {
            let mut reader = Reader::open(&file)?;
            let pages = reader.items()?.filter_map(|item| match item {
                Ok(Item::Page(entries)) => Some(Ok(entries)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            });
            let entries = pages.flat_map(|page| match page {
                Ok(entries) => entries.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(xebec_store::Error::Unavailable {
                    operation: "read the backup",
                    source: error.into_boxed_dyn_error(),
                })],
            });
            embedded::restore(&db, Revision(revision + REVISION_BUMP), entries, force).context(hint(force))?;
            Ok(())
        };
        tokio::task::spawn_blocking(work).await?
    }

    /// Objects get revisions of that etcd: what a client saw before is either compacted there or not reached yet.
    async fn etcd(&self) -> Result<()> {
        let store = self.store.open().await?;
        if !backup::is_empty(&*store).await? {
            if !self.force {
                bail!("etcd holds objects already; --force replaces them");
            }
            backup::clear(&*store).await.context("remove the objects of before")?;
        }
        for item in Reader::open(&self.file)?.items()? {
            if let Item::Page(entries) = item? {
                let writes = entries.iter().map(|entry| backup::write(&*store, entry));
                futures::future::try_join_all(writes).await.context("write objects")?;
            }
        }
        let newest = store.current_revision().await?;
        store.compact(newest).await.context("compact")
    }
}

fn hint(force: bool) -> &'static str {
    if force { "restore the store" } else { "restore the store (--force replaces what is there)" }
}
