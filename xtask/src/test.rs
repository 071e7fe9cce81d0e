//! `cargo xtask test`: every rung of tests, stage by stage, each with its seconds.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::{bench, bpf::Bpf, codegen, compat, images, setup, sh, tidy, up};

#[derive(Args)]
pub struct Test {
    /// Run only the stages whose name contains this
    #[arg(long)]
    only: Option<String>,
}

/// What the stage `tests` builds. Another selection of packages unifies other features, and builds much again.
pub const WORKSPACE: &[&str] = &["--workspace", "--exclude", "xebec-tests"];
/// What the stage `clusters` builds.
pub const CLUSTERS: &[&str] = &["--package", "xebec-tests"];

type Stage = (&'static str, fn() -> Result<()>);

const STAGES: &[Stage] = &[
    ("setup", setup::run),
    ("format", || sh::run(sh::cargo().args(["fmt", "--all", "--check"]))),
    ("tidy", tidy::run),
    ("generated files", || codegen::run(true)),
    ("eBPF check", || Bpf::Check { object: None }.run()),
    ("eBPF instruction budget", || Bpf::Stats { write: false }.run()),
    ("clippy", || {
        sh::run(sh::cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    }),
    ("release build", || up::release().map(drop)),
    ("benchmark smoke", || bench::Bench::smoke().run()),
    ("tests", tests),
    ("compatibility page", compat::check),
    // The last stage: its closing lines are the closing lines of the run.
    ("clusters", clusters),
];

impl Test {
    /// # Errors
    /// The first stage that fails.
    pub fn run(&self) -> Result<()> {
        let wanted = |name: &str| self.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
        for (name, stage) in STAGES.iter().filter(|(name, _)| wanted(name)) {
            println!("=== {name}");
            let start = Instant::now();
            stage().with_context(|| format!("stage {name}"))?;
            println!("=== {name}: {:.0} s", start.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

/// Unit, property, differential and topology tests.
fn tests() -> Result<()> {
    sh::run(nextest()?.args(["nextest", "run", "--no-fail-fast"]).args(WORKSPACE))
}

/// Whole clusters, alone on the machine: they look at what is left on it.
fn clusters() -> Result<()> {
    sh::run(nextest()?.args(["nextest", "run", "--no-fail-fast"]).args(CLUSTERS))
}

/// A cargo that lets tests know where what they need is.
///
/// # Errors
/// When the demo image cannot be built, or a path has a colon.
pub fn nextest() -> Result<Command> {
    let mut cargo = sh::cargo();
    cargo
        .env("XEBEC", sh::target_dir().join("release/xebec"))
        .env("XEBEC_DEMO_IMAGE", images::demo()?)
        .env("XEBEC_DEMO", sh::target_dir().join("release/demo"))
        .env("XEBEC_KUBECTL", std::env::join_paths(setup::kubectls())?)
        .env("XEBEC_PYTHON", setup::python_home())
        .env("XEBEC_NPM", setup::npm_home());
    Ok(cargo)
}
