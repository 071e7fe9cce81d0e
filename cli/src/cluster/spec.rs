//! What the user asked of `xebec up`: written once, read by the supervisor, `up`, `down` and `image`.

use std::fs;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::layout::{Layout, NodeNumber};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A log on local disk inside the server process
    Embedded,
    /// An etcd beside the server
    Etcd,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutingKind {
    /// Pods on other nodes are reached through a VXLAN tunnel
    Vxlan,
    /// Pods on other nodes are reached by routes through the nodes' addresses
    Native,
}

/// A cluster on this machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Spec {
    pub nodes: u32,
    pub store: StoreKind,
    pub routing: RoutingKind,
    /// The API server's port on 127.0.0.1 of the host.
    pub port: u16,
}

impl Spec {
    pub fn nodes(&self) -> impl Iterator<Item = NodeNumber> + use<> {
        (1..=self.nodes).map(NodeNumber)
    }

    /// The cluster's spec, or `None` when none was ever made in this directory.
    ///
    /// # Errors
    /// When the file cannot be read or is not a spec.
    pub fn load(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.spec();
        match fs::read(&path) {
            Ok(bytes) => {
                let spec = serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
                Ok(Some(spec))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Writes the spec so that a crash leaves the old file or the new one.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        let path = layout.spec();
        let temporary = path.with_extension("tmp");
        let write = || {
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    /// Refuses what a running or kept cluster cannot become.
    ///
    /// # Errors
    /// Names the flag that differs and what to do.
    pub fn accept(&self, nodes: Option<u32>, store: Option<StoreKind>, routing: Option<RoutingKind>) -> Result<()> {
        let differs = |flag: &str, was: String, wanted: String| -> Result<()> {
            bail!("this cluster was made with --{flag} {was}; for --{flag} {wanted} run `xebec down` on it first")
        };
        match (nodes, store, routing) {
            (Some(nodes), _, _) if nodes != self.nodes => differs("nodes", self.nodes.to_string(), nodes.to_string()),
            (_, Some(store), _) if store != self.store => differs("store", word(self.store), word(store)),
            (_, _, Some(routing)) if routing != self.routing => differs("routing", word(self.routing), word(routing)),
            _ => Ok(()),
        }
    }
}

/// A flag's value as the user writes it.
pub fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
