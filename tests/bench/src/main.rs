//! Benchmarks: every figure beside a peer or a physical limit in the same run, because machines differ
//! and are noisy. Nothing is asserted; `cargo xtask bench` builds and starts this. What one host's datapath costs is
//! `xebec_measure`'s, which `xebec bench` shows too.

mod api;
mod cluster;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use xebec_measure::{GROUPS, Host, Report, comparison};

#[derive(Parser)]
#[command(about = "Measure xebec beside its peers")]
struct Cli {
    /// Run only the groups whose name contains this: services, programming, connect, packets, pods, outside, live, api, cluster
    #[arg(long)]
    only: Option<String>,
    /// Few repetitions: shows that every benchmark runs
    #[arg(long)]
    smoke: bool,
    /// Also write the figures here, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// The `xebec` binary that `live`, `api` and `cluster` start
    #[arg(long, env = "XEBEC")]
    xebec: PathBuf,
    /// The demo image's archive
    #[arg(long, env = "XEBEC_DEMO_IMAGE")]
    image: PathBuf,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let _awake = xebec_measure::prepare()?;
    let mut report = Report::new(Host::new(None));
    let wanted = |name: &str| cli.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    if wanted("services") {
        let services = if cli.smoke { vec![1, 100] } else { vec![1, 1_000, 10_000] };
        comparison::run(&mut report, &comparison::Options { services, smoke: cli.smoke })?;
    }
    for (_, group) in GROUPS.into_iter().filter(|(name, _)| wanted(name)) {
        group(&mut report, cli.smoke)?;
    }
    if wanted("live") {
        xebec_measure::api_to_live(&mut report, &cli.xebec, cli.smoke)?;
    }
    if wanted("api") {
        api::run(&mut report, &cli.xebec, cli.smoke)?;
    }
    if wanted("cluster") {
        cluster::run(&mut report, &cli.xebec, &cli.image, cli.smoke)?;
    }
    if let Some(path) = &cli.json {
        std::fs::write(path, report.to_json()?).with_context(|| format!("write {}", path.display()))?;
    }
    print!("{}", report.markdown());
    Ok(())
}
