//! `xebec`: the server, the node agent, and what kubectl does not do.

#![allow(unsafe_code)] // pre_exec in `cluster::unit`, a passed socket in `server`, calls of libc in `memory`.
#![deny(clippy::print_stdout)] // `output` alone writes to standard output.

mod agent;
mod backup;
mod bench;
mod canary;
mod cluster;
mod dns;
mod image;
mod inside;
mod log;
mod memory;
mod output;
mod rollout;
mod server;
mod signal;
mod status;
mod top;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::cluster::layout::Layout;

/// Where a cluster's state is unless the user says otherwise.
const DEFAULT_DIR: &str = "/var/lib/xebec";
/// Pods of all nodes.
const CLUSTER_CIDR: &str = "10.244.0.0/16";
/// Services.
const SERVICE_CIDR: &str = "10.96.0.0/16";

#[derive(Parser)]
#[command(
    name = "xebec",
    version,
    about = "A container orchestrator that serves the Kubernetes API, with its network in eBPF"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane: API server, controllers and scheduler
    Server(Box<server::Server>),
    /// Run a node: pods, pod network and the eBPF datapath; or remove what is left of one
    Agent(Box<agent::Agent>),
    /// Write everything that a control plane is made of to a file, also while it runs
    Backup(backup::Backup),
    /// Make a stopped control plane what it was when the file was written
    Restore(backup::Restore),
    /// Answer DNS for the cluster's domain on a node; the agent starts it
    Dns(dns::Dns),
    /// Start a cluster on this machine, each node in a network namespace of its own
    Up(cluster::up::Up),
    /// Remove a cluster from this machine
    Down(Down),
    /// Say what runs and whether it works
    Status(status::Status),
    /// Bring images to nodes without a registry
    Image(image::Image),
    /// Measure services by iptables, nftables, IPVS and eBPF on this host, in namespaces of its own
    Bench(bench::Bench),
    /// Prove that replacing pods loses no request
    Rollout(rollout::Rollout),
    /// Show what connections to Services take
    Top(top::Top),
    /// Prove that upgrading nodes loses no packet and no connection
    Upgrade(upgrade::Upgrade),
    /// Dial the datapath's canary from a cgroup; the agent starts it
    #[command(hide = true)]
    Canary(canary::Canary),
    /// Keep a cluster's programs running; `xebec up` starts it
    #[command(hide = true)]
    Supervise(Directory),
}

impl Command {
    /// Whether it runs until it is told to stop.
    fn is_daemon(&self) -> bool {
        match self {
            Self::Agent(agent) => agent.is_daemon(),
            command => matches!(command, Self::Server(_) | Self::Dns(_) | Self::Supervise(_)),
        }
    }
}

#[derive(Args)]
struct Directory {
    /// The cluster's directory
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
}

#[derive(Args)]
struct Down {
    #[command(flatten)]
    directory: Directory,
    /// Keep the objects and images: the next `up` resumes with them
    #[arg(long)]
    keep_data: bool,
}

fn main() -> ExitCode {
    // containerd runs this binary under the names of CNI plugins, once per pod and operation: nothing
    // may start before this.
    if xebec_podnet::cni::invoked() {
        return xebec_podnet::cni::main();
    }
    let cli = Cli::parse();
    log::init(cli.command.is_daemon());
    // The process has one TLS provider; a second call would be the only failure.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xebec: {}", xebec_client::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if command.is_daemon() {
            tokio::spawn(memory::trim_for_ever());
        }
        match command {
            Command::Server(server) => server.run().await,
            Command::Agent(agent) => agent.run().await,
            Command::Backup(backup) => backup.run().await,
            Command::Restore(restore) => restore.run().await,
            Command::Dns(dns) => dns.run().await,
            Command::Up(up) => up.run().await,
            Command::Down(down) => cluster::down::run(&Layout::new(&down.directory.dir)?, down.keep_data).await,
            Command::Status(status) => status.run().await,
            Command::Image(image) => image.run().await,
            Command::Bench(bench) => bench.run().await,
            Command::Rollout(rollout) => rollout.run().await,
            Command::Top(top) => top.run().await,
            Command::Upgrade(upgrade) => upgrade.run().await,
            Command::Canary(canary) => canary.run(),
            Command::Supervise(directory) => cluster::supervise::run(Layout::new(&directory.dir)?).await,
        }
    })
}
