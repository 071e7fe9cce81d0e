//! `cargo xtask bench`: builds and runs the benchmarks, which print a table.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{images, setup, sh, up};

#[derive(Args)]
pub struct Bench {
    /// Run only the groups whose name contains this: services, programming, connect, packets, pods, outside, live, api, cluster
    #[arg(long)]
    only: Option<String>,
    /// Few repetitions: shows that every benchmark runs
    #[arg(long)]
    smoke: bool,
    /// Also write the figures here, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Bench {
    /// Every benchmark once, shortened.
    pub fn smoke() -> Self {
        Self { only: None, smoke: true, json: None }
    }

    /// # Errors
    /// When something cannot be built, or a benchmark fails.
    pub fn run(&self) -> Result<()> {
        setup::run()?;
        let xebec = up::release()?;
        sh::run(sh::cargo().args(["build", "--quiet", "--release", "-p", "xebec-bench"]))?;
        let mut command = sh::command(sh::target_dir().join("release/bench"));
        command.env("XEBEC", xebec).env("XEBEC_DEMO_IMAGE", images::demo()?);
        if let Some(only) = &self.only {
            command.args(["--only", only]);
        }
        if self.smoke {
            command.arg("--smoke");
        }
        if let Some(path) = &self.json {
            command.arg("--json").arg(std::path::absolute(path)?);
        }
        sh::run(&mut command)
    }
}
