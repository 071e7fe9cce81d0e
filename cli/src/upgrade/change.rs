//! What is done to a node's agent, and when it is over.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xebec_agent::Config;
use xebec_datapath::{Datapath, MapLayout};

use crate::cluster::layout::{Layout, NodeNumber};
use crate::cluster::process::{bpffs, process};

/// An agent that dies again and again is started after up to 10 s; one that migrates loads its programs twice, which takes a
/// debug build on a busy machine some time.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Change {
    /// kill -9 of the agent
    Kill,
    /// SIGTERM of the agent
    Restart,
    /// SIGHUP of the agent: it loads its programs once more and puts them in place of those that run
    Swap,
    /// SIGTERM of the agent, and the next one gives the maps of flows another layout, or the usual one again
    Migrate,
}

impl Change {
    pub const ALL: [Self; 4] = [Self::Kill, Self::Restart, Self::Swap, Self::Migrate];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Kill => "agent killed and started again",
            Self::Restart => "agent restarted",
            Self::Swap => "programs swapped",
            Self::Migrate => "map layouts migrated",
        }
    }

    const fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::SIGKILL,
            Self::Restart | Self::Migrate => Signal::SIGTERM,
            Self::Swap => Signal::SIGHUP,
        }
    }

    /// Makes the change, and waits until every link of the node runs another program than before, and the maps of its flows
    /// have their layout.
    ///
    /// # Errors
    /// When it does not come to that within three minutes.
    pub async fn apply(self, layout: &Layout, node: NodeNumber) -> Result<()> {
        let rehearsal = Config::rehearsal(&layout.node_run(node));
        if self == Self::Migrate {
            toggle(&rehearsal).with_context(|| format!("change {}", rehearsal.display()))?;
        }
        let wanted = if rehearsal.exists() { MapLayout::Rehearsal } else { MapLayout::Current };
        let deadline = Instant::now() + PATIENCE;
        let before = programs(layout, node)?;
        let agent = loop {
            match process(layout, node, "agent") {
                Ok(agent) => break agent,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        kill(Pid::from_raw(agent.pid), self.signal())
            .with_context(|| format!("signal the agent of {}", node.name()))?;
        loop {
            let left = programs(layout, node)?.iter().filter(|(link, id)| before.get(*link) == Some(*id)).count();
            let found = Datapath::map_layout(&bpffs(layout, node)?, &node.name());
            if left == 0 && matches!(found, Ok(Some(found)) if found == wanted) {
                return Ok(());
            }
            if Instant::now() > deadline {
                found.with_context(|| format!("read the layout of the maps of {}", node.name()))?;
                bail!(
                    "{}: {left} of {} links still run the old program, or maps are still being migrated",
                    node.name(),
                    before.len()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Gives the maps of a node's flows their usual layout, if they have another.
///
/// # Errors
/// As [`Change::apply`].
pub async fn usual_layout(layout: &Layout, node: NodeNumber) -> Result<()> {
    if Config::rehearsal(&layout.node_run(node)).exists() { Change::Migrate.apply(layout, node).await } else { Ok(()) }
}

fn toggle(file: &Path) -> std::io::Result<()> {
    if file.exists() { fs::remove_file(file) } else { fs::write(file, "") }
}

/// The id of the program of each link of a node's datapath.
fn programs(layout: &Layout, node: NodeNumber) -> Result<BTreeMap<String, u32>> {
    let programs = xebec_datapath::programs(&bpffs(layout, node)?, &node.name())?;
    if programs.is_empty() {
        bail!("{} has no pinned links: is its datapath up?", node.name());
    }
    Ok(programs)
}
