//! Where a server keeps its objects.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use xebec_store::{Store, embedded, etcd};

#[derive(Args)]
pub struct StoreFlags {
    /// Objects, certificates and keys
    #[arg(long, default_value = "/var/lib/xebec/server")]
    pub data_dir: PathBuf,
    /// Keep objects in this etcd instead of the embedded store; several, separated by commas
    #[arg(long, value_delimiter = ',')]
    etcd_servers: Vec<String>,
    #[arg(long, requires = "etcd_servers")]
    etcd_cafile: Option<PathBuf>,
    #[arg(long, requires = "etcd_servers")]
    etcd_certfile: Option<PathBuf>,
    #[arg(long, requires = "etcd_servers")]
    etcd_keyfile: Option<PathBuf>,
}

impl StoreFlags {
    pub fn is_embedded(&self) -> bool {
        self.etcd_servers.is_empty()
    }

    /// The embedded store's directory.
    pub fn db(&self) -> PathBuf {
        self.data_dir.join("db")
    }

    /// # Errors
    /// When the store cannot be opened, or is another process's.
    pub async fn open(&self) -> Result<Arc<dyn Store>> {
        if !self.is_embedded() {
            return self.etcd().await;
        }
        let store = embedded::open(self.db()).await;
        Ok(Arc::new(store.with_context(|| format!("open the store in {}", self.db().display()))?))
    }

    /// For reading, also beside a running server.
    ///
    /// # Errors
    /// When there is no store, or it cannot be read.
    pub async fn look(&self) -> Result<Arc<dyn Store>> {
        if !self.is_embedded() {
            return self.etcd().await;
        }
        let store = embedded::look(self.db()).await;
        Ok(Arc::new(store.with_context(|| format!("read the store in {}", self.db().display()))?))
    }

    async fn etcd(&self) -> Result<Arc<dyn Store>> {
        let tls = self.etcd_cafile.is_some().then(|| etcd::Tls {
            ca_file: self.etcd_cafile.clone(),
            cert_file: self.etcd_certfile.clone(),
            key_file: self.etcd_keyfile.clone(),
        });
        let store = etcd::connect(&self.etcd_servers, tls).await;
        Ok(Arc::new(store.with_context(|| format!("use etcd at {}", self.etcd_servers.join(",")))?))
    }
}
