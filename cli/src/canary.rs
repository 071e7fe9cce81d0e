//! `xebec canary`: what the agent runs in a pod's cgroup to see whether the datapath's hooks work there.

use std::net::SocketAddrV4;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::output::say;

#[derive(Args)]
pub struct Canary {
    /// Join this cgroup first
    #[arg(long)]
    cgroup: PathBuf,
    /// The service to dial
    #[arg(long)]
    frontend: SocketAddrV4,
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
        say!("{}", serde_json::to_string(&xebec_agent::canary::dial(self.frontend))?)?;
        Ok(())
    }
}
