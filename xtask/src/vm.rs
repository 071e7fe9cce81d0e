//! `cargo xtask vm`: the datapath, and a whole node, on Debian's kernels in virtual machines, on pure cgroup v2.

mod console;
mod guest;
mod initramfs;
mod kernel;
mod qemu;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use console::Report;
use guest::Step;
use kernel::Version;
use qemu::Accel;

use crate::{bpf, setup, sh};

#[derive(Args)]
pub struct Vm {
    /// Which kernels: Debian's 5.10 (bullseye), 6.1 (bookworm), 6.12 (backports to bookworm)
    #[arg(long = "kernel", value_enum, value_delimiter = ',')]
    kernels: Vec<Version>,
    /// Which steps, in place of all
    #[arg(long = "only", value_enum, value_delimiter = ',')]
    steps: Vec<Step>,
    /// Of the steps that are tests, only those whose names contain this
    #[arg(long, default_value = "")]
    tests: String,
    /// How the machine is emulated. `auto` takes KVM if a kernel boots with it within half a minute
    #[arg(long, value_enum, default_value = "auto")]
    accel: Accel,
    /// Make what each kernel's verifier spent its budget, in place of comparing the two
    #[arg(long)]
    write: bool,
    /// Give up on a machine after so many seconds
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
}

impl Vm {
    /// Boots every wanted kernel, one after the other, and prints a table of what each has and did.
    ///
    /// # Errors
    /// When a kernel cannot be fetched or does not boot, or a step fails on it.
    pub fn run(&self) -> Result<()> {
        setup::for_vm()?;
        let kernels = if self.kernels.is_empty() { Version::ALL.to_vec() } else { self.kernels.clone() };
        let steps = if self.steps.is_empty() { Step::ALL.to_vec() } else { self.steps.clone() };
        let files = guest::files(&steps, &self.tests)?;
        let directory = sh::target_dir().join("vm");
        let mut reports = BTreeMap::new();
        for version in kernels {
            let kernel = kernel::fetch(version, &directory).with_context(|| format!("kernel {version}"))?;
            println!("vm: {version}: {}", kernel.release);
            let initramfs = kernel.directory.join("initramfs.cpio");
            initramfs::write(&initramfs, &files, &kernel.modules)?;
            let machine = qemu::Machine {
                kernel: kernel.image,
                initramfs,
                log: directory.join(format!("{version}.log")),
                timeout: Duration::from_secs(self.timeout),
            };
            let report = machine.boot(self.accel)?;
            reports.insert(version, (report, machine.log));
        }
        print(&reports);
        let mut failed: Vec<String> =
            reports.iter().flat_map(|(version, (report, log))| failures(*version, report, log, &steps)).collect();
        for (version, (report, _)) in reports.iter().filter(|(_, (report, _))| !report.instructions.is_empty()) {
            let (kernel, counts) = (version.to_string(), report.counts()?);
            if self.write {
                bpf::budget(&kernel, &counts)?;
            } else {
                let over = bpf::over_budget(&kernel, &counts)?;
                failed.extend(over.iter().map(|fault| format!("{version}: {fault}")));
            }
        }
        if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
    }
}

fn failures(version: Version, report: &Report, log: &Path, steps: &[Step]) -> Vec<String> {
    let wrong = steps.iter().filter(|step| !report.passed(step.name()));
    wrong.map(|step| format!("{version}: {} failed: see {}", step.name(), log.display())).collect()
}

/// One column for each kernel.
fn print(reports: &BTreeMap<Version, (Report, PathBuf)>) {
    let reports: Vec<(String, &Report)> =
        reports.iter().map(|(version, (report, _))| (version.to_string(), report)).collect();
    let row = |name: &str, cell: &dyn Fn(&Report) -> String| {
        let cells: String = reports.iter().map(|(_, report)| format!("{:>28}", cell(report))).collect();
        println!("{name:36}{cells}");
    };
    let heads: String = reports.iter().map(|(version, _)| format!("{version:>28}")).collect();
    println!("{:36}{heads}", "kernel");
    let of = |facts: fn(&Report) -> &BTreeMap<String, String>| {
        let mut names: Vec<&String> = reports.iter().flat_map(|(_, report)| facts(report).keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            row(name, &|report| facts(report).get(name).cloned().unwrap_or_else(|| "-".to_owned()));
        }
    };
    of(|report| &report.features);
    of(|report| &report.instructions);
    of(|report| &report.steps);
}
