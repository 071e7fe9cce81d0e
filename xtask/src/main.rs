//! Everything around the product: set-up of a machine, builds, a demo cluster, tests, benchmarks.

mod bench;
mod bpf;
mod codegen;
mod compat;
mod fuzz;
mod images;
mod setup;
mod sh;
mod test;
mod tidy;
mod up;
mod vm;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, builds, demo cluster, tests and benchmarks of xebec")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and running xebec needs on Debian 12; prints what it did
    Setup,
    /// Build everything and start a three-node cluster on this machine
    Up(up::Up),
    /// Run every test, as CI does
    Test(test::Test),
    /// Write the API table from the public definitions of Kubernetes
    Codegen {
        /// Only compare with what is committed
        #[arg(long)]
        check: bool,
    },
    /// Write the page on compatibility from what tests find
    Compat(compat::Compat),
    /// Measure xebec beside its peers
    Bench(bench::Bench),
    /// Build, check and measure the eBPF programs
    #[command(subcommand)]
    Bpf(bpf::Bpf),
    /// Give every decoder bytes that nobody meant, for a while
    Fuzz(fuzz::Fuzz),
    /// Run the datapath's tests and a node on older kernels, in virtual machines
    Vm(vm::Vm),
    /// Check crate edges and file sizes
    Tidy,
    /// Build the demo image as a docker-archive and print its path
    Images,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Setup => setup::run(),
        Command::Up(up) => up.run(),
        Command::Test(test) => test.run(),
        Command::Codegen { check } => codegen::run(check),
        Command::Compat(compat) => compat.run(),
        Command::Bench(bench) => bench.run(),
        Command::Bpf(bpf) => bpf.run(),
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Vm(vm) => vm.run(),
        Command::Tidy => tidy::run(),
        Command::Images => images::demo().map(|path| println!("{}", path.display())),
    }
}
