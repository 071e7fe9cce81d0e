//! The running programs of a cluster's nodes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xebec_agent::process::Process;

use super::layout::{Layout, NodeNumber};

/// `agent` or `containerd` of a node.
///
/// # Errors
/// When it is not running.
pub fn process(layout: &Layout, node: NodeNumber, unit: &str) -> Result<Process> {
    let unit = format!("{}.{unit}", node.name());
    let found = Process::load(&layout.run().join(format!("{unit}.pid")));
    found.with_context(|| format!("{unit} is not running: `xebec status` says what is"))
}

/// The node's bpf filesystem, through a process that has it mounted and lives on while agents restart.
///
/// # Errors
/// When the node's containerd is not running.
pub fn bpffs(layout: &Layout, node: NodeNumber) -> Result<PathBuf> {
    let containerd = process(layout, node, "containerd")?;
    Ok(Path::new("/proc").join(containerd.pid.to_string()).join("root/sys/fs/bpf"))
}
