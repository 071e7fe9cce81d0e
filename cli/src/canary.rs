//! `xebec canary`: what the agent runs in a pod's cgroup to see whether the datapath's hooks work there.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use xebec_agent::canary::{Outcomes, dial};

use crate::output::say;

#[derive(Args)]
pub struct Canary {
    /// Join this cgroup first
    #[arg(long)]
    cgroup: PathBuf,
    /// A service to dial; may be given several times
    #[arg(long = "frontend", required = true)]
    frontends: Vec<SocketAddr>,
}

impl Canary {
    /// Prints each hook with what is wrong with it, as JSON.
    ///
    /// # Errors
    /// When the cgroup cannot be joined.
    pub fn run(&self) -> Result<()> {
        let procs = self.cgroup.join("cgroup.procs");
        // 0 is the process that writes (cgroups(7)).
        std::fs::write(&procs, "0").with_context(|| format!("write {}", procs.display()))?;
        let outcomes: Outcomes = self.frontends.iter().copied().flat_map(dial).collect();
        say!("{}", serde_json::to_string(&outcomes)?)?;
        Ok(())
    }
}
