//! Runs targets for a while: `xebec-fuzz [TARGET] --seconds N`. It does not see what an input reaches, but runs anywhere.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use clap::Parser;
use xebec_fuzz::{TARGETS, Target, once, rounds, target};

#[derive(Parser)]
#[command(about = "Runs the fuzz targets over changed forms of their seeds")]
struct Cli {
    /// One of them, or all
    target: Option<String>,
    /// For so long each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Other changes for another number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The bytes of this file instead, once
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let targets = match cli.target.as_deref() {
        Some(name) => std::slice::from_ref(target(name).map_err(Error::msg)?),
        None => TARGETS,
    };
    if let (Some(path), [target]) = (&cli.input, targets) {
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        return once(target, &bytes).map_err(|why| Error::msg(format!("{}: {why}", target.name)));
    }
    let faults: Vec<&str> = targets.iter().filter(|target| !survives(target, &cli)).map(|target| target.name).collect();
    if !faults.is_empty() {
        bail!("at fault: {}", faults.join(", "));
    }
    Ok(())
}

/// Runs a target for its time, and prints how that went.
fn survives(target: &Target, cli: &Cli) -> bool {
    let end = Instant::now() + Duration::from_secs(cli.seconds);
    match rounds(target, cli.seed, |_| Instant::now() < end) {
        Ok(rounds) => println!("{}: {rounds} inputs", target.name),
        Err(fault) => {
            println!("{}: {}\n{}", target.name, fault.why, fault.bytes.escape_ascii());
            return false;
        }
    }
    true
}
