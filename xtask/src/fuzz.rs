//! `cargo xtask fuzz`: the targets of `tests/fuzz` for longer than a test may take.

mod libfuzzer;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::sh;

#[derive(Args)]
pub struct Fuzz {
    /// One of them, or all
    target: Option<String>,
    /// For so long each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// With libFuzzer, which sees what an input reaches: needs a C++ compiler
    #[arg(long)]
    libfuzzer: bool,
    /// The bytes of this file instead, once
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
}

impl Fuzz {
    /// # Errors
    /// When a target is at fault or unknown, or cannot be built.
    pub fn run(&self) -> Result<()> {
        // What runs has the repository's root as its directory.
        let input = self.input.as_ref().map(std::path::absolute).transpose().context("find the input")?;
        if self.libfuzzer {
            return libfuzzer::run(self.target.as_deref(), self.seconds, input.as_deref());
        }
        let mut command = sh::cargo();
        command.args(["run", "--quiet", "--package", "xebec-fuzz", "--", "--seconds", &self.seconds.to_string()]);
        command.args(&self.target);
        if let Some(input) = input {
            command.arg("--input").arg(input);
        }
        sh::run(&mut command)
    }
}
