//! `cargo xtask fuzz`: the targets of `tests/fuzz` for longer than a test may take.

use anyhow::Result;
use clap::Args;

use crate::sh;

#[derive(Args)]
pub struct Fuzz {
    /// One of them, or all
    target: Option<String>,
    /// For so long each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// With libFuzzer, which sees what an input reaches: needs `cargo install cargo-fuzz` and a C++ compiler
    #[arg(long, requires = "target")]
    libfuzzer: bool,
}

impl Fuzz {
    /// # Errors
    /// When a target is at fault, or cannot be built.
    pub fn run(&self) -> Result<()> {
        let seconds = self.seconds.to_string();
        match &self.target {
            // A sanitizer needs a nightly compiler, or one that is told to be one.
            Some(target) if self.libfuzzer => sh::run(
                sh::cargo()
                    .args(["fuzz", "run", "--fuzz-dir", "fuzz", target, "--"])
                    .arg(format!("-max_total_time={seconds}"))
                    .env("RUSTC_BOOTSTRAP", "1"),
            ),
            target => sh::run(
                sh::cargo()
                    .args(["run", "--quiet", "--package", "xebec-fuzz", "--", "--seconds", &seconds])
                    .args(target),
            ),
        }
    }
}
