//! Benchmarks: every figure beside a peer or a physical limit in the same run, because machines differ
//! and are noisy. Nothing is asserted; `cargo xtask bench` renders what this prints.

mod api;
mod cluster;
mod figure;
mod netns;
mod packet_filter;
mod pods;
mod services;
mod stats;
mod target;
mod traffic;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use figure::Report;

#[derive(Parser)]
#[command(about = "Measure xebec beside its peers")]
struct Cli {
    /// Run only the groups whose name contains this: services, programming, pods, api, cluster
    #[arg(long)]
    only: Option<String>,
    /// Few repetitions: shows that every benchmark runs
    #[arg(long)]
    smoke: bool,
    /// The `xebec` binary that `api` and `cluster` start
    #[arg(long, env = "XEBEC")]
    xebec: PathBuf,
    /// The demo image's archive
    #[arg(long, env = "XEBEC_DEMO_IMAGE")]
    image: PathBuf,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut report = Report::default();
    let wanted = |name: &str| cli.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    if wanted("services") {
        services::connect(&mut report, cli.smoke)?;
    }
    if wanted("programming") {
        services::programming(&mut report, cli.smoke)?;
    }
    if wanted("pods") {
        pods::run(&mut report, cli.smoke)?;
    }
    if wanted("api") {
        api::run(&mut report, &cli.xebec, cli.smoke)?;
    }
    if wanted("cluster") {
        cluster::run(&mut report, &cli.xebec, &cli.image, cli.smoke)?;
    }
    println!("{}", report.to_json()?);
    Ok(())
}
