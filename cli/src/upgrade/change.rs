//! What is done to a node's agent, and when it is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::layout::{Layout, NodeNumber};
use crate::cluster::process::{bpffs, process};

/// An agent that dies again and again is started after up to 10 s.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Change {
    /// kill -9 of the agent
    Kill,
    /// SIGTERM of the agent
    Restart,
    /// SIGHUP of the agent: it loads its programs once more and puts them in place of those that run
    Swap,
}

impl Change {
    pub const ALL: [Self; 3] = [Self::Kill, Self::Restart, Self::Swap];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Kill => "agent killed and started again",
            Self::Restart => "agent restarted",
            Self::Swap => "programs swapped",
        }
    }

    const fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::SIGKILL,
            Self::Restart => Signal::SIGTERM,
            Self::Swap => Signal::SIGHUP,
        }
    }

    /// Makes the change, and waits until every link of the node runs another program than before.
    ///
    /// # Errors
    /// When it does not come to that within a minute.
    pub async fn apply(self, layout: &Layout, node: NodeNumber) -> Result<()> {
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
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{}: {left} of {} links still run the old program", node.name(), before.len());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The id of the program of each link of a node's datapath.
fn programs(layout: &Layout, node: NodeNumber) -> Result<BTreeMap<String, u32>> {
    let programs = xebec_datapath::programs(&bpffs(layout, node)?, &node.name())?;
    if programs.is_empty() {
        bail!("{} has no pinned links: is its datapath up?", node.name());
    }
    Ok(programs)
}
