//! This program once more, inside a network namespace and a cgroup, until it is told to stop.
//!
//! A process of its own: socket hooks belong to a cgroup, and a process is in one.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::de::DeserializeOwned;
use xebec_netlink::{NETNS_DIR, Netns};

use crate::cluster::cgroup;
use crate::cluster::layout::{Layout, NodeNumber};
use crate::output::{self, say};

/// What the child says on a line of its own once it works.
const READY: &str = "ready";

/// Where a process runs; `None` is where its parent does.
#[derive(Args, Clone, Debug, Default)]
pub struct Place {
    /// Enter this network namespace
    #[arg(long)]
    pub netns: Option<PathBuf>,
    /// Join this cgroup
    #[arg(long)]
    pub cgroup: Option<PathBuf>,
}

impl Place {
    /// Among a node's own processes: in its network namespace, and in its cgroup, where the socket hooks are.
    ///
    /// # Errors
    /// Without cgroup2.
    pub fn node(layout: &Layout, node: NodeNumber) -> Result<Self> {
        let root = cgroup::unified().context("cgroup2 is not mounted")?;
        let name = node.name();
        let cgroup = Some(root.join(layout.cgroup(&name)).join("sys"));
        Ok(Self { cgroup, ..Self::namespace(layout, &name) })
    }

    /// In a network namespace of the cluster, by its role; no socket hook sees what happens there.
    pub fn namespace(layout: &Layout, role: &str) -> Self {
        Self { netns: Some(Path::new(NETNS_DIR).join(layout.netns(role))), cgroup: None }
    }

    /// Starts `xebec ARGS --netns … --cgroup …`, whose last output is JSON.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Running> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args);
        for (flag, value) in [("--netns", &self.netns), ("--cgroup", &self.cgroup)] {
            if let Some(value) = value {
                command.arg(flag).arg(value);
            }
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start a process")?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        Ok(Running { child, output })
    }

    /// In the child: joins the cgroup, and gives the namespace that threads are to enter.
    ///
    /// # Errors
    /// When one of them cannot be entered.
    pub fn enter(&self) -> Result<Netns> {
        if let Some(cgroup) = &self.cgroup {
            let path = cgroup.join("cgroup.procs");
            std::fs::write(&path, "0").with_context(|| format!("join {}", path.display()))?;
        }
        Ok(self.netns.as_ref().map_or_else(Netns::current, Netns::open)?)
    }
}

/// In the child: says that it works.
///
/// # Errors
/// When the parent is gone.
pub fn ready() -> Result<(), output::Error> {
    say!("{READY}")
}

/// In the child: blocks until the parent wants the report, or is gone.
///
/// # Errors
/// When standard input cannot be read.
pub fn until_told() -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new()).context("read standard input")?;
    Ok(())
}

/// Ends with the value.
pub struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Blocks until the child calls [`ready`].
    ///
    /// # Errors
    /// When it ends instead; it has said why.
    pub fn wait_ready(&mut self) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.trim_end() != READY {
            bail!("a process ended before it was ready: {}", self.child.wait()?);
        }
        Ok(())
    }

    /// # Errors
    /// When the child failed as a whole.
    pub fn stop<T: DeserializeOwned>(mut self) -> Result<T> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("a process ended with {status}");
        }
        serde_json::from_str(&text).context("read a process's report")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
