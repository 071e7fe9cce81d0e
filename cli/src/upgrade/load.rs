//! Flows from one place to several targets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Args;

use super::flow::{Counts, Kind, wait_answers};
use crate::inside::{Place, Running, ready, until_told};
use crate::output::say;

/// What is dialled, and what a person calls it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub name: String,
    pub address: SocketAddr,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.rsplit_once('=').ok_or("must be NAME=ADDRESS:PORT")?;
        let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
        Ok(Self { name: name.to_owned(), address })
    }
}

/// By kind of flow and target.
pub type Report = BTreeMap<String, Counts>;

#[derive(Args)]
pub struct Load {
    #[arg(long, required = true)]
    to: Vec<Target>,
    #[command(flatten)]
    place: Place,
}

impl Load {
    /// In a process of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(place: &Place, targets: &[Target]) -> Result<Running> {
        let targets = targets.iter().map(|target| format!("--to={}={}", target.name, target.address));
        place.start(["upgrade".to_owned(), "load".to_owned()].into_iter().chain(targets))
    }

    /// Waits for all targets to answer, works until standard input ends, then prints the report.
    ///
    /// # Errors
    /// When a target does not answer at first.
    pub fn run(&self) -> Result<()> {
        let netns = self.place.enter()?;
        for target in &self.to {
            netns.run(|| wait_answers(target.address))?.with_context(|| target.name.clone())?;
        }
        let stop = AtomicBool::new(false);
        let report = std::thread::scope(|scope| -> Result<Report> {
            let mut flows = Vec::new();
            for target in &self.to {
                for kind in Kind::ALL {
                    let name = format!("{} {}", kind.name(), target.name);
                    let (netns, stop) = (&netns, &stop);
                    flows.push((name, scope.spawn(move || netns.run(|| kind.run(target.address, stop)))));
                }
            }
            let told = ready().map_err(Into::into).and_then(|()| until_told());
            stop.store(true, Ordering::Relaxed);
            let mut report = Report::new();
            for (name, flow) in flows {
                let counts = flow.join().map_err(|_| anyhow::anyhow!("a flow panicked"))?;
                report.insert(name, counts??);
            }
            told.map(|()| report)
        })?;
        say!("{}", serde_json::to_string(&report)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_and_an_address() {
        let target: Target = "pod to service=10.96.0.7:80".parse().expect("a target");
        assert_eq!((target.name.as_str(), target.address.to_string().as_str()), ("pod to service", "10.96.0.7:80"));
        "10.96.0.7:80".parse::<Target>().expect_err("no name");
        "name=10.96.0.7".parse::<Target>().expect_err("no port");
    }
}
