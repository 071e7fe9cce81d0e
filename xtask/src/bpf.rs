//! `cargo xtask bpf`: builds the eBPF object, refuses one that cannot be loaded, and keeps what the verifier spends on
//! each program within its budget.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use xebec_builder::{Build, check};

use crate::sh;

/// Verified instructions of each program, by kernel.
const BUDGET: &str = "ebpf/insns.toml";
/// A program may grow by this without an edit of the budget.
const GROWTH_PERCENT: u64 = 10;

#[derive(Subcommand)]
pub enum Bpf {
    /// Build the object, check it, and print its path
    Build,
    /// Check an object: no panics, no `__bpf_trap`, map names that fit
    Check {
        /// The object to check instead of the one that is built
        object: Option<PathBuf>,
    },
    /// Load every program (needs root) and compare its verified instructions with the budget
    Stats {
        /// Write the budget of the running kernel instead
        #[arg(long)]
        write: bool,
    },
}

impl Bpf {
    /// # Errors
    /// When the object cannot be built, cannot be loaded, or a program exceeds its budget.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Build => {
                println!("{}", build()?.display());
                Ok(())
            }
            Self::Check { object } => match object {
                Some(object) => check(object),
                None => check(&build()?),
            },
            Self::Stats { write } => stats(*write),
        }
    }
}

/// Builds the object and returns its path.
///
/// # Errors
/// When a tool is missing (the error says how to get it), or the programs do not build.
pub fn build() -> Result<PathBuf> {
    Ok(Build::find(&sh::root(), &sh::target_dir().join("bpf"))?.run()?)
}

/// # Errors
/// When the object is one that the kernel would refuse.
pub fn check(object: &Path) -> Result<()> {
    let bytes = fs::read(object).with_context(|| format!("read {}", object.display()))?;
    let problems = check::object(&bytes);
    if problems.is_empty() {
        println!("bpf: {} programs, nothing wrong", check::programs(&bytes).len());
        return Ok(());
    }
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    bail!("{}:\n  {}", object.display(), problems.join("\n  "))
}

/// # Errors
/// When a program does not load, or takes more verified instructions than its budget allows.
pub fn stats(write: bool) -> Result<()> {
    let mut example = sh::cargo();
    let measured = sh::read(example.args(["run", "--quiet", "--package", "xebec-datapath", "--example", "stats"]))?;
    let measured: BTreeMap<String, u64> = toml::from_str(&measured).context("what the stats example printed")?;
    let kernel = kernel()?;
    if write {
        return budget(&kernel, &measured);
    }
    let Some(budget) = budgets()?.remove(&kernel) else {
        println!("bpf: no budget for kernel {kernel} in {BUDGET}");
        return Ok(());
    };
    for (program, count) in &measured {
        println!("{program:20} {count:7} of {:7}", budget.get(program).copied().unwrap_or_default());
    }
    let faults = excess(&budget, &measured);
    if faults.is_empty() {
        return Ok(());
    }
    bail!("over the budget of {BUDGET} (raise it with --write if that is meant):\n  {}", faults.join("\n  "))
}

/// What `measured` takes above a kernel's budget, which need not be there.
///
/// # Errors
/// When the budget cannot be read.
pub fn over_budget(kernel: &str, measured: &BTreeMap<String, u64>) -> Result<Vec<String>> {
    Ok(budgets()?.get(kernel).map(|budget| excess(budget, measured)).unwrap_or_default())
}

/// Makes what was measured a kernel's budget.
///
/// # Errors
/// When the budget cannot be read or written.
pub fn budget(kernel: &str, measured: &BTreeMap<String, u64>) -> Result<()> {
    let mut budgets = budgets()?;
    budgets.insert(kernel.to_owned(), measured.clone());
    let header = "# Verified instructions of each program, by kernel: `cargo xtask bpf stats --write`; of older kernels: `cargo xtask vm\n\
                  # --only load --write`.\n\n";
    fs::write(sh::root().join(BUDGET), format!("{header}{}", toml::to_string(&budgets)?)).context(BUDGET)
}

/// By kernel and program.
fn budgets() -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
    let text = fs::read_to_string(sh::root().join(BUDGET)).context(BUDGET)?;
    toml::from_str(&text).context(BUDGET)
}

fn excess(budget: &BTreeMap<String, u64>, measured: &BTreeMap<String, u64>) -> Vec<String> {
    let over = |(program, count): (&String, &u64)| match budget.get(program) {
        None => Some(format!("{program} has no budget")),
        Some(limit) if *count > limit + limit * GROWTH_PERCENT / 100 => {
            Some(format!("{program} takes {count} instructions, its budget is {limit}"))
        }
        Some(_) => None,
    };
    measured.iter().filter_map(over).collect()
}

/// Major and minor version of the running kernel.
fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
    Ok(release.trim().split('.').take(2).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(budget: u64, measured: u64, over: bool) {
        let of = |count| BTreeMap::from([("from_pod".to_owned(), count)]);
        assert_eq!(!excess(&of(budget), &of(measured)).is_empty(), over, "{measured} of {budget}");
    }

    #[test]
    fn a_tenth_more_is_allowed() {
        check(1000, 900, false);
        check(1000, 1000, false);
        check(1000, 1100, false);
        check(1000, 1101, true);
    }

    #[test]
    fn a_program_without_a_budget_is_over() {
        let measured = BTreeMap::from([("to_pod".to_owned(), 1)]);
        assert_eq!(excess(&BTreeMap::new(), &measured), ["to_pod has no budget"]);
    }
}
