//! `cargo xtask up`: from a clean clone to a running three-node cluster.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::{images, setup, sh};

#[derive(Args)]
pub struct Up {
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: u32,
    /// Where all state lives
    #[arg(long, default_value = "/var/lib/xebec")]
    dir: PathBuf,
    /// Passed on to `xebec up`, such as --store etcd or --routing native
    #[arg(last = true)]
    rest: Vec<String>,
}

impl Up {
    pub fn run(&self) -> Result<()> {
        setup::for_up()?;
        let binary = release()?;
        let image = step("demo image", images::demo)?;
        sh::run(
            sh::command(&binary)
                .args(["up", "--nodes", &self.nodes.to_string(), "--dir"])
                .arg(&self.dir)
                .arg("--image")
                .arg(&image)
                .args(&self.rest),
        )
    }
}

/// Builds the release binary, eBPF objects inside, and returns its path.
pub fn release() -> Result<PathBuf> {
    step("release build, eBPF objects inside", || {
        sh::run(sh::cargo().args(["build", "--quiet", "--release", "-p", "xebec"]))
    })?;
    Ok(sh::target_dir().join("release/xebec"))
}

fn step<T>(what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("up: {what} ...");
    let start = Instant::now();
    let value = run()?;
    println!("up: {what}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(value)
}
