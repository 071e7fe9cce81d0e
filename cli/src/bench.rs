//! `xebec bench`: what services cost on this host, by each way that it has.

use std::fs;
use std::path::{Path, PathBuf};

use crate::output::say;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use xebec_measure::{GROUPS, Host, Report, comparison};

/// More have no addresses in the service range of a run.
const SERVICES_MAX: i64 = 200_000;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    /// How many services, once for each number [default: 1,1000,10000; with --smoke: 1,100]
    #[arg(long, value_delimiter = ',', value_name = "N,...",
          value_parser = clap::value_parser!(u32).range(1..=SERVICES_MAX))]
    services: Vec<u32>,
    /// Also draw a chart for each metric into this directory
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Subcommand)]
enum What {
    /// Measure xebec's own datapath: programming, connect(), packets, pod to pod, from API write to live
    Datapath(Output),
}

#[derive(Args)]
struct Output {
    /// Write the figures as JSON, to standard output without a FILE
    #[arg(long, num_args = 0..=1, value_name = "FILE", default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Few repetitions: shows that every measurement runs
    #[arg(long)]
    smoke: bool,
    /// Dial the services of an earlier run [default: random]
    #[arg(long)]
    seed: Option<u32>,
}

impl Bench {
    /// # Errors
    /// Without root, or when a measurement of the eBPF datapath fails.
    pub async fn run(self) -> Result<()> {
        // Measurements block, and enter network namespaces with threads of their own.
        tokio::task::spawn_blocking(move || self.measure()).await?
    }

    fn measure(self) -> Result<()> {
        let _awake = xebec_measure::prepare()?;
        match &self.what {
            None => self.compare(),
            Some(What::Datapath(output)) => datapath(output),
        }
    }

    fn compare(&self) -> Result<()> {
        let mut report = Report::new(Host::new(self.output.seed));
        let smoke = self.output.smoke;
        let services = match (self.services.is_empty(), smoke) {
            (false, _) => self.services.clone(),
            (true, true) => vec![1, 100],
            (true, false) => vec![1, 1_000, 10_000],
        };
        let comparison = comparison::run(&mut report, &comparison::Options { services, smoke })?;
        xebec_measure::per_packet(&mut report, smoke)?;
        if let Some(directory) = &self.svg {
            fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
            for (name, svg) in comparison.charts() {
                write(&directory.join(name), &svg)?;
            }
        }
        self.output.show(&report, || {
            let left_out: String = report.left_out().iter().map(|line| format!("\n{line}\n")).collect();
            let packets = report.table(|figure| figure.unit == "ns");
            let host = report.host().line();
            format!("{host}\n{left_out}{}\neBPF programs, per packet\n\n{packets}", comparison.markdown())
        })
    }
}

fn datapath(output: &Output) -> Result<()> {
    let mut report = Report::new(Host::new(output.seed));
    for (_, group) in GROUPS {
        group(&mut report, output.smoke)?;
    }
    let xebec = std::env::current_exe().context("find this program's own file")?;
    xebec_measure::api_to_live(&mut report, &xebec, output.smoke)?;
    output.show(&report, || report.markdown())
}

impl Output {
    fn show(&self, report: &Report, markdown: impl FnOnce() -> String) -> Result<()> {
        let json = || report.to_json().context("render the figures");
        match self.json.as_deref() {
            Some(path) if path == Path::new("-") => say!("{}", json()?)?,
            Some(path) => {
                write(path, &json()?)?;
                say!("{}", markdown().trim_end())?;
            }
            None => say!("{}", markdown().trim_end())?,
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
