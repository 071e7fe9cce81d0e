//! `cargo xtask bench`: runs the benchmarks and renders what they print as a table.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{images, setup, sh, up};

#[derive(Args)]
pub struct Bench {
    /// Run only the groups whose name contains this: services, programming, pods, api, cluster
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
        let output = command.stderr(Stdio::inherit()).output().context("start the benchmarks")?;
        if !output.status.success() {
            bail!("the benchmarks ended with {}", output.status);
        }
        if let Some(path) = &self.json {
            std::fs::write(path, &output.stdout).with_context(|| format!("write {}", path.display()))?;
        }
        println!("{}", table(&serde_json::from_slice(&output.stdout).context("the benchmarks' figures")?));
        Ok(())
    }
}

fn table(report: &Value) -> String {
    let mut table =
        String::from("| figure | value | unit | peer | peer's value | target | |\n|---|---|---|---|---|---|---|\n");
    for figure in report["figures"].as_array().into_iter().flatten() {
        let text = |field: &str| figure[field].as_str().unwrap_or_default().to_owned();
        let number = |field: &str| figure[field].as_f64().map_or_else(String::new, |value| format!("{value:.2}"));
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} |",
            text("name"),
            number("value"),
            text("unit"),
            text("peer"),
            number("peer_value"),
            text("target"),
            figure["met"].as_bool().map_or("", |met| if met { "met" } else { "missed" }),
        );
    }
    table
}
