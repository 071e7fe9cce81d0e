//! Measures a server in this process over loopback TLS, beside what it is to reach:
//! `cargo run --release -p xebec-apiserver --example load [-- OBJECTS CONNECTIONS]`.
//!
//! Client and server share the machine and the process; only resident memory is that of the server alone where the clients
//! are in a process of their own (watches) or keep nothing (lists).

mod client;
mod creates;
mod frames;
mod readiness;
mod watches;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use xebec_apiserver::{Config, Pki, Server};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == watches::CHILD) {
        return watches::child(&arguments[1..]).await;
    }
    let mut numbers = arguments.iter().filter_map(|a| a.parse::<usize>().ok());
    let (objects, connections) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(8));
    let dir = tempfile::tempdir()?;
    let bench = Bench::start(dir.path()).await?;
    // Memory is measured first, while there is none that was used before and is free.
    watches::idle(&bench, 10_000, 200).await?;
    creates::run(&bench, objects, connections).await?;
    creates::lists(&bench, objects).await?;
    watches::fan_out(&bench).await?;
    watches::idle(&bench, 500, 1).await?;
    bench.server.shutdown().await;
    readiness::run(100_000).await
}

/// A server with a store of its own.
pub struct Bench<'a> {
    pub dir: &'a Path,
    pub pki: Arc<Pki>,
    pub server: Server,
}

impl<'a> Bench<'a> {
    pub async fn start(dir: &'a Path) -> Result<Self, Failure> {
        let pki = Arc::new(Pki::load_or_create(dir.join("pki"), &[])?);
        let store = xebec_store::embedded::open(dir.join("store")).await?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Server::start(Config::new(pki.clone(), vec![listener]), Arc::new(store)).await?;
        server.ready().await;
        Ok(Self { dir, pki, server })
    }
}

/// One figure and what it should be.
pub fn figure(what: &str, value: impl std::fmt::Display, target: &str) {
    println!("{what:<44} {value:>24}   target {target}");
}

pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

pub fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// What this process has used of the processors (proc_pid_stat(5), fields 14 and 15, in ticks of 10 ms).
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
