//! Builds the eBPF object and refuses one that cannot work.
//!
//! The host side of the workspace builds with the stable toolchain; the BPF target needs `core`
//! from source, so this crate finds a toolchain that has it and runs that toolchain's cargo with a
//! target directory of its own (the outer cargo holds the lock of the usual one).

mod build;
pub mod check;
mod stack;
pub mod strip;
mod toolchain;

pub use build::{BRIDGE, Build, OBJECT_NAME, REHEARSAL, inputs};
pub use check::Problem;
pub use toolchain::{Linker, Toolchain};

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(
        "no bpf-linker: install it with `LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker \
         --version 0.13.0 --no-default-features --features llvm-22 --root target/tools` (Debian 12: \
         `apt-get install llvm-22-dev libclang-22-dev libpolly-22-dev libzstd-dev clang-22` first), \
         or name one in XEBEC_BPF_LINKER; XEBEC_BPF=skip builds without the datapath"
    )]
    NoLinker,
    #[error(
        "no Rust toolchain that can build `core` for BPF: install rustup's nightly with \
         `rustup toolchain install nightly --component rust-src`, or on Debian 12 \
         `apt-get install rustc-web cargo-web rust-web-src`, or name a cargo in XEBEC_BPF_CARGO; \
         XEBEC_BPF=skip builds without the datapath"
    )]
    NoToolchain,
    #[error("run {program}")]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the eBPF programs do not build; cargo said:\n{output}")]
    Compile { output: String },
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the eBPF object {path} cannot be loaded: {}", list(problems))]
    Refused { path: PathBuf, problems: Vec<Problem> },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
