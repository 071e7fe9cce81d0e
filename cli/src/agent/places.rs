//! Where on its host a node is: the flags that `xebec agent` and `xebec agent reset` share.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::fcntl::Flock;
use xebec_agent::process::{self, Process};
use xebec_agent::reset::LOCK;

#[derive(Args)]
pub struct Places {
    /// [default: the host name]
    #[arg(long)]
    node_name: Option<String>,
    /// Certificates, pods, logs: kept over restarts
    #[arg(long, default_value = "/var/lib/xebec/agent")]
    pub data_dir: PathBuf,
    /// Sockets and pid files
    #[arg(long, default_value = "/run/xebec")]
    pub run_dir: PathBuf,
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    pub container_runtime_endpoint: PathBuf,
    #[arg(long, default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// A mounted bpf filesystem
    #[arg(long, default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
    /// The node's cgroup, below the root of every hierarchy [default: /xebec/NODE]
    #[arg(long)]
    cgroup_root: Option<String>,
}

impl Places {
    /// # Errors
    /// When the host has no name.
    pub fn node_name(&self) -> Result<String> {
        self.node_name.clone().map_or_else(host_name, Ok)
    }

    /// # Errors
    /// As [`Places::node_name`].
    pub fn cgroup_root(&self) -> Result<String> {
        self.cgroup_root.clone().map_or_else(|| Ok(format!("/xebec/{}", self.node_name()?)), Ok)
    }

    /// Keeps every other agent, and `xebec agent reset`, away from this node until the value is dropped.
    ///
    /// # Errors
    /// When one of them runs.
    pub fn lock(&self) -> Result<Flock<File>> {
        lock(&self.run_dir)
    }
}

fn lock(run_dir: &Path) -> Result<Flock<File>> {
    let dir = run_dir.display();
    fs::create_dir_all(run_dir).with_context(|| format!("create {dir}"))?;
    let path = run_dir.join(LOCK);
    let Some(lock) = process::lock(&path).with_context(|| format!("lock {}", path.display()))? else {
        let who = Process::load(&path).map_or_else(String::new, |process| format!(" (process {})", process.pid));
        bail!("xebec agent{who} runs with --run-dir {dir}: stop it first, such as with `systemctl stop xebec-agent`");
    };
    Ok(lock)
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("read the host name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_agent_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let run_dir = dir.path().join("run");
        let held = lock(&run_dir).expect("nobody has it");
        let refused = lock(&run_dir).expect_err("taken").to_string();
        let own = format!("xebec agent (process {}) runs with --run-dir {}", std::process::id(), run_dir.display());
        assert!(refused.starts_with(&own), "{refused}");
        drop(held);
        assert!(lock(&run_dir).is_ok());
    }
}
