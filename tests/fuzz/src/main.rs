//! Runs targets for a while: `mutate [TARGET] --seconds N`. Without libFuzzer's eyes, but anywhere.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;
use xebec_fuzz::{TARGETS, rounds};

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
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let wanted = |name: &str| cli.target.as_deref().is_none_or(|target| target == name);
    let mut faults = Vec::new();
    for target in TARGETS.iter().filter(|target| wanted(target.name)) {
        let end = Instant::now() + Duration::from_secs(cli.seconds);
        match rounds(target, cli.seed, |_| Instant::now() < end) {
            Ok(rounds) => println!("{}: {rounds} inputs", target.name),
            Err(fault) => {
                println!("{}: {}\n{}", target.name, fault.why, fault.bytes.escape_ascii());
                faults.push(target.name);
            }
        }
    }
    if !faults.is_empty() {
        bail!("at fault: {}", faults.join(", "));
    }
    Ok(())
}
