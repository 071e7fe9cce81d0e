//! `xebec upgrade prove`: flows between pods, nodes and outside while agents die, restart, change their programs and the
//! layout of their maps, and everything that was lost.

mod change;
mod flow;
mod load;
mod serve;
mod stage;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::DEFAULT_DIR;
use crate::cluster::layout::{Layout, NodeNumber};
use crate::cluster::spec::{Spec, word};
use crate::inside::Running;
use crate::output::say;
use change::{Change, usual_layout};
use flow::Counts;
use stage::Stage;

#[derive(Args)]
pub struct Upgrade {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Kill, restart and reload the agents of a cluster that `xebec up` made, and migrate their maps to another layout and
    /// back, and say which packets and connections were lost
    Prove(Prove),
    /// What flows talk to; `prove` starts it
    #[command(hide = true)]
    Serve(serve::Serve),
    /// Flows from one place; `prove` starts it
    #[command(hide = true)]
    Load(load::Load),
}

#[derive(Args)]
struct Prove {
    /// How often each kind of change is made, node after node
    #[arg(long, default_value_t = 50)]
    runs: u32,
    /// Only these kinds of change
    #[arg(long, value_delimiter = ',', value_name = "KIND,...")]
    only: Vec<Change>,
    /// The cluster's directory
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
}

impl Upgrade {
    /// # Errors
    /// A cluster that does not work, a change that does not end, or anything that was lost.
    pub async fn run(self) -> Result<()> {
        match self.command {
            Command::Prove(prove) => prove.run().await,
            Command::Serve(serve) => serve.run(),
            Command::Load(load) => load.run(),
        }
    }
}

impl Prove {
    async fn run(self) -> Result<()> {
        let layout = Layout::new(&self.dir)?;
        let spec = Spec::load(&layout)?;
        let spec = spec.with_context(|| format!("no cluster in {}: name another --dir", layout.dir().display()))?;
        let client = xebec_client::connection::from_kubeconfig(&layout.kubeconfig()).await?;
        let stage = Stage::new(client, &layout, &spec).await?;
        let outcome = self.prove(&stage, &layout, &spec).await;
        let restored = restore(&layout, &spec).await;
        stage.remove().await?;
        let faults = outcome?;
        restored?;
        if faults > 0 {
            bail!("{faults} faults");
        }
        Ok(())
    }

    /// How much was lost, duplicated or reset.
    async fn prove(&self, stage: &Stage, layout: &Layout, spec: &Spec) -> Result<u64> {
        let mut faults = 0;
        for change in Change::ALL.into_iter().filter(|change| self.only.is_empty() || self.only.contains(change)) {
            let start = Instant::now();
            let flows = stage.start()?;
            let mut changed = Ok(());
            let mut runs = 0;
            for (node, _) in (0..spec.nodes).cycle().zip(0..self.runs) {
                changed = change.apply(layout, NodeNumber(node + 1)).await;
                if changed.is_err() {
                    break;
                }
                runs += 1;
            }
            // What a change breaks may show a moment later.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let total = report(change, runs, start.elapsed(), flows)?;
            faults += total.faults();
            changed?;
        }
        Ok(faults)
    }
}

/// Gives every node's maps their usual layout.
async fn restore(layout: &Layout, spec: &Spec) -> Result<()> {
    for node in 0..spec.nodes {
        usual_layout(layout, NodeNumber(node + 1)).await?;
    }
    Ok(())
}

/// Prints a line for the change, and one for each flow that it harmed.
fn report(change: Change, runs: u32, time: Duration, flows: Vec<Running>) -> Result<Counts> {
    let (mut total, mut harmed) = (Counts::default(), Vec::new());
    for flow in flows {
        for (name, counts) in flow.stop::<load::Report>()? {
            total = total.join(counts);
            if counts.faults() > 0 {
                harmed.push(format!("  {name}: {counts}"));
            }
        }
    }
    say!("{} ({}), {runs} times in {:.0} s: {total}", change.title(), word(change), time.as_secs_f64())?;
    harmed.iter().try_for_each(|line| say!("{line}"))?;
    Ok(total)
}
